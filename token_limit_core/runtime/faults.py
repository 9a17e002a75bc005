"""Our own faults: the base errors, and how a fault is logged, swallowed or re-raised.

`internal_errors()` keeps the library's own faults away from the host application. A refusal and a misconfiguration
are raised on purpose, outside of it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from reprlib import Repr

logger: logging.Logger = logging.getLogger("token_limit")


class TokenLimitError(Exception):
    """Base of everything this library raises."""


class ConfigurationError(TokenLimitError, ValueError):
    """A setting is wrong; the message names the setting and the cure."""


class StoreError(TokenLimitError):
    """The store cannot be reached or answered with a fault."""


class StoreBlocked(TokenLimitError):
    """A test has blocked or mocked the database of the store. It is not away: nothing is kept or tried again."""


class StoreBusy(StoreError):
    """The store answers, but its locks were not free in time: it is busy, not away."""


_short = Repr()
_short.maxstring = _short.maxother = _short.maxlong = 80


def shown(value: object) -> str:
    """Write a value for a message; a long one shortened."""
    return _short.repr(value)


_strict = False


def raise_on_error(enabled: bool) -> None:
    """Re-raise the library's own faults everywhere in this process (`MeterConfig.raise_on_error`)."""
    global _strict
    _strict = enabled


def should_raise() -> bool:
    """Tell whether own faults are re-raised: under pytest, or when configured."""
    return _strict or "PYTEST_CURRENT_TEST" in os.environ


@contextmanager
def internal_errors(doing: str) -> Iterator[None]:
    """Log and swallow the library's own faults in production; re-raise them under pytest.

    Never put a host call or a refusal inside.
    """
    try:
        yield
    except Exception:
        report(doing)


def report(doing: str) -> None:
    """Log the exception being handled as ours, and re-raise it where faults must be seen."""
    if should_raise():
        raise
    log_fault("token-limit failed while %s; the application goes on", doing)


def log_fault(message: str, *args: object) -> None:
    """Log the exception being handled, with its causes.

    Not with what was being handled when it came up: that may be the host's, such as a provider's error, whose message
    echoes prompts.
    """
    _leave_out_contexts(sys.exception(), set())
    logger.exception(message, *args, stacklevel=2)


def _leave_out_contexts(error: BaseException | None, seen: set[int]) -> None:
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__context__ = None
        for part in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
            _leave_out_contexts(part, seen)
        error = error.__cause__
