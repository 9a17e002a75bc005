"""The endpoints of the wire protocol, over any store and under any framework."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

from ..errors import LimitChanged
from ..events import LLMEvent
from ..limits import EVERYONE
from ..limits.filters import Filter
from ..management import LIMIT_KEYWORDS, limit_of
from ..management.parsing import parse_payer
from ..meter import Meter, engine_of
from ..pricing import PriceBook
from ..runtime.clock import system_time
from ..runtime.faults import ConfigurationError, StoreError
from ..scope import check_tenant
from ..stores.contract import Store
from ..stores.records import Recorded
from ..upgrade import Rendered
from .body import BadBody, Read, read_json
from .events import Priced, Rejected, read_event
from .keys import CHECK, INGEST, SET_LIMIT, ApiKey, proves, public_id_of, token_in
from .limits import check_row, plan_rows, usage_row
from .manage import Management, as_json, parse_command, refuse_unknown

logger: logging.Logger = logging.getLogger("token_limit")

EVENTS, THRESHOLDS, CHECKS = "events", "thresholds", "check-tenant-limit"
"""The last path segment of the endpoints that the published client knows."""

USAGE, PLANS, REPORT, MANAGE = "usage", "plans", "report", "manage"
ENDPOINTS = (EVENTS, THRESHOLDS, CHECKS, USAGE, PLANS, REPORT, MANAGE)
"""All endpoints; clients derive the other URLs from the first."""

MOST_EVENTS = 10_000
RETRY_SECONDS = 5


class Incoming(NamedTuple):
    """A request, independent of the framework. Header names are in lower case; `read` returns the body in chunks."""

    method: str
    endpoint: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    read: Read


class Refused(Exception):
    """An error that is answered with a problem document (RFC 9457)."""

    def __init__(self, status: int, title: str, detail: str, **headers: str) -> None:
        super().__init__(detail)
        self.status: int = status
        self.title: str = title
        self.detail: str = detail
        self.headers: dict[str, str] = headers


class Ingest:
    """Handles the requests of services that report here. Does blocking I/O: do not call it on an event loop.

    `welcome(tenant_id, now)` gives a new tenant its default limit; `now` is unix seconds. `prices` price the events
    that have no cost; the default is the built-in price list.
    Raises `ConfigurationError` for a store that keeps its limits and ledger in a remote backend.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float] = system_time,
        welcome: Callable[[str, float], None] = lambda tenant_id, now: None,
        prices: PriceBook | None = None,
        mark_up: Callable[[LLMEvent], None] = lambda event: None,
    ) -> None:
        if store.backend is not None:
            raise ConfigurationError(
                f"store: invalid store for ingest; the backend {store.backend} keeps its limits and ledger. Send the "
                "reports there, or use a local store, for example 'sqlite:///limits.db'"
            )
        self._store = store
        self._clock = clock
        self._welcome = welcome
        self._prices = PriceBook() if prices is None else prices
        self._mark_up = mark_up
        self._management = Management(store, clock)

    @classmethod
    def of(cls, meter: Meter) -> Self:
        """Use the store, clock, prices, markup and default limit of a Meter."""
        engine = engine_of(meter)
        return cls(meter.store, meter.config.clock, engine.access.welcome, engine.prices, engine.mark_up)

    def answer(self, incoming: Incoming) -> Rendered:
        """Answer a request; an error becomes a problem document, and is logged without secrets."""
        key = None
        try:
            key, handler = self._admit(incoming)
            return handler(key, incoming)
        except Refused as refused:
            return _problem(refused, incoming, key)
        except BadBody as bad:
            return _problem(Refused(bad.status, "The body is invalid", str(bad)), incoming, key)
        except ConfigurationError as error:
            return _problem(Refused(422, "The limit cannot be set", str(error)), incoming, key)
        except LimitChanged as error:
            return _problem(Refused(409, "Somebody else has changed it", str(error)), incoming, key)
        except StoreError:
            logger.exception("the store failed during an ingest request")
            later = Refused(503, "The store cannot be reached", "Retry the request.", Retry_After=str(RETRY_SECONDS))
            return _problem(later, incoming, key)

    def _admit(self, incoming: Incoming) -> tuple[ApiKey, Callable[[ApiKey, Incoming], Rendered]]:
        """Authenticate and route a request before its body is read."""
        calls = {
            (EVENTS, "POST"): (INGEST, self._ingest),
            (CHECKS, "GET"): (CHECK, self._check),
            (THRESHOLDS, "POST"): (SET_LIMIT, self._set_limit),
            (THRESHOLDS, "DELETE"): (SET_LIMIT, self._remove_limit),
            (USAGE, "GET"): (CHECK, self._usage),
            (PLANS, "GET"): (CHECK, self._plans),
            (REPORT, "GET"): (CHECK, self._report),
            (MANAGE, "POST"): (SET_LIMIT, self._manage),
        }
        methods = [method for endpoint, method in calls if endpoint == incoming.endpoint]
        if not methods:
            raise Refused(404, "Unknown endpoint", f"Expected one of {', '.join(ENDPOINTS)}.")
        token = token_in(incoming.headers)
        public_id = None if token is None else public_id_of(token)
        key = None if public_id is None else self._store.api_key(public_id)
        if not proves(token or "", key) or key is None:
            raise Refused(401, "The API key is missing, invalid or revoked", "Send 'Authorization: Bearer <key>'.",
                          WWW_Authenticate="Bearer")  # fmt: skip
        if incoming.method not in methods:
            raise Refused(405, "Method not allowed", f"Use {' or '.join(methods)}.", Allow=", ".join(methods))
        permission, handler = calls[incoming.endpoint, incoming.method]
        if not key.allows(permission):
            raise Refused(403, "The API key lacks a permission", f"The API key lacks the permission {permission!r}.")
        return key, handler

    # -- ingest ---------------------------------------------------------------------------------

    def _ingest(self, key: ApiKey, incoming: Incoming) -> Rendered:
        document = _document(incoming)
        rows = document.get("events")
        if not isinstance(rows, list):
            raise Refused(422, "The events are missing", 'Send {"events": [...]}.')
        if len(rows) > MOST_EVENTS:
            raise Refused(413, "The batch is too large", f"Send at most {MOST_EVENTS} events in one request.")
        now = self._clock()
        taken: list[Priced] = []
        rejected: list[dict[str, Any]] = []
        covered: set[str] = set()
        foreign = 0
        for index, row in enumerate(rows):
            try:
                priced = read_event(row, now, self._prices)
                tenant_id = priced.event.tenant_id
                if tenant_id not in covered and not key.covers(tenant_id):
                    foreign += 1
                    raise Rejected("tenant_id: not one of the tenants of this API key")
                covered.add(tenant_id)
                self._mark_up(priced.event)
                taken.append(priced)
            except Rejected as error:
                rejected.append(_rejection(index, row, str(error)))
        if rows and foreign == len(rows):
            raise Refused(403, "The API key does not cover the tenant", "No event belongs to a tenant of this API key.")
        results = self._record(taken, now)
        rejected += [
            _rejection(None, priced.event, "the store cannot save this event")
            for priced, result in zip(taken, results, strict=True)
            if result is None
        ]
        if rejected:
            logger.warning("key %s: rejected %d of %d events, for example: %s", key.public_id, len(rejected),
                           len(rows), rejected[0]["reason"])  # fmt: skip
        counts = {"accepted": results.count("stored"), "duplicates": results.count("duplicate")}
        return _json(200, {**counts, "rejected": rejected})

    def _record(self, taken: Sequence[Priced], now: float) -> Sequence[Recorded | None]:
        """Record a batch in one transaction; if the database refuses it, record each event in its own transaction."""
        try:
            return self._take(taken, now)
        except StoreError:
            raise
        except Exception:
            logger.exception("the database refused a batch; recording its events one by one")
        return [self._record_alone(priced, now) for priced in taken]

    def _record_alone(self, priced: Priced, now: float) -> Recorded | None:
        try:
            return self._take([priced], now)[0]
        except StoreError:
            raise
        except Exception:
            return None

    def _take(self, taken: Sequence[Priced], now: float) -> Sequence[Recorded]:
        for tenant_id in {priced.event.tenant_id for priced in taken} - {""}:
            self._welcome(tenant_id, now)
        return self._store.record(taken, now)

    # -- limits ---------------------------------------------------------------------------------

    def _check(self, key: ApiKey, incoming: Incoming) -> Rendered:
        tenant_id = _tenant(key, incoming.query.get("tenant_id"), payer=True)
        now = self._clock()
        self._welcome(tenant_id, now)
        return _json(200, check_row(self._store, key, tenant_id, incoming.query, now))

    def _usage(self, key: ApiKey, incoming: Incoming) -> Rendered:
        query = incoming.query
        tenant_id = _tenant(key, query.get("tenant_id"), payer=True)
        return _json(200, usage_row(self._store, tenant_id, query.get("user") or None, self._clock()))

    def _plans(self, key: ApiKey, incoming: Incoming) -> Rendered:
        _allow(key, EVERYONE)
        return _json(200, {"plans": plan_rows(self._store.plans())})

    def _report(self, key: ApiKey, incoming: Incoming) -> Rendered:
        given = dict(incoming.query)
        refuse_unknown(given, ("by", "tenant_id", "since", "until"), "of a report")
        if "tenant_id" in given:
            given["tenant_id"] = _tenant(key, given["tenant_id"], payer=True)
        else:
            _allow(key, EVERYONE)
        rows = self._management.report(**given)  # type: ignore[arg-type]  # it refuses what it cannot sum by
        return _json(200, {"rows": [as_json(row) for row in rows]})

    def _set_limit(self, key: ApiKey, incoming: Incoming) -> Rendered:
        document = _document(incoming)
        tenant_id = _tenant(key, document.get("tenant_id"))
        refuse_unknown(document, ("tenant_id", "limit_usd", "amount", *LIMIT_KEYWORDS), "of a limit")
        now = self._clock()
        keywords = {name: document[name] for name in LIMIT_KEYWORDS if document.get(name) is not None}
        amount = document["limit_usd"] if document.get("limit_usd") is not None else document.get("amount")
        limit = self._store.set_limit(limit_of(tenant_id, amount, now=now, **keywords), now, by=f"key {key.public_id}")
        usd = limit.limit_usd
        shown = {"amount": limit.amount, "unit": limit.unit} if usd is None else {"limit_usd": f"{usd:f}"}
        return _json(200, {"tenant_id": tenant_id, **shown, "frequency": limit.frequency})

    def _remove_limit(self, key: ApiKey, incoming: Incoming) -> Rendered:
        query = incoming.query
        tenant_id = _tenant(key, query.get("tenant_id"))
        refuse_unknown(query, ("tenant_id", "frequency", *Filter._fields), "of a limit")
        given = {name: value for name, value in query.items() if name != "tenant_id"}
        return _json(200, {"removed": self._management.remove_limit(tenant_id, **given, by=f"key {key.public_id}")})

    def _manage(self, key: ApiKey, incoming: Incoming) -> Rendered:
        command = parse_command(_document(incoming))
        _allow(key, command.owner)
        return _json(200, {"result": command.run(self._management, key.public_id)})


def _document(incoming: Incoming) -> Mapping[str, Any]:
    headers = incoming.headers
    document = read_json(incoming.read, headers.get("content-length"), headers.get("content-encoding"))
    if not isinstance(document, dict):
        raise Refused(422, "The body is not an object", "Send a JSON object.")
    return document


def _tenant(key: ApiKey, value: Any, *, payer: bool = False) -> str:
    """Return a tenant that the key covers, with `payer` also `""` for nobody and `*` for all tenants."""
    try:
        if not isinstance(value, str):
            raise ValueError
        tenant_id = parse_payer(value) if payer else check_tenant(value)
    except ValueError:
        raise Refused(422, "The tenant is invalid", "tenant_id: expected a string of 1 to 255 characters.") from None
    _allow(key, tenant_id)
    return tenant_id


def _allow(key: ApiKey, tenant_id: str) -> None:
    """Refuse what is not of the key's tenants. The error does not reveal whether others exist."""
    if not key.covers(tenant_id):
        raise Refused(
            403, "The API key does not cover the tenant", "tenant_id: not one of the tenants of this API key."
        )


def _rejection(index: int | None, row: Any, reason: str) -> dict[str, Any]:
    """Describe a rejected event by its index in the batch and by its id, as far as they are known."""
    event_id = row.event_id if isinstance(row, LLMEvent) else row.get("event_id") if isinstance(row, dict) else None
    named = {"event_id": event_id[:80]} if isinstance(event_id, str) else {}
    return ({} if index is None else {"index": index}) | named | {"reason": reason}


def _json(status: int, body: Any) -> Rendered:
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    return Rendered(status, headers, json.dumps(body).encode())


def _problem(refused: Refused, incoming: Incoming, key: ApiKey | None) -> Rendered:
    who = "no key" if key is None else f"key {key.public_id}"
    logger.warning("%s %s by %s: %d, %s", incoming.method[:10], incoming.endpoint[:40], who, refused.status, refused)
    body = {"type": "about:blank", "title": refused.title, "status": refused.status, "detail": refused.detail}
    headers = {name.replace("_", "-"): value for name, value in refused.headers.items()}
    headers |= {"Content-Type": "application/problem+json", "Cache-Control": "no-store"}
    return Rendered(refused.status, headers, json.dumps(body).encode())
