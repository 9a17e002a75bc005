"""The options of the middleware: checked once, when the application starts."""

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
from token_limit_core.upgrade import check_upgrade_url

Resolver = Callable[[HTTPConnection], Any]
Answer = Callable[[HTTPConnection, Decision], Response | Awaitable[Response]]
Page = Callable[[dict[str, Any]], str]

NAMES = {"resolver": "TENANT_RESOLVER", "upgrade_page": "UPGRADE_RESPONSE"}
"""Options that have a name of their own here, and the setting whose rule holds for them."""

KEY = "token_limit"
"""Where a connection's ASGI scope has the options of the middleware it came through."""


@dataclass(frozen=True, slots=True)
class Options:
    """What one `TokenLimitMiddleware` was given; `meter` is made from the options of `MeterConfig` where none was.

    Raises `ConfigurationError` for an option that cannot work.
    """

    meter: Meter
    resolver: Resolver | None = None
    user_tenant_attributes: Sequence[str] = ()
    upgrade_url: str | None = None
    upgrade_response: Answer | None = None
    upgrade_page: Page | None = None
    peek_streams: bool = False
    render_swallowed_refusals: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.meter, Meter):
            raise ConfigurationError(f"meter: {self.meter!r} is not a Meter; give Meter(MeterConfig(...)) or none")
        for name in fields(self):
            if (setting := SETTINGS.get(NAMES.get(name.name, name.name.upper()))) is not None:
                check_value(setting, getattr(self, name.name), name.name)
        if self.upgrade_url is not None:
            check_upgrade_url(self.upgrade_url)


def make_meter(meter: Meter | None, config: Mapping[str, Any]) -> Meter:
    """Return the Meter given, or one made from the options of `MeterConfig`; not both.

    Raises `ConfigurationError` naming an option that is unknown or cannot work.
    """
    unknown = sorted(set(config) - set(CONFIG_FIELDS))
    if unknown:
        raise ConfigurationError(
            f"TokenLimitMiddleware has no option {unknown[0]!r}; besides its own it takes those of MeterConfig: "
            f"{', '.join(CONFIG_FIELDS)}"
        )
    if meter is None:
        return Meter(MeterConfig(**config))
    if config:
        raise ConfigurationError(f"meter: give a Meter or {', '.join(sorted(config))}, not both")
    return meter


def options_of(connection: HTTPConnection) -> Options:
    """Return the options of the middleware that a request or WebSocket came through.

    Raises `ConfigurationError` when it came through none.
    """
    options = connection.scope.get(KEY)
    if not isinstance(options, Options):
        raise ConfigurationError("this request came through no TokenLimitMiddleware; app.add_middleware() it")
    return options


def get_meter(connection: HTTPConnection) -> Meter:
    """Return the application's Meter, given a request or WebSocket."""
    return options_of(connection).meter
