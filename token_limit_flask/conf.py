"""The settings: `init_app` reads and validates the `TOKEN_LIMIT_` keys of the app's config once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from flask import Flask, Request

from token_limit_core import Meter, MeterConfig
from token_limit_core.config.rules import FLASK, check_value, hint_for, load
from token_limit_core.config.table import meter_options, settings_of
from token_limit_core.errors import ConfigurationError
from token_limit_core.runtime.links import check_support_url, check_upgrade_url

if TYPE_CHECKING:
    from token_limit_core.limits import Decision

PREFIX = "TOKEN_LIMIT_"


@dataclass(frozen=True)
class Settings:
    """The settings of requests; `MeterConfig` has those of LLM calls."""

    enabled: bool = True
    tenant_resolver: Callable[[Request], Any] | None = None
    user_tenant_attributes: Sequence[str] = ()
    upgrade_url: str | None = None
    support_url: str | None = None
    upgrade_template: str = "token_limit/upgrade.html"
    upgrade_response: Callable[[Request, Decision], Any] | None = None
    peek_streams: bool = False
    render_swallowed_refusals: bool = False


KNOWN = settings_of(FLASK)


def read(app: Flask) -> tuple[Settings, Meter]:
    """Read the config of an app. Raises `ConfigurationError` that names an invalid key and the expected value."""
    given = {key.removeprefix(PREFIX): value for key, value in app.config.items() if key.startswith(PREFIX)}
    for key, value in given.items():
        if key not in KNOWN:
            raise ConfigurationError(f"{PREFIX}{key} is not a setting. {hint_for(key, KNOWN)}")
        check_value(KNOWN[key], value, PREFIX + key, dotted=True)
        if KNOWN[key].dotted:
            given[key] = load(value, PREFIX + key)
    _check_async(app, given.get("TENANT_RESOLVER"))
    try:
        if given.get("UPGRADE_URL") is not None:
            check_upgrade_url(given["UPGRADE_URL"])
        if given.get("SUPPORT_URL") is not None:
            check_support_url(given["SUPPORT_URL"])
        of_requests = {field.name: given[key] for field in fields(Settings) if (key := field.name.upper()) in given}
        return Settings(**of_requests), Meter(MeterConfig(store=given.get("STORE"), **meter_options(given)))
    except ConfigurationError as error:
        raise ConfigurationError(_with_key(str(error))) from error


def _with_key(message: str) -> str:
    """Replace the field name at the start of a message from core (`hosts: ...`) by the config key."""
    field, separator, rest = message.partition(":")
    return f"{PREFIX}{field.upper()}:{rest}" if separator and field.upper() in KNOWN else message


def _check_async(app: Flask, resolver: Any) -> None:
    """Check at start-up, not at the first request, that Flask can run an async resolver."""
    if inspect.iscoroutinefunction(resolver):
        try:
            app.ensure_sync(resolver)
        except RuntimeError as error:
            raise ConfigurationError(
                f"{PREFIX}TENANT_RESOLVER: invalid value {resolver!r}; an async function cannot run here: {error}"
            ) from error
