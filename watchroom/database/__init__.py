"""One SQL schema and one migration history for all services; SQLite and PostgreSQL."""
