"""MeterConfig: how one application meters."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from ..delivery.addresses import endpoints
from ..events import LLMEvent
from ..limits import Decision
from ..limits.notices import Notice
from ..money import Money
from ..pricing.own import OwnPrice, parse_prices
from ..runtime.clock import system_time
from ..runtime.faults import ConfigurationError
from ..stores.contract import Store
from ..stores.records import HOLD_SECONDS
from .rules import check_clock, check_value
from .table import METER_SETTINGS


@dataclass
class MeterConfig:
    """Settings of a Meter; names and defaults are a public contract (SPEC 1.2).

    With `url` alone limits and ledger live at that backend; `spool` names a file that keeps events until it has them.
    Intervals and TTLs are seconds; `clock` returns unix seconds. `default_limit_usd` is the monthly limit that a tenant
    starts with. `capture_content` puts the prefix and suffix of fill-in-the-middle calls on their events, which else
    have their lengths; no other text is ever kept. `debug` logs each event at level INFO; `raise_on_error` holds for
    the whole process, until it ends. Raises `ConfigurationError` for what cannot work.
    """

    api_key: str | None = field(default=None, repr=False)
    url: str | None = field(default=None, repr=False)  # each URL may have a password
    flush_interval: float = 5.0
    max_batch_size: int = 50
    max_queue_size: int = 1000
    limit_check_cache_ttl: float = 5.0
    debug: bool = False
    raise_on_error: bool = False
    on_event: Callable[[LLMEvent], None] | None = None
    on_refusal: Callable[[Decision, Any], None] | None = None
    on_threshold: Callable[[Notice], None] | None = None
    on_flush_error: Callable[[Exception], None] | None = None
    patches: Sequence[str] | None = None
    store: Store | str | None = field(default=None, repr=False)
    hosts: Mapping[str, str] = field(default_factory=dict)
    prices: Mapping[str, OwnPrice] = field(default_factory=dict)
    markup: Callable[[LLMEvent], Money | None] | None = None
    thresholds: Sequence[int] = (50, 80, 100)
    webhook_url: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    thresholds_url: str | None = field(default=None, repr=False)
    check_url: str | None = field(default=None, repr=False)
    spool: str | None = None
    default_limit_usd: Money | None = None
    default_plan: str | Callable[[str], str | None] | None = None
    on_no_tenant: str = "allow"
    busy_wait: float = 0.0
    lease_seconds: float = 0.0
    on_unguarded: Literal["warn", "refuse", "ignore"] = "warn"
    on_overrun: Literal["finish", "cut"] = "finish"
    on_unpriced: Literal["assume", "refuse", "free"] = "assume"
    fallback_price: tuple[Money, Money] = (5, 25)
    capture_content: bool = False
    propagate_threads: bool = True
    on_store_error: Literal["allow", "refuse"] = "allow"
    outage_allowance_usd: Money = 1
    store_timeout: float = 5.0
    journal: str | None = None
    hold_seconds: float = HOLD_SECONDS
    clock: Callable[[], float] = system_time

    def __post_init__(self) -> None:
        parse_prices(self.prices)  # which says more than the rule in the table
        for name, setting in METER_SETTINGS.items():
            check_value(setting, getattr(self, name), name)
        self.hosts = {host.lower().rstrip("/"): provider for host, provider in self.hosts.items()}
        check_clock(self.clock)
        if self.api_key is not None and self.url is None and self.store is None:
            raise ConfigurationError(
                "api_key: there is no backend to use it at; give `url`, for example "
                "'https://limits.example.com/token-limit/events', or `store`, for example 'sqlite:///token_limit.db'"
            )
        if self.url is not None:
            endpoints(self.url, self.thresholds_url, self.check_url)
        if (self.webhook_url is None) != (self.webhook_secret is None):
            missing = "webhook_url" if self.webhook_url is None else "webhook_secret"
            raise ConfigurationError(f"{missing}: missing; a webhook needs webhook_url and webhook_secret")
        for name in ("default_limit_usd", "default_plan"):
            if self.limits_are_remote and getattr(self, name) is not None:
                raise ConfigurationError(f"{name}: a remote backend keeps the limits; set the default there")
        if self.spool is not None and not self.limits_are_remote:
            raise ConfigurationError("spool: it keeps events for a remote backend; set `url`, and no `store`")

    @property
    def limits_are_remote(self) -> bool:
        """Whether limits and ledger live at the backend: there is a `url` and no local `store`."""
        return self.url is not None and self.store is None


CONFIG_FIELDS = tuple(f.name for f in fields(MeterConfig))
