"""Stores whose process can die between any two steps: statements of the database, and scripts of Redis."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from token_limit_core.stores.redis.scripts import Script
from token_limit_core.stores.redis.store import RedisStore
from token_limit_core.stores.sql.store import SqlStore


class Death(BaseException):
    """The end of the process, which nothing in it survives."""


class Life:
    """Counts steps. A process that is dead takes no further one."""

    def __init__(self) -> None:
        self._left: int | None = None

    @contextmanager
    def ends_after(self, steps: int) -> Iterator[None]:
        """Let the process die after so many steps; what comes after the block is another process."""
        self._left = steps
        try:
            yield
        finally:
            self._left = None

    def step(self) -> None:
        if self._left is not None:
            if self._left <= 0:
                raise Death
            self._left -= 1


class MortalCursor:
    """A cursor whose statements are steps. The database itself rolls back what a dead process has begun."""

    def __init__(self, cursor: Any, life: Life) -> None:
        self._cursor, self._life = cursor, life

    def execute(self, text: str, *row: Any) -> Any:
        if text != "ROLLBACK":
            self._life.step()
        return self._cursor.execute(text, *row)

    def executemany(self, text: str, rows: Any) -> Any:
        self._life.step()
        return self._cursor.executemany(text, rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class MortalSql(SqlStore):
    def __init__(self, url: str) -> None:
        self.life = Life()
        super().__init__(url)

    def _start(self, cursor: Any, begin: str | None) -> Any:
        return super()._start(MortalCursor(cursor, self.life), begin)


class MortalRedis(RedisStore):
    def __init__(self, url: str) -> None:
        self.life = Life()
        super().__init__(url)
        run = self._slots.run

        def step(script: Script, *args: Any) -> Any:
            self.life.step()
            return run(script, *args)

        self._slots.run = step  # type: ignore[method-assign]

    def _start(self, cursor: Any, begin: str | None) -> Any:
        return super()._start(MortalCursor(cursor, self.life), begin)
