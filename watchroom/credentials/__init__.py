"""Who may pass a door, and which door may stand open: kept in SQL as keyed hashes, never as numbers or names."""
