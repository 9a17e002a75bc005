"""Reading a request's body: bounded before and after unpacking, so that neither its size nor a zip bomb hurts."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

MOST_BYTES = 8 * 1024 * 1024
"""What a body may measure on the wire."""

MOST_UNPACKED = 16 * 1024 * 1024
"""What it may measure unpacked: 10,000 events of 1.6 KiB. Parsed, a hostile one takes 25 times as much."""

CHUNK = 64 * 1024

Read = Callable[[int], bytes]
"""Gives up to so many bytes of the body, and none at its end."""


class BadBody(Exception):
    """A body that is not read; `status` is 400, 413 or 415."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def read_json(read: Read, length: str | None, encoding: str | None) -> Any:
    """Read a JSON document, gzipped or not. Raises `BadBody`."""
    raw = b"".join(_chunks(read, length, encoding))
    try:
        return json.loads(raw.decode(), parse_constant=_refuse_constant, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:  # its text may quote what was sent
        raise BadBody(400, f"the body is no JSON document that can be read ({type(error).__name__})") from None


def _chunks(read: Read, length: str | None, encoding: str | None) -> list[bytes]:
    if length is not None and (not length.isdecimal() or int(length[:20]) > MOST_BYTES):
        raise BadBody(413, f"the body may have at most {MOST_BYTES} bytes")
    encoding = (encoding or "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise BadBody(415, "the body may be plain or gzip")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding == "gzip" else None
    taken = unpacked = 0
    parts: list[bytes] = []
    while data := _read(read):
        taken += len(data)
        if taken > MOST_BYTES:
            raise BadBody(413, f"the body may have at most {MOST_BYTES} bytes")
        part = data if unpack is None else _unpack(unpack, data, MOST_UNPACKED - unpacked)
        unpacked += len(part)
        parts.append(part)
    if unpack is not None and not unpack.eof:
        raise BadBody(400, "the gzip body ends early")
    return parts


def _read(read: Read) -> bytes:
    try:
        return read(CHUNK)
    except OSError:  # Django's UnreadablePostError is one too
        raise BadBody(400, "the body ends early") from None


def _unpack(unpack: Any, data: bytes, room: int) -> bytes:
    try:
        part: bytes = unpack.decompress(data, room + 1)
    except zlib.error:
        raise BadBody(400, "the body is no gzip") from None
    if len(part) > room:
        raise BadBody(413, f"the body may have at most {MOST_UNPACKED} bytes when unpacked")
    return part


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _parse_int(digits: str) -> int | float:
    """Read a number; one of thousands of digits would take Python long to make."""
    return int(digits) if len(digits) <= 20 else float("inf")
