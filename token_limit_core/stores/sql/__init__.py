"""The SQL stores: SQLite, PostgreSQL and MySQL."""

from .store import SqlStore

__all__ = ["SqlStore"]
