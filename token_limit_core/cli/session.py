"""What all commands share: the Meter that they work on, and errors of the command line in place of exceptions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Concatenate, NamedTuple, ParamSpec

import click

from ..meter import Meter
from ..runtime.faults import ConfigurationError, StoreError
from ..stores.contract import Store

P = ParamSpec("P")

BY = "command line"
"""Who changed a limit, as the history of changes names it."""


class Source(NamedTuple):
    """The `obj` of a group of commands.

    `get_meter` returns the Meter that they work on. `payer_of` returns the tenant that a user of the application pays
    as; None outside of an application.
    """

    get_meter: Callable[[], Meter]
    payer_of: Callable[[str], str | None] | None = None


def with_meter(function: Callable[Concatenate[Meter, P], None]) -> Callable[P, None]:
    """Give a command its Meter. A SQLite file that does not exist is an error: to open it would create it."""
    return _with_meter(function, require_store)


def with_new_meter(function: Callable[Concatenate[Meter, P], None]) -> Callable[P, None]:
    """Give a command its Meter, over a store that may still be empty."""
    return _with_meter(function, lambda store: None)


def _with_meter(function: Callable[Concatenate[Meter, P], None], check: Callable[[Store], Any]) -> Callable[P, None]:
    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        source = click.get_current_context().find_object(Source)
        assert source is not None
        with complaints():
            meter = source.get_meter()
            check(meter.store)
            function(meter, *args, **kwargs)

    return run


def require_store(store: Store) -> None:
    """Raise `ConfigurationError` for a database file that does not exist."""
    if not store.exists():
        raise ConfigurationError(
            f"store: there is no file {store.location}; run the command in the application's folder, or name the "
            "application's store with --store or TOKEN_LIMIT_STORE, for example --store sqlite:////srv/app/token_limit.db"
        )


@contextmanager
def complaints() -> Iterator[None]:
    """Turn an exception of ours into an error of the command line: exit code 2 for arguments, 1 for the store."""
    try:
        yield
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    except StoreError as error:
        raise click.ClickException(str(error)) from error
