"""The hash slots of tenants in Redis: names of keys, counters and holds, and scripts run on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from ...limits import EVERYONE, CounterKey
from ...runtime.faults import StoreBusy, StoreError
from ...runtime.ids import new_id
from ..records import Counter, Hold
from . import scripts
from .scripts import Script

CLUSTER = "redis+cluster"
MOST_OWNERS = 100_000
_HEADER = tuple(name for name in Hold._fields if name not in ("items", "amounts"))


class Kept(NamedTuple):
    """A hold as one slot has it. `text` is how it is stored, `shared` whether limits on all tenants hold it, too.

    `closing` says that a transaction was about to close it.
    """

    hold: Hold
    shared: bool
    closing: bool
    text: str


class Slots:
    """Runs the scripts; raises `StoreError` where Redis cannot answer, and `StoreBusy` while it is loading."""

    def __init__(self, url: str, prefix: str, timeout: float) -> None:
        cluster = url.startswith(f"{CLUSTER}://")
        url = url.replace(f"{CLUSTER}://", "redis://", 1) if cluster else url
        self._url, self._cluster, self._prefix = url, cluster, prefix
        self._options: dict[str, Any] = {
            "decode_responses": True,
            "socket_timeout": timeout,
            "socket_connect_timeout": timeout,
            "retry": Retry(NoBackoff(), 1, supported_errors=(redis.exceptions.ConnectionError,)),
        }
        self._client: Any = None
        self._owners: dict[str, str] = {}
        self.thresholds: dict[CounterKey, int] = {}
        """The next thresholds of counters, as far as this process has worked them out."""

    def run(self, script: Script, tenant_id: str, *args: object) -> Any:
        """Run a script on the slot of a tenant."""
        tag = f"{self._prefix}:{{t:{quote(tenant_id, safe='')}}}"
        keys = [f"{tag}:{name}" for name in ("counters", "holds", "marks")]
        values = [*keys, scripts.MARK_SECONDS, *args]
        try:
            client = self._connected()
            try:
                return client.evalsha(script.sha, len(keys), *values)
            except redis.exceptions.NoScriptError:
                return client.eval(script.text, len(keys), *values)
        except (redis.exceptions.BusyLoadingError, redis.exceptions.TryAgainError) as error:
            raise StoreBusy(f"Redis failed: {type(error).__name__}") from error
        except (redis.RedisError, OSError) as error:
            raise StoreError(f"Redis failed: {type(error).__name__}: {error}") from error

    def _connected(self) -> Any:
        if self._client is None:
            make = RedisCluster.from_url if self._cluster else redis.Redis.from_url
            self._client = make(self._url, **self._options)
        return self._client

    def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
            for node in client.get_nodes() if self._cluster else ():
                if node.redis_connection is not None:  # made from a URL, it leaves its pool open
                    node.redis_connection.connection_pool.disconnect()

    # -- counters -------------------------------------------------------------------------------

    def counter(self, key: CounterKey) -> Counter | None:
        return _counter(self.run(scripts.COUNTER, key.tenant_id, name_of(key)))

    def open_counter(self, key: CounterKey, window_end: int, counter: Counter) -> None:
        until = "" if counter.extra_until is None else repr(counter.extra_until)
        amounts = (window_end, counter.settled, counter.extra, until)
        self.run(scripts.OPEN, key.tenant_id, name_of(key), new_id(), *amounts)

    def reset_counter(self, key: CounterKey, settled: int) -> None:
        self.run(scripts.RESET, key.tenant_id, name_of(key), new_id(), settled)

    def counters(self, tenant_id: str) -> tuple[dict[CounterKey, tuple[Counter, int]], list[Kept]]:
        """Read every counter of a tenant with the end of its window, and every hold, at one moment."""
        fields, holds = (_pairs(flat) for flat in self.run(scripts.SNAPSHOT, tenant_id))
        found = {}
        for name in (field[2:] for field in fields if field.startswith("s:")):
            row = [fields[f"{kind}:{name}"] for kind in ("s", "h", "x", "u")]
            counter = _counter(row)
            assert counter is not None
            found[key_named(tenant_id, name)] = (counter, int(fields[f"e:{name}"]))
        texts = ((field[2:], text) for field, text in holds.items() if field.startswith("h:"))
        return found, [_kept(tenant_id, text, f"c:{call_id}" in holds) for call_id, text in texts]

    # -- holds ----------------------------------------------------------------------------------

    def holds(self, tenant_id: str, call_ids: Sequence[str]) -> dict[str, Kept]:
        """Find the holds of calls."""
        rows = self.run(scripts.HOLDS, tenant_id, *call_ids)
        found = zip(call_ids, rows, strict=True)
        return {call_id: _kept(tenant_id, text, bool(closing)) for call_id, (text, closing) in found if text}

    def replace(self, tenant_id: str, kept: Kept, hold: Hold) -> bool:
        """Put a hold in the place of one that is still as it was read; only what this slot holds counts."""
        text = text_of(hold, kept.shared, tenant_id)
        return bool(self.run(scripts.REPLACE, tenant_id, hold.call_id, kept.text, text))

    def owner(self, call_id: str) -> list[str]:
        """Return the tenant that this process took a hold for, if it did."""
        return [self._owners[call_id]] if call_id in self._owners else []

    def remember_owner(self, call_id: str, tenant_id: str) -> None:
        """Remember whose hold it is, so that it is found without a look at every tenant."""
        if len(self._owners) >= MOST_OWNERS:
            self._owners.clear()
        self._owners[call_id] = tenant_id

    def remember_threshold(self, key: CounterKey, amount: int) -> None:
        """Remember the amount of a counter's next threshold."""
        if len(self.thresholds) >= MOST_OWNERS:
            self.thresholds.clear()
        self.thresholds[key] = amount

    def forget_owner(self, call_id: str) -> None:
        """Forget whose hold it is, as it was closed or has moved."""
        self._owners.pop(call_id, None)


def name_of(key: CounterKey) -> str:
    """Name a counter within the slot of its tenant."""
    return f"{key.limit_id}:{key.window_start}:{key.subject}"


def key_named(tenant_id: str, name: str) -> CounterKey:
    """Return the counter with a name."""
    limit_id, start, subject = name.split(":", 2)
    return CounterKey(tenant_id, int(limit_id), subject, int(start))


def header_of(hold: Hold, shared: bool) -> str:
    """Write what a slot keeps of a hold beside its items."""
    return json.dumps([shared, *(getattr(hold, name) for name in _HEADER)])


def text_of(hold: Hold, shared: bool, slot: str) -> str:
    """Write a hold as the slot of a tenant keeps it, with the items that are in this slot."""
    items = [[name_of(key), str(amount)] for key, amount in hold.held_on() if key.tenant_id == slot]
    return json.dumps([header_of(hold, shared), items])


def _kept(slot: str, text: str, closing: bool) -> Kept:
    header, items = json.loads(text)
    shared, *values = json.loads(header)
    found = list(items or ())
    keys = tuple(key_named(slot, name) for name, _ in found)
    hold = Hold(*values)._replace(items=keys, amounts=tuple(int(amount) for _, amount in found))
    return Kept(hold, shared and slot != EVERYONE, closing, text)


def _counter(row: Sequence[str | None]) -> Counter | None:
    settled, held, extra, until = row
    if settled is None:
        return None
    return Counter(int(settled), int(held or 0), int(extra or 0), float(until) if until else None)


def _pairs(flat: Any) -> dict[str, str]:
    """Read the answer to HGETALL: a flat list, as scripts return it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))
