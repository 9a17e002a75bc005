"""The options of the middleware, validated once when the application starts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response

from token_limit_core import Meter, MeterConfig
from token_limit_core.config import CONFIG_FIELDS
from token_limit_core.config.rules import check_value
from token_limit_core.config.table import SETTINGS
from token_limit_core.errors import ConfigurationError
from token_limit_core.limits import Decision
from token_limit_core.runtime.links import check_support_url, check_upgrade_url

Resolver = Callable[[HTTPConnection], Any]
Answer = Callable[[HTTPConnection, Decision], Response | Awaitable[Response]]
Page = Callable[[dict[str, Any]], str]

NAMES = {"resolver": "TENANT_RESOLVER", "upgrade_page": "UPGRADE_RESPONSE"}
"""Options whose setting has another name; the rule of that setting validates them."""

KEY = "token_limit"
"""The key in the ASGI scope of a connection under which the middleware puts its options."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one `TokenLimitMiddleware`.

    Raises `ConfigurationError` for an invalid option.
    """

    meter: Meter
    resolver: Resolver | None = None
    user_tenant_attributes: Sequence[str] = ()
    upgrade_url: str | None = None
    upgrade_response: Answer | None = None
    upgrade_page: Page | None = None
    peek_streams: bool = False
    render_swallowed_refusals: bool = False
    support_url: str | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.meter, Meter):
            raise ConfigurationError(
                f"meter: invalid value {self.meter!r}; expected a Meter or None, for example Meter(MeterConfig(...))"
            )
        for name in fields(self):
            if (setting := SETTINGS.get(NAMES.get(name.name, name.name.upper()))) is not None:
                check_value(setting, getattr(self, name.name), name.name)
        if self.upgrade_url is not None:
            check_upgrade_url(self.upgrade_url)
        if self.support_url is not None:
            check_support_url(self.support_url)


def make_meter(meter: Meter | None, config: Mapping[str, Any]) -> Meter:
    """Return the given Meter, or make one from the options of `MeterConfig`.

    Raises `ConfigurationError` for an unknown or invalid option, and if both are given.
    """
    unknown = sorted(set(config) - set(CONFIG_FIELDS))
    if unknown:
        raise ConfigurationError(
            f"{unknown[0]}: unknown option of TokenLimitMiddleware; besides its own it accepts those of MeterConfig: "
            f"{', '.join(CONFIG_FIELDS)}"
        )
    if meter is None:
        return Meter(MeterConfig(**config))
    if config:
        raise ConfigurationError(f"meter: expected a Meter or {', '.join(sorted(config))}, not both")
    return meter


def options_of(connection: HTTPConnection) -> Options:
    """Return the options of the middleware around a request or WebSocket.

    Raises `ConfigurationError` without a `TokenLimitMiddleware`.
    """
    options = connection.scope.get(KEY)
    if not isinstance(options, Options):
        raise ConfigurationError(
            "this request has no TokenLimitMiddleware; add it with app.add_middleware(TokenLimitMiddleware)"
        )
    return options


def get_meter(connection: HTTPConnection) -> Meter:
    """Return the Meter of the middleware around a request or WebSocket."""
    return options_of(connection).meter
