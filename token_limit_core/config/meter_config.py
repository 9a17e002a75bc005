"""MeterConfig, and the one table of rules for what its fields and every framework's settings may hold."""

from __future__ import annotations

import pkgutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

from .delivery.transport import endpoints
from .events import LLMEvent
from .money import Money, parse_amount
from .runtime.faults import ConfigurationError
from .stores.contract import Store
from .stores.records import HOLD_SECONDS


class Rule(NamedTuple):
    """What a key may hold, as a test and in words."""

    accepts: Callable[[Any], bool]
    wanted: str
    secret: bool = False

    def shown(self, value: Any) -> str:
        """Write a value for a message; a secret is not written."""
        return "the value" if self.secret else repr(value)


def is_text(value: Any) -> bool:
    """Tell whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def _is_text_or_none(value: Any) -> bool:
    return value is None or is_text(value)


def _are_names(value: Any) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(map(is_text, value))


def _has_path(hosts: Iterable[str]) -> bool:
    return any("/" in host for host in hosts)


def _is_amount(value: Any) -> bool:
    try:
        return value is None or parse_amount(value) >= 0
    except ConfigurationError:
        return False


def _are_seconds(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value <= LONGEST_SECONDS


def _is_number_of_events(value: Any) -> bool:
    return type(value) is int and 0 < value <= MOST_EVENTS


def _one_of(*names: str) -> Rule:
    *others, last = map(repr, names)
    return Rule(lambda value: is_text(value) and value in names, f"{', '.join(others)} or {last}")


LONGEST_SECONDS = 366 * 86400
MOST_EVENTS = 10**9

BOOL = Rule(lambda value: isinstance(value, bool), "True or False")
SECONDS = Rule(lambda value: _are_seconds(value) and value > 0, "seconds, a year at most, such as 5")
HOOK = Rule(lambda value: value is None or callable(value), "a callable, or None")
CALLABLE = Rule(
    lambda value: value is None or isinstance(value, str) or callable(value),
    "a dotted path such as 'project.billing.tenant_of', a callable, or None",
)

RULES = {
    "ENABLED": BOOL,
    "STORE": Rule(
        lambda value: _is_text_or_none(value) or isinstance(value, Store),
        "a store URL such as 'sqlite:////var/lib/app/token_limit.db', a Store, or None for the default",
    ),
    "HOSTS": Rule(
        lambda value: isinstance(value, Mapping) and _are_names([*value, *value.values()]) and not _has_path(value),
        "a dict of provider by host, without scheme and path, such as {'127.0.0.1:8010': 'openai'}",
    ),
    "PATCHES": Rule(lambda value: value is None or _are_names(value), "a list such as ['openai'], or None for all"),
    "DEFAULT_LIMIT_USD": Rule(
        _is_amount, "US dollars a calendar month, from 0 to 10^9, such as 25, or None for no limit"
    ),
    "ON_NO_TENANT": _one_of("allow", "refuse"),
    "ON_UNGUARDED": _one_of("warn", "refuse", "ignore"),
    "CAPTURE_CONTENT": BOOL,
    "TENANT_RESOLVER": CALLABLE,
    "USER_TENANT_ATTRIBUTES": Rule(_are_names, "a list of attributes of the user, such as ['organization']"),
    "UPGRADE_URL": Rule(lambda value: value is None or isinstance(value, str), "a URL or a path such as '/billing/'"),
    "UPGRADE_TEMPLATE": Rule(is_text, "the name of a template, such as 'billing/upgrade.html'"),
    "UPGRADE_RESPONSE": CALLABLE,
    "URL": Rule(
        _is_text_or_none, "the URL that takes the events, such as 'https://limits.example.com/token-limit/events'"
    ),
    "THRESHOLDS_URL": Rule(_is_text_or_none, "a URL, or None for the one beside URL"),
    "CHECK_URL": Rule(_is_text_or_none, "a URL, or None for the one beside URL"),
    "API_KEY": Rule(_is_text_or_none, "the key that the backend gave you", secret=True),
    "SPOOL": Rule(_is_text_or_none, "the path of a file, such as '/var/lib/app/token_limit_spool.db'"),
    "FLUSH_INTERVAL": SECONDS,
    "MAX_BATCH_SIZE": Rule(_is_number_of_events, "a number of events, such as 50"),
    "MAX_QUEUE_SIZE": Rule(_is_number_of_events, "a number of events, such as 1000"),
    "LIMIT_CHECK_CACHE_TTL": Rule(_are_seconds, "seconds, a year at most, such as 5, or 0 to ask before every call"),
    "ON_FLUSH_ERROR": CALLABLE,
    "PEEK_STREAMS": BOOL,
    "ON_EVENT": CALLABLE,
    "DEBUG": BOOL,
    "RAISE_ON_ERROR": BOOL,
}
"""The keys that every framework's settings have."""

CALLABLES = tuple(key for key, rule in RULES.items() if rule is CALLABLE)
"""Those among them that may be given as a dotted path."""

METER_KEYS = (
    "HOSTS", "PATCHES", "DEFAULT_LIMIT_USD", "ON_NO_TENANT", "ON_UNGUARDED", "CAPTURE_CONTENT", "ON_EVENT", "DEBUG",
    "RAISE_ON_ERROR", "URL", "THRESHOLDS_URL", "CHECK_URL", "API_KEY", "SPOOL", "FLUSH_INTERVAL", "MAX_BATCH_SIZE",
    "MAX_QUEUE_SIZE", "LIMIT_CHECK_CACHE_TTL", "ON_FLUSH_ERROR",
)  # fmt: skip
"""Those among them that are meant for `MeterConfig`, beside the store."""

METER_RULES = {
    **{key.lower(): RULES[key] for key in ("STORE", *METER_KEYS)},
    "on_event": HOOK,
    "on_flush_error": HOOK,
    "hold_seconds": SECONDS,
    "clock": Rule(callable, "a callable that returns unix seconds, such as time.time"),
}
"""What the fields of `MeterConfig` may hold: a dotted path is for frameworks."""


def check_value(rule: Rule, value: Any, name: str) -> None:
    """Raise `ConfigurationError`, naming the setting and what to give, for a value that the rule does not accept."""
    if not rule.accepts(value):
        raise ConfigurationError(f"{name}: {rule.shown(value)} is of no use; give {rule.wanted}")


def hint_for(key: str, known: Iterable[str]) -> str:
    """Say which key was probably meant by one that does not exist, and which there are."""
    known = sorted(known)
    close = get_close_matches(key.upper(), known, n=1)
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known keys are: {', '.join(known)}."


def load(value: Any, name: str) -> Any:
    """Return the callable that a setting gives as it is or by its dotted path; None is none.

    Raises `ConfigurationError` for a path that leads to nothing that can be called.
    """
    if not isinstance(value, str):
        return value
    try:
        found = pkgutil.resolve_name(value)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"{name}: {value!r} cannot be imported: {error}") from error
    if not callable(found):
        raise ConfigurationError(f"{name}: {value!r} is not callable")
    return found


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
    store: Store | str | None = field(default=None, repr=False)  # its URL may have a password
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
        for name, rule in METER_RULES.items():
            check_value(rule, getattr(self, name), name)
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


CONFIG_FIELDS = tuple(f.name for f in fields(MeterConfig))
