"""The memory store."""

from .store import MemoryStore

__all__ = ["MemoryStore"]
