"""One request of a person who may enter: what handlers read from, and what they answer with."""

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
from .web import Request, Response, told

SAID = {
    "saved": "Saved. It holds for the next call, in every process.",
    "removed": "Removed. The events stay.",
    "released": "Released.",
    "revoked": "Revoked. The key is refused from now on.",
    "revoked-before": "That key is not there or was revoked before; nothing was changed.",
    "made-before": "That key was made before. Its token was shown then and only then: if it is lost, revoke the key.",
    "late": "That hold had closed already; nothing was changed.",
}
"""What a page says after a form was taken; the address carries only the word."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_LATER_FORMULA = re.compile(r"([;,\t\r\n])(?=\s*[=+\-@＝＋－＠])")
"""Where a spreadsheet that splits at other characters than commas would begin a cell with a formula."""


class Visit:
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
        """Answer with a page; one with forms gets the browser's half of their token along."""
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
        """Answer with a page that only says something; with a problem document where JSON was asked for."""
        if self.request.path.endswith(".json"):
            return told(self.request.path, status, f"{heading}. {message}")
        return self.page("message.html", status, heading=heading, message=message)

    def json(self, data: Any) -> Response:
        """Answer with JSON; what has no word in it, such as an object in a tag, is written as text."""
        return Response(200, {"Content-Type": "application/json"}, json.dumps(data, default=str).encode())

    def csv(self, name: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> Response:
        """Answer with a streamed file; the first row is read now, so that a store that is away is told as an error."""
        rows = iter(rows)
        first = next(rows, None)
        lines = _lines(chain([header], [] if first is None else [first], rows))
        disposition = f'attachment; filename="token-limit-{name}.csv"'
        return Response(200, {"Content-Type": "text/csv; charset=utf-8", "Content-Disposition": disposition}, lines)


def harmless(value: Any) -> Any:
    """Keep a spreadsheet from taking text for a formula (OWASP, CSV injection); numbers stay numbers."""
    if not isinstance(value, str):
        return value
    inside = _LATER_FORMULA.sub(r"\1'", value)
    return f"'{inside}" if value.startswith(_FORMULA) else inside


class Number(str):
    """Text that is a number, such as an amount in US dollars; it may begin with a minus."""

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
