"""The context of one request: what page handlers read from, and how they answer."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal

from ..cli.output import harmless
from ..meter import Meter
from ..runtime.faults import ConfigurationError
from ..runtime.language import translate
from ..stores.contract import Store
from ..stores.queries import Cursor, TenantQuery
from ..stores.reports import Change
from .rendering import render
from .web import Request, Response, error_response

Right = Literal[
    "tenants", "edit tenants", "add limits", "edit limits", "remove limits", "plans", "edit plans", "refusals", "holds",
    "release holds", "events", "history", "keys", "make keys", "revoke keys",
]  # fmt: skip
"""What a page or an action needs; each mount decides who has it."""

SAID = {
    "saved": "Saved. It holds for the next call, in every process.",
    "removed": "Removed. The events stay.",
    "topped-up": "Added to this window.",
    "suspended": "Suspended. Every call is refused from now on.",
    "resumed": "Resumed. The tenant may call again.",
    "named": "Saved.",
    "moved": "The tenant has its new id.",
    "planned": "Saved. The plan holds for the next call.",
    "released": "Released.",
    "revoked": "Revoked. The key is refused from now on.",
    "revoked-before": "That key does not exist or was revoked before. Nothing was changed.",
    "made-before": "That key was created before. Its token was shown only once. If it is lost, revoke the key.",
    "late": "That hold was closed already. Nothing was changed.",
    "partly": "Released. Some of the holds were closed already.",
}
"""The message after a form was processed, by the code in the address."""

NAMESAKES = 50
"""Tenants among which a name that was typed is looked up."""


@dataclass(frozen=True)
class Frame:
    """What surrounds the pages, which differs by mount: the console's own page, or Django's admin.

    `layout` is the template that the pages fill. `csrf` is the name and the value of the hidden field of forms, and
    `accepts` returns whether a posted form has it. `may` says what the person may see and do.
    """

    layout: str
    csrf: tuple[str, str]
    accepts: Callable[[], bool] = lambda: True
    may: Callable[[Right], bool] = lambda right: True
    headers: Mapping[str, str] = field(default_factory=dict)


class Context:
    """A request with its Meter, its time and the name of the person."""

    def __init__(self, request: Request, meter: Meter, actor: str, frame: Frame) -> None:
        self.request = request
        self.actor = actor
        self.params: dict[str, str] = request.params
        self.url: Callable[..., str] = request.url
        self.meter = meter
        self.store: Store = meter.store
        self.now: float = meter.config.clock()
        self.frame = frame
        self.may: Callable[[Right], bool] = frame.may

    def page(self, template: str, status: int = 200, **context: Any) -> Response:
        """Return a page."""
        name, value = self.frame.csrf
        common = {
            "layout": self.frame.layout,
            "url": self.url,
            "may": self.may,
            "actor": self.actor,
            "now": self.now,
            "said": translate(SAID.get(self.params.get("said", ""), "")),
            "csrf": {"name": name, "value": value},
        }
        headers = {"Content-Type": "text/html; charset=utf-8", **self.frame.headers}
        return Response(status, headers, render(template, **common, **context).encode("utf-8", "replace"))

    def tenant_named(self, text: str) -> str | None:
        """Return the id of the tenant that was typed as its id or as its name; the text itself if none is known."""
        if not text:
            return None
        found = self.store.tenants(TenantQuery(search=text.strip(), size=NAMESAKES), self.now).rows
        named = [row.tenant_id for row in found if row.name == text.strip()]
        return text if any(row.tenant_id == text for row in found) or len(named) != 1 else named[0]

    @property
    def change_filters(self) -> dict[str, str]:
        """The filters of the list of changes.

        A link with an empty tenant asks for calls without one. The form sends both fields, and an empty one filters
        nothing.
        """
        typed = {name: self.params[name] for name in ("tenant", "actor") if name in self.params}
        if "actor" in typed:
            typed["actor"] = typed["actor"].strip()
        return {name: value for name, value in typed.items() if value or "actor" not in typed}

    def changes(self, after: Cursor | None, size: int = 50) -> list[Change]:
        """List changes by the filters of the address."""
        filters = self.change_filters
        tenant = filters.get("tenant")
        tenant_id = self.tenant_named(tenant) if tenant else tenant
        return self.store.history(tenant_id, after, size, filters.get("actor", ""))

    def known_plan(self, name: str) -> str | None:
        """Return the plan that was chosen, None for no plan. Raises `ConfigurationError` for an unknown one."""
        if name and name not in {plan.name for plan in self.store.plans()}:
            raise ConfigurationError(f"plan: {name!r} does not exist; choose one of the list")
        return name or None

    def message(self, status: int, heading: str, message: str) -> Response:
        """Return a page with a message only, or a problem document if JSON was requested."""
        if self.request.path.endswith(".json"):
            return error_response(self.request.path, status, f"{heading}. {message}")
        return self.page("message.html", status, heading=translate(heading), message=translate(message))

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


def _lines(rows: Iterable[Sequence[Any]]) -> Iterator[bytes]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for row in rows:
        writer.writerow([harmless(value) for value in row])
        if buffer.tell() > 16 * 1024:
            yield _taken(buffer)
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> bytes:
    chunk = buffer.getvalue().encode("utf-8", "replace")
    buffer.seek(0)
    buffer.truncate()
    return chunk
