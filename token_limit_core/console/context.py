"""The context of one request: what page handlers read from, and how they answer."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from ..meter import Meter
from ..stores.contract import Store
from .access import FIELD, Csrf
from .rendering import render
from .web import Request, Response, error_response

SAID = {
    "saved": "Saved. It holds for the next call, in every process.",
    "removed": "Removed. The events stay.",
    "released": "Released.",
    "revoked": "Revoked. The key is refused from now on.",
    "revoked-before": "That key does not exist or was revoked before. Nothing was changed.",
    "made-before": "That key was created before. Its token was shown only once. If it is lost, revoke the key.",
    "late": "That hold was closed already. Nothing was changed.",
}
"""The message after a form was processed, by the code in the address."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_LATER_FORMULA = re.compile(r"([;,\t\r\n])(?=\s*[=+\-@＝＋－＠])")
"""Characters after which a spreadsheet that does not split at commas would start a cell with a formula."""


class Context:
    """A request with its Meter, its time and the name of the person."""

    def __init__(self, request: Request, meter: Meter, actor: str, csrf: Csrf) -> None:
        self.request = request
        self.actor = actor
        self.params = request.params
        self.url = request.url
        self.store: Store = meter.store
        self.now = meter.config.clock()
        self._csrf = csrf

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """Return a page. A page with forms also sets the cookie half of their token."""
        nonce, is_new = self._csrf.nonce(self.request)
        common = {
            "url": self.url,
            "actor": self.actor,
            "now": self.now,
            "said": SAID.get(self.params.get("said", "")),
            "csrf": {"name": FIELD, "value": self._csrf.token(nonce, self.actor)},
        }
        headers = {"Content-Type": "text/html; charset=utf-8"}
        if is_new:
            headers["Set-Cookie"] = self._csrf.cookie(self.request, nonce)
        return Response(status, headers, render(template, **common, **context).encode("utf-8", "replace"))

    def message(self, status: int, heading: str, message: str) -> Response:
        """Return a page with a message only, or a problem document if JSON was requested."""
        if self.request.path.endswith(".json"):
            return error_response(self.request.path, status, f"{heading}. {message}")
        return self.page("message.html", status, heading=heading, message=message)

    def json(self, data: Any) -> Response:
        """Return JSON. A value that JSON cannot hold, such as an object in a tag, becomes text."""
        return Response(200, {"Content-Type": "application/json"}, json.dumps(data, default=str).encode())

    def csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
        """Return a streamed file. The first row is read now, so that a store error becomes an error response."""
        rows = iter(rows)
        first = next(rows, None)
        lines = _lines(chain([header], [] if first is None else [first], rows))
        disposition = f'attachment; filename="token-limit-{name}.csv"'
        return Response(200, {"Content-Type": "text/csv; charset=utf-8", "Content-Disposition": disposition}, lines)


def harmless(value: Any) -> Any:
    """Prevent a spreadsheet from running text as a formula (OWASP: CSV injection). Numbers stay numbers."""
    if not isinstance(value, str):
        return value
    inside = _LATER_FORMULA.sub(r"\1'", value)
    return f"'{inside}" if value.startswith(_FORMULA) else inside


class Number(str):
    """Text that is a number, such as an amount in US dollars. It may start with a minus sign."""

    __slots__ = ()


def _lines(rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for row in rows:
        writer.writerow([value if isinstance(value, Number) else harmless(value) for value in row])
        if buffer.tell() > 16 * 1024:
            yield _taken(buffer)
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> bytes:
    chunk = buffer.getvalue().encode("utf-8", "replace")
    buffer.seek(0)
    buffer.truncate()
    return chunk
