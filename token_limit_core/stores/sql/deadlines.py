"""Let statements on a database driver's connection fail at the deadline of the thread, though the server hangs.

A time-out of the connection would also end long reports and migrations. Only admission and settling have a deadline.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from functools import partial
from typing import Any

from ...runtime.deadline import time_left

LEAST_SECONDS = 0.001
"""A time-out of 0 has another meaning in drivers."""


def bound(connection: Any) -> None:
    """Give the next statements on a connection the time that is left to this thread, or as long as they take.

    Known drivers: psycopg, and PyMySQL. The others, such as mysqlclient, only have time-outs of the connection.
    """
    left = time_left()
    driver = type(connection).__module__.partition(".")[0]
    if driver == "psycopg":
        if left is not None:
            connection.wait = partial(_wait, connection, time.monotonic() + left)
        elif "wait" in vars(connection):
            del connection.wait
    elif driver == "pymysql":
        connection._read_timeout = connection._write_timeout = None if left is None else max(LEAST_SECONDS, left)


def _wait(connection: Any, at: float, work: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
    """Do what psycopg's `Connection.wait` does, until a deadline."""
    return type(connection).wait(connection, _until(connection, at, work), *args, **options)


def _until(connection: Any, at: float, work: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Pass a generator of psycopg's through; psycopg sends 0 into it every tenth of a second while nothing happens."""
    from psycopg import OperationalError

    try:
        wanted = next(work)
        while True:
            ready = yield wanted
            if not ready and time.monotonic() >= at:
                connection.close()  # what it was to answer may still come
                raise OperationalError("the server did not answer in time")
            wanted = work.send(ready)
    except StopIteration as end:
        return end.value
