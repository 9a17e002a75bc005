"""MeterConfig: how one application meters."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal

from .errors import ConfigurationError
from .events import LLMEvent
from .limits import Money, parse_amount, parse_choice
from .stores.base import Store
from .stores.records import HOLD_SECONDS
from .transport import endpoints


@dataclass
class MeterConfig:
    """Settings of a Meter; names and defaults are a public contract (SPEC 1.2).

    With `url` alone limits and ledger live at that backend; `spool` names a file that keeps events until it has them.
    Intervals and TTLs are seconds; `clock` returns unix seconds. `default_limit_usd` is the monthly limit that a tenant
    starts with. `capture_content` puts the prefix and suffix of fill-in-the-middle calls on their events, which else
    have their lengths; no other text is ever kept. Raises `ConfigurationError` for what cannot work.
    """

    api_key: str | None = None
    url: str | None = None
    flush_interval: float = 5.0
    max_batch_size: int = 50
    max_queue_size: int = 1000
    limit_check_cache_ttl: float = 5.0
    debug: bool = False
    raise_on_error: bool = False
    on_event: Callable[[LLMEvent], None] | None = None
    on_flush_error: Callable[[Exception], None] | None = None
    patches: Sequence[str] | None = None
    store: Store | str | None = None
    hosts: Mapping[str, str] = field(default_factory=dict)
    thresholds_url: str | None = None
    check_url: str | None = None
    spool: str | None = None
    default_limit_usd: Money | None = None
    on_no_tenant: Literal["allow", "refuse"] = "allow"
    on_unguarded: Literal["warn", "refuse", "ignore"] = "warn"
    capture_content: bool = False
    hold_seconds: float = HOLD_SECONDS
    clock: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        parse_choice(self.on_no_tenant, ("allow", "refuse"), "on_no_tenant")
        parse_choice(self.on_unguarded, ("warn", "refuse", "ignore"), "on_unguarded")
        if self.default_limit_usd is not None:
            parse_amount(self.default_limit_usd, "default_limit_usd")
        for name in ("flush_interval", "max_batch_size", "max_queue_size", "hold_seconds"):
            if not _is_number(getattr(self, name)) or not getattr(self, name) > 0:
                raise ConfigurationError(f"{name}: {getattr(self, name)!r} must be a number above 0")
        for name in ("debug", "raise_on_error"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name}: {getattr(self, name)!r} must be True or False")
        for name in ("on_event", "on_flush_error"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise ConfigurationError(f"{name}: {getattr(self, name)!r} is not callable")
        if isinstance(self.patches, str):
            raise ConfigurationError(f"patches: {self.patches!r} must be a list, such as [{self.patches!r}]")
        if self.patches is not None and not are_names(self.patches):
            raise ConfigurationError(f"patches: {self.patches!r} must be a list of names, such as ['openai'], or None")
        if not isinstance(self.hosts, Mapping) or not are_names([*self.hosts, *self.hosts.values()]):
            raise ConfigurationError(f"hosts: {self.hosts!r} must be a dict such as {{'127.0.0.1:8010': 'openai'}}")
        self.hosts = {host.lower(): provider for host, provider in self.hosts.items()}
        if self.url is not None:
            endpoints(self.url, self.thresholds_url, self.check_url)
        if self.limits_are_remote and self.default_limit_usd is not None:
            raise ConfigurationError("default_limit_usd: a remote backend keeps the limits; set the default there")
        if self.spool is not None and not self.limits_are_remote:
            raise ConfigurationError("spool: it keeps events for a remote backend; set `url`, and no `store`")

    @property
    def limits_are_remote(self) -> bool:
        """Whether limits and ledger live at the backend: there is a `url` and no local `store`."""
        return self.url is not None and self.store is None


def are_names(value: object) -> bool:
    """Tell whether a setting is a list, tuple or set of texts, none of them empty."""
    return isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(name, str) and name for name in value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


CONFIG_FIELDS = tuple(f.name for f in fields(MeterConfig))
