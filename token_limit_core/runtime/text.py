"""Text that every store can keep."""

from __future__ import annotations


def storable(value: object) -> str:
    """Return text that every engine takes: no NUL (PostgreSQL), no lone surrogates (they have no UTF-8)."""
    string = str(value)
    if string.isascii() and "\0" not in string:
        return string
    return string.replace("\0", "").encode("utf-8", "replace").decode()
