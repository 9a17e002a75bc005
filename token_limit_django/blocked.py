"""Databases that a test has blocked or mocked: calls in such a test are let through and recorded nowhere.

pytest-django blocks every database in a test without the mark `django_db`, and Django's test cases block those that
they do not list. A test that mocks the database counts what is done to its mock. The project is not at fault.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connections

from token_limit_core.runtime.faults import StoreBlocked

METHODS = ("connect", "cursor", "ensure_connection", "get_new_connection")


def is_blocked(alias: str) -> bool:
    """Return whether a test case has blocked the database of an alias in this thread, or mocked it."""
    connection: Any = connections[alias]
    if type(vars(connection).get("connect")).__module__ == "django.test.testcases":
        return True
    mock = sys.modules.get("unittest.mock")
    if mock is None:
        return False
    methods = (getattr(connection, name, None) for name in METHODS)
    return any(isinstance(each, mock.NonCallableMock) for each in (connections, connection, *methods))


@contextmanager
def noticed(alias: str) -> Iterator[None]:
    """Raise `StoreBlocked` for work on a database that a test has blocked or mocked."""
    if is_blocked(alias):
        raise StoreBlocked(f"the database {alias!r} is blocked or mocked by a test")
    try:
        yield
    except Exception as error:
        if not _is_of_a_test(error):
            raise
        raise StoreBlocked(f"the database {alias!r} is blocked by a test: {error}") from error


def _is_of_a_test(error: Exception) -> bool:
    if type(error).__name__ == "DatabaseOperationForbidden":
        return True
    return isinstance(error, RuntimeError) and str(error).startswith("Database access not allowed")  # pytest-django's
