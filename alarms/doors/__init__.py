"""Access control: doors, credentials and the alarms that need several devices to be told."""
