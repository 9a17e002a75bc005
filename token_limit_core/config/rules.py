"""What a setting may hold: tests of values, and the error for a wrong one."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any, NamedTuple

from ..money import parse_amount
from ..pricing.own import parse_prices
from ..runtime.faults import ConfigurationError
from ..stores.columns import PLAN_WIDTH

LONGEST_SECONDS = 366 * 86400
MOST_EVENTS = 10**9
LATEST = 32_503_680_000
"""The year 3000 in unix seconds: a clock in milliseconds is beyond it."""

CORE, DJANGO, FLASK, STARLETTE = "core", "django", "flask", "starlette"
EVERYWHERE = (CORE, DJANGO, FLASK, STARLETTE)
FRAMEWORKS = (DJANGO, FLASK, STARLETTE)


class Setting(NamedTuple):
    """One setting: the test of its value, what is expected in words, an example, and a line for the documentation.

    `where` names the packages that have it; those with `CORE` are fields of `MeterConfig`. A framework also takes the
    dotted path of a `dotted` one. The value of a `secret` one never appears in a message.
    """

    accepts: Callable[[Any], bool]
    expected: str
    example: str
    doc: str
    default: Any = None
    where: tuple[str, ...] = EVERYWHERE
    dotted: bool = False
    secret: bool = False

    def problem(self, value: Any) -> str:
        """Describe a value that is not accepted."""
        return "invalid value" if self.secret else f"invalid value {value!r}"

    @property
    def hint(self) -> str:
        """Say what is expected, with an example."""
        return f"expected {self.expected}, for example {self.example}"


def check_value(setting: Setting, value: Any, name: str, *, dotted: bool = False) -> None:
    """Raise `ConfigurationError` for a value that a setting does not accept; `dotted` allows a dotted path too."""
    if not (setting.accepts(value) or (dotted and setting.dotted and isinstance(value, str))):
        raise ConfigurationError(f"{name}: {setting.problem(value)}; {setting.hint}")


def check_clock(clock: Callable[[], float]) -> None:
    """Raise `ConfigurationError` for a clock that does not return unix seconds, such as one in milliseconds."""
    now = clock()
    if isinstance(now, bool) or not isinstance(now, (int, float)) or not 0 <= now <= LATEST:
        raise ConfigurationError(
            f"clock: invalid time {now!r}; expected unix seconds between 0 and {LATEST:,}, for example 1800021600"
        )


def hint_for(key: str, known: Iterable[str]) -> str:
    """Suggest the setting that an unknown key probably means, and list those that exist."""
    known = sorted(known)
    close = get_close_matches(key.upper(), known, n=1)
    return (f"Did you mean {close[0]!r}? " if close else "") + f"Known keys are: {', '.join(known)}."


def load(value: Any, name: str) -> Any:
    """Return the callable that a setting gives, as it is or by its dotted path; None stays None.

    Raises `ConfigurationError` for a path that cannot be imported or leads to nothing callable.
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


def is_bool(value: Any) -> bool:
    """Return whether a value is True or False."""
    return isinstance(value, bool)


def is_text(value: Any) -> bool:
    """Return whether a value is a text that is not empty."""
    return isinstance(value, str) and bool(value)


def is_callable_or_none(value: Any) -> bool:
    """Return whether a value is None or can be called."""
    return value is None or callable(value)


def is_plan_or_none(value: Any) -> bool:
    """Return whether a value is None, can be called, or can be the name of a plan."""
    return value is None or callable(value) or (is_text(value) and len(value) <= PLAN_WIDTH and value == value.strip())


def is_text_or_none(value: Any) -> bool:
    """Return whether a value is None or a text that is not empty."""
    return value is None or is_text(value)


def is_header_value_or_none(value: Any) -> bool:
    """Return whether a value is None or a text that can be sent in an HTTP header: visible ASCII, no spaces around."""
    return value is None or (is_text(value) and value.isascii() and value.isprintable() and value == value.strip())


def is_http_url_or_none(value: Any) -> bool:
    """Return whether a value is an http(s) URL, or None."""
    return value is None or (is_text(value) and value.startswith(("http://", "https://")) and value.isprintable())


def are_percents(value: Any) -> bool:
    """Return whether a value is a list of whole percents, which may be empty."""
    return isinstance(value, (list, tuple)) and all(type(one) is int and 1 <= one <= 1000 for one in value)


def are_names(value: Any) -> bool:
    """Return whether a value is a list, tuple or set of texts."""
    return isinstance(value, (list, tuple, set, frozenset)) and all(map(is_text, value))


def are_hosts(value: Any) -> bool:
    """Return whether a value maps hosts, without a scheme, to providers."""
    if not isinstance(value, Mapping) or not are_names([*value, *value.values()]):
        return False
    return not any("://" in host or host.startswith("/") for host in value)


def are_prices(value: Any) -> bool:
    """Return whether a value maps models to prices."""
    try:
        parse_prices(value)
    except ConfigurationError:
        return False
    return all(is_text(model) for model in value)


def is_amount_or_none(value: Any) -> bool:
    """Return whether a value is None or an amount in US dollars."""
    try:
        return value is None or parse_amount(value) >= 0
    except ConfigurationError:
        return False


def are_two_amounts(value: Any) -> bool:
    """Return whether a value is a pair of amounts in US dollars."""
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and all(v is not None and is_amount_or_none(v) for v in value)
    )


def are_seconds(value: Any) -> bool:
    """Return whether a value is a number of seconds from 0 to a year."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and 0 <= value <= LONGEST_SECONDS


def are_positive_seconds(value: Any) -> bool:
    """Return whether a value is a number of seconds above 0, up to a year."""
    return are_seconds(value) and value > 0


POLICY_WORDS = frozenset(
    {"assume", "block", "deny", "drop", "error", "forbid", "free", "ignore", "maybe", "no", "none", "raise", "reject"}
    | {"skip", "true", "false", "warn", "yes"}
)
"""Not accepted as ids of tenants: they look like policies."""


def is_payer(value: Any) -> bool:
    """Return whether a value is "allow", "refuse" or the id of a tenant, and no misspelt policy."""
    if not is_text(value) or len(value) > 255 or not any(map(str.isalnum, value)):
        return False
    policies = ("allow", "refuse")
    word = value.strip().lower()
    return value in policies or not (word in POLICY_WORDS or get_close_matches(word, policies, cutoff=0.8))


def is_number_of_events(value: Any) -> bool:
    """Return whether a value is a whole number from 1 to a billion."""
    return type(value) is int and 0 < value <= MOST_EVENTS


def is_one_of(*names: str) -> Callable[[Any], bool]:
    """Make the test for one of some names."""
    return lambda value: is_text(value) and value in names
