"""Requests and responses without a framework, and the headers that every page has."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qsl, quote, urlencode

MOST_BODY = 64 * 1024
"""Bytes of a form; mounts refuse more with 413."""

MOST_FIELDS = 100

POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)
SECURITY = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with none at all browsers send `Origin: null`, which looks like a forgery
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Request:
    """What a console needs of a request.

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
        """The query's fields; of repeated ones the last."""
        return _fields(self.query)

    @property
    def form(self) -> dict[str, str]:
        """The fields of a posted form; of repeated ones the last."""
        if self.headers.get("content-type", "").partition(";")[0].strip() != "application/x-www-form-urlencoded":
            return {}
        return _fields(self.body.decode("utf-8", "replace"))

    def cookie(self, name: str) -> str:
        """Return a cookie's value; empty without one."""
        pairs = (pair.strip().partition("=") for pair in self.headers.get("cookie", "").split(";"))
        # not SimpleCookie, which gives up at the first cookie, whosever it is, that breaks the rules
        return next((value for key, _, value in pairs if key == name), "")

    @property
    def root(self) -> str:
        """The mount as addresses and headers have it: it may come from the path that a client asked for."""
        return quote(self.mount)

    def url(self, path: str, /, **query: object) -> str:
        """Link to a page of the console; parameters without a value are left out."""
        known = {name: value for name, value in query.items() if value is not None}
        return f"{self.root}/{path}{'?' if known else ''}{urlencode(known)}"


@dataclass
class Response:
    """What a mount sends; a body of chunks is streamed."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterator[bytes] = b""

    def __post_init__(self) -> None:
        self.headers = SECURITY | self.headers


def text(status: int, message: str) -> Response:
    """Answer with a line of plain text."""
    return Response(status, {"Content-Type": "text/plain; charset=utf-8"}, f"{message}\n".encode())


def told(path: str, status: int, message: str) -> Response:
    """Answer with a problem document (RFC 9457) where JSON was asked for, else with a line of plain text."""
    if not path.endswith(".json"):
        return text(status, message)
    problem = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": message}
    return Response(status, {"Content-Type": "application/problem+json"}, json.dumps(problem).encode())


def not_allowed(*methods: str) -> Response:
    """Answer a method that a page does not know with those it does."""
    response = text(405, f"Only {', '.join(methods)}.")
    response.headers["Allow"] = ", ".join([*methods, *(["HEAD"] if "GET" in methods else [])])
    return response


def redirect(url: str) -> Response:
    """Send the browser to another page after a form was taken."""
    return Response(303, {"Location": url})


def _fields(encoded: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(encoded, keep_blank_values=True, max_num_fields=MOST_FIELDS))
    except ValueError:  # more fields than any form here has
        return {}
