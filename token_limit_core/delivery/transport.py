"""Transport: the wire contract of a remote backend over `requests`.

Every backend has three calls: ingest (POST, gzip JSON), set limit (POST), check (GET). One of ours has more, which
manage limits, plans and tenants.
"""

from __future__ import annotations

import gzip
import json
import random
import threading
import time
from collections.abc import Mapping
from decimal import Decimal
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..errors import LimitChanged
from ..events import LLMEvent
from ..runtime.faults import ConfigurationError, StoreError
from ..runtime.forks import after_fork
from ..stores.columns import plain
from .addresses import Endpoints, shown
from .queue import DeliverLater, DeliveryRefused

if TYPE_CHECKING:
    import requests

CONNECT_SECONDS = 3.05
READ_SECONDS = 10.0
CHECK_READ_SECONDS = 2.0
"""The read time-out of a check. It is shorter than that of a delivery, because a call waits for it."""

MANAGE_READ_SECONDS = 120.0
"""The read time-out of what may read or move all calls of a tenant."""

FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
LONGEST_RETRY_AFTER_SECONDS = 3600.0

ONE_MAY_BE_BAD = frozenset({400, 413, 422})
"""Answers after which the batch is halved, because one event may be the reason."""

TRY_AGAIN = frozenset({408, 425, 429})
"""Answers below 500 after which the same request is retried."""


class CheckRefused(StoreError):
    """The backend answers, but not for this tenant, for example because the key does not cover it.

    `status` is that of HTTP, and `detail` what a backend of ours says of the reason.
    """

    def __init__(self, message: str, status: int, detail: str) -> None:
        super().__init__(f"{message}: {detail}" if detail else message)
        self.status: int = status
        self.detail: str = detail or message


class TooOld(StoreError):
    """The backend is older than this release, and does not know what it is asked for."""


class Transport:
    """Sends requests to one backend. Thread-safe: each thread has its own session, and a forked child new ones."""

    def __init__(self, where: Endpoints, api_key: str | None) -> None:
        self._where = where
        self.url: str = shown(where.ingest)
        bearer = f"Bearer {api_key}"  # backends read one header or the other
        self._headers = {} if api_key is None else {"Authorization": bearer, "X-API-Key": bearer}
        self._reset()
        after_fork(self._reset)

    def _reset(self) -> None:
        self._local = threading.local()
        self._failures = 0

    def deliver(self, batch: list[LLMEvent]) -> None:
        """POST a batch of events. Events that the backend has taken are not sent again.

        A refused batch is halved until the events that are the reason are found. Raises `DeliverLater` for a retry,
        `DeliveryRefused` with the events that the backend refuses for good.
        """
        refused: list[DeliveryRefused] = []
        self._deliver(batch, refused)
        self._failures = 0
        if refused:
            reasons = {key: why for one in refused for key, why in one.reasons.items()}
            raise DeliveryRefused(refused[0].status, [event for one in refused for event in one.events], reasons)

    def _deliver(self, batch: list[LLMEvent], refused: list[DeliveryRefused]) -> None:
        response = self._post(batch)
        if _is_taken(response):
            reasons = _rejections(response)
            bad = [event for event in batch if event.event_id in reasons]
            if bad:
                refused.append(DeliveryRefused(response.status_code, bad, reasons))
        elif response.status_code < 300:
            raise self._later("its answer is no acknowledgement")
        elif response.status_code in TRY_AGAIN or response.status_code >= 500:
            raise self._later(f"HTTP {response.status_code}", response.headers.get("Retry-After"))
        elif response.status_code in ONE_MAY_BE_BAD and len(batch) > 1:
            middle = len(batch) // 2
            self._deliver(batch[:middle], refused)
            self._deliver(batch[middle:], refused)
        else:
            refused.append(DeliveryRefused(response.status_code, batch))

    def _post(self, batch: list[LLMEvent]) -> requests.Response:
        import requests

        body = gzip.compress(f'{{"events": [{", ".join(map(wire_json, batch))}]}}'.encode(), 5)
        headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
        try:
            return self._request("POST", self._where.ingest, READ_SECONDS, data=body, headers=headers)
        except requests.RequestException as error:
            raise self._later(type(error).__name__) from error

    def _later(self, reason: str, retry_after: str | None = None) -> DeliverLater:
        """Return the back-off in seconds: doubled after each failure, with jitter so that services spread out."""
        self._failures += 1
        told = _seconds_of(retry_after)
        wait = min(LONGEST_WAIT_SECONDS, FIRST_WAIT_SECONDS * 2 ** min(self._failures - 1, 10))
        wait *= random.uniform(0.5, 1.0)
        return DeliverLater(
            wait if told is None else max(wait, told),
            f"the backend cannot take events now: {reason}",
            asked=told is not None and told > wait,
        )

    def check(self, tenant_id: str, user: str = "") -> dict[str, Any]:
        """GET the state of a tenant's limits, with those of a user. Raises `StoreError` without a usable answer."""
        params = {"tenant_id": tenant_id} | ({"user": user} if user else {})
        told = _json_of(self._ask("GET", self._where.check, params=params, read=CHECK_READ_SECONDS))
        if not isinstance(told, dict) or not isinstance(told.get("limit_exceeded"), bool):
            raise StoreError("the backend's answer to a limit check is not understood")
        return told

    def set_limit(self, body: Mapping[str, Any]) -> None:
        """POST a limit to the backend. Raises `StoreError` when it is refused."""
        self._ask("POST", self._where.thresholds, json=dict(body))

    def usage(self, tenant_id: str) -> dict[str, Any]:
        """GET the limits of a tenant from a backend of ours. Raises `StoreError`, `TooOld` at an older one."""
        return self._ask_ours("usage", "GET", self._where.usage, params={"tenant_id": tenant_id})

    def plans(self) -> dict[str, Any]:
        """GET the plans of a backend of ours. Raises `StoreError`, `TooOld` at an older one."""
        return self._ask_ours("plans", "GET", self._where.plans)

    def report(self, **query: str) -> dict[str, Any]:
        """GET sums of the ledger from a backend of ours. Raises `StoreError`, `TooOld` at an older one."""
        return self._ask_ours("report", "GET", self._where.report, params=query, read=MANAGE_READ_SECONDS)

    def manage(self, do: str, **fields: Any) -> Any:
        """POST something to be done to a backend of ours; return the result.

        Raises `ConfigurationError` for a field that cannot be used, `LimitChanged` if somebody else was first,
        `TooOld` at an older backend, else `StoreError`.
        """
        body = {"do": do, **fields}
        return self._ask_ours(do, "POST", self._where.manage, json=body, read=MANAGE_READ_SECONDS).get("result")

    def _ask_ours(self, what: str, method: str, url: str, **options: Any) -> dict[str, Any]:
        try:
            told = _json_of(self._ask(method, url, **options))
        except CheckRefused as refused:
            if refused.status in (404, 405) or refused.detail.startswith("do: "):
                raise TooOld(
                    f"the backend {self.url} does not know {what!r}: it is older than this release. Update it, or do "
                    "it there"
                ) from None
            if refused.status == 409:
                raise LimitChanged(refused.detail) from None
            if refused.status == 422:
                raise ConfigurationError(refused.detail) from None
            raise
        if not isinstance(told, dict):
            raise StoreError(f"the backend's answer to {what!r} is not understood")
        return told

    def _ask(self, method: str, url: str, *, read: float = READ_SECONDS, **options: Any) -> requests.Response:
        import requests

        try:
            answer = self._request(method, url, read, **options)
        except requests.RequestException as error:
            raise StoreError(f"the backend cannot be reached: {type(error).__name__}") from error
        if not 200 <= answer.status_code < 300:
            away = answer.status_code in TRY_AGAIN or answer.status_code >= 500
            told = f"the backend answered {answer.status_code} to {method} {urlsplit(url).path}"
            raise StoreError(told) if away else CheckRefused(told, answer.status_code, _detail_of(answer))
        return answer

    def _request(self, method: str, url: str, read: float, **options: Any) -> requests.Response:
        """Send a request. Redirects are not followed: they would turn a POST into a GET and drop the key."""
        timeout = (CONNECT_SECONDS, read)
        return self._session().request(method, url, timeout=timeout, allow_redirects=False, **options)

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            import requests

            session = self._local.session = requests.Session()
            session.auth = self._sign  # else a .netrc entry of the host would replace the header
        return session

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


def number(amount: Decimal) -> int | float:
    """Return an amount as a JSON number, exact up to 15 digits."""
    return int(amount) if amount == int(amount) else float(amount)


def wire_json(event: LLMEvent) -> str:
    """Return an event as JSON, also with tags that JSON does not know."""
    row = event.to_dict()
    row["tags"] = plain(event.tags)
    return json.dumps(row, default=str)


def _detail_of(response: requests.Response) -> str:
    """Return the detail of a problem document, which a backend of ours answers with; else an empty text."""
    told = _json_of(response)
    detail = told.get("detail") if isinstance(told, dict) else None
    return detail[:500] if isinstance(detail, str) else ""


def _is_taken(response: requests.Response) -> bool:
    """Return whether an answer acknowledges a batch: status 2xx, but no HTML page and no broken JSON.

    Those come from a proxy in front of the backend. Then the batch is sent again, which is idempotent.
    """
    start = response.content.lstrip()[:1]
    broken = start in (b"{", b"[") and _json_of(response) is None
    return 200 <= response.status_code < 300 and start != b"<" and not broken


def _json_of(response: requests.Response) -> Any:
    """Return the JSON of an answer; None for any other body."""
    try:
        return response.json()
    except ValueError:
        return None


def _rejections(response: requests.Response) -> dict[str, str]:
    """Return which events of an accepted batch were refused. Only a backend of ours reports that."""
    told = _json_of(response)
    rows = told.get("rejected") if isinstance(told, dict) else None
    if not isinstance(rows, list):
        return {}
    return {str(row.get("event_id")): str(row.get("reason", "")) for row in rows if isinstance(row, dict)}


def _seconds_of(retry_after: str | None) -> float | None:
    """Return the seconds of a Retry-After header, which has seconds or an HTTP date (RFC 9110)."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER_SECONDS) if seconds == seconds else None
