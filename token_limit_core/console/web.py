"""Requests and responses without a framework, and the headers that every page has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, urlencode

from ..runtime.language import translate

MOST_BODY = 64 * 1024
"""The most bytes of a form; mounts answer 413 to more."""

MOST_FIELDS = 100

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # without a policy browsers send `Origin: null`, which the form check refuses
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Request:
    """The parts of a request that the console needs.

    `path` is below the mount point and has no slash in front; `mount` is what comes before it, without one at the end.
    Header names are in lower case.
    """

    method: str
    path: str
    mount: str = ""
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    secure: bool = False

    @property
    def params(self) -> dict[str, str]:
        """The query parameters; the last value of a repeated one."""
        return dict(_fields(self.query))

    @property
    def form(self) -> dict[str, str]:
        """The fields of a posted form; the last value of a repeated one."""
        return dict(self._posted)

    def chosen(self, name: str) -> list[str]:
        """Return every value of a posted field that may be repeated, such as ticked boxes."""
        return [value for field, value in self._posted if field == name]

    @property
    def _posted(self) -> list[tuple[str, str]]:
        if self.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            return []
        return _fields(self.body.decode("utf-8", "replace"))

    def cookie(self, name: str) -> str:
        """Return the value of a cookie; empty if there is none."""
        pairs = (pair.strip().partition("=") for pair in self.headers.get("cookie", "").split(";"))
        # not SimpleCookie: it stops at the first malformed cookie, which may be another application's
        return next((value for key, _, value in pairs if key == name), "")

    @property
    def root(self) -> str:
        """The mount point, quoted for addresses and headers: a client may have chosen a part of the path."""
        return quote(self.mount)

    def url(self, path: str, /, **query: object) -> str:
        """Return the address of a page of the console, without parameters that have no value."""
        known = {name: value for name, value in query.items() if value is not None}
        return f"{self.root}/{path}{'?' if known else ''}{urlencode(known)}"


@dataclass
class Response:
    """The response that a mount sends. A body of chunks is streamed."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""

    def __post_init__(self) -> None:
        self.headers = SECURITY | self.headers


def text(status: int, message: str) -> Response:
    """Return a line of plain text, in the language in force."""
    return Response(status, {"Content-Type": "text/plain; charset=utf-8"}, f"{translate(message)}\n".encode())


def error_response(path: str, status: int, message: str) -> Response:
    """Return a problem document (RFC 9457) if JSON was requested, else a line of plain text."""
    if not path.endswith(".json"):
        return text(status, message)
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": message}
    return Response(status, {"Content-Type": "application/problem+json"}, json.dumps(problem).encode())


def not_allowed(*methods: str) -> Response:
    """Answer 405 with the methods that a page allows."""
    response = text(405, f"Only {', '.join(methods)}.")
    response.headers["Allow"] = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
    return response


def redirect(url: str) -> Response:
    """Redirect the browser after a form was processed."""
    return Response(303, {"Location": url})


def _fields(encoded: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(encoded, keep_blank_values=True, max_num_fields=MOST_FIELDS)
    except ValueError:  # more fields than any form of ours has
        return []
