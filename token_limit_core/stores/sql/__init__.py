"""The SQL stores: SQLite, PostgreSQL and MySQL."""
