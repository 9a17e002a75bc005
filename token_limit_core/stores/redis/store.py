"""The Redis store: the SQL store of the ledger, with counters and holds in Redis."""

from __future__ import annotations

from typing import Any

from ..running import Running
from ..sql.store import SqlStore
from ..sql.transaction import SqlTransaction
from ..urls import masked, redis_parts
from . import scripts
from .slots import Slots
from .transaction import RedisTransaction


class RedisStore(SqlStore):
    """Keep counters and holds in Redis, and the ledger in the SQL database that the URL names with `ledger`.

    `timeout` (seconds) is how long an operation waits for either.
    """

    _admission = Running._read

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        server, prefix, ledger = redis_parts(url)
        super().__init__(ledger, timeout=timeout)
        self._slots = Slots(server, prefix, timeout)
        self._server = masked(server)
        self.location: str = f"{self._server}?prefix={prefix}&ledger={self.location}"

    def __repr__(self) -> str:
        return f"RedisStore({self.location!r})"

    def __str__(self) -> str:
        return f"RedisStore at {self._server}, ledger in {super().__str__()}"

    def check(self) -> None:
        super().check()
        self._slots.run(scripts.PENDING, "")

    def close(self) -> None:
        self._slots.close()
        super().close()

    def _start(self, cursor: Any, begin: str | None) -> SqlTransaction:
        return RedisTransaction(self._slots, cursor, self._texts, begin)
