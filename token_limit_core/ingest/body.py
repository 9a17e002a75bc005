"""Read a request body within size limits, before and after decompression, to stop large bodies and zip bombs."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from typing import Any

MOST_BYTES = 8 * 1024 * 1024
"""The maximum size of a body as sent, in bytes."""

MOST_UNPACKED = 16 * 1024 * 1024
"""The maximum size of a decompressed body, in bytes: 10,000 events of 1.6 KiB. Parsing can take 25 times as much."""

CHUNK = 64 * 1024

Read = Callable[[int], bytes]
"""Returns up to the given number of bytes of the body; an empty result is its end."""


class BadBody(Exception):
    """A body that is invalid, too large or in an unsupported encoding; `status` is 400, 413 or 415."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


def read_json(read: Read, length: str | None, encoding: str | None) -> Any:
    """Read a JSON document, gzipped or not. Raises `BadBody`."""
    raw = b"".join(_chunks(read, length, encoding))
    try:
        return json.loads(raw.decode(), parse_constant=_refuse_constant, parse_int=_parse_int)
    except (ValueError, RecursionError) as error:  # the text of the error may quote the body
        raise BadBody(400, f"body: invalid JSON ({type(error).__name__})") from None


def _chunks(read: Read, length: str | None, encoding: str | None) -> list[bytes]:
    if length is not None and (not length.isdecimal() or int(length[:20]) > MOST_BYTES):
        raise BadBody(413, f"body: too large; expected at most {MOST_BYTES} bytes")
    encoding = (encoding or "identity").strip().lower()
    if encoding not in ("identity", "gzip"):
        raise BadBody(415, "body: unsupported Content-Encoding; expected gzip or identity")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding == "gzip" else None
    taken = unpacked = 0
    parts: list[bytes] = []
    while data := _read(read):
        taken += len(data)
        if taken > MOST_BYTES:
            raise BadBody(413, f"body: too large; expected at most {MOST_BYTES} bytes")
        part = data if unpack is None else _unpack(unpack, data, MOST_UNPACKED - unpacked)
        unpacked += len(part)
        parts.append(part)
    if unpack is not None and not unpack.eof:
        raise BadBody(400, "body: the gzip data is incomplete")
    return parts


def _read(read: Read) -> bytes:
    try:
        return read(CHUNK)
    except OSError:  # includes Django's UnreadablePostError
        raise BadBody(400, "body: the connection closed before the end") from None


def _unpack(unpack: Any, data: bytes, room: int) -> bytes:
    try:
        part: bytes = unpack.decompress(data, room + 1)
    except zlib.error:
        raise BadBody(400, "body: invalid gzip data") from None
    if len(part) > room:
        raise BadBody(413, f"body: too large; expected at most {MOST_UNPACKED} bytes after decompression")
    return part


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _parse_int(digits: str) -> int | float:
    """Parse an integer; one of more than 20 digits becomes infinity, as Python parses very long ones slowly."""
    return int(digits) if len(digits) <= 20 else float("inf")
