"""Filters: which calls a limit is for, by model, provider, feature and user.

A filter is stored as text, such as `model=gpt-4*&user=*`: the form of a URL's query, in one order, so that equal
filters are equal texts. The empty text is for all calls.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, quote

from ..runtime.faults import ConfigurationError, shown

EACH = "*"
"""The user of a limit that each user has on its own."""

LONGEST_FILTER = 255
"""Characters that stores keep of a filter."""

WIDTHS = {"feature": 255, "model": 255, "provider": 64, "user": 255}
"""The longest values that stores keep of events, in characters: nothing longer is ever matched."""


class Facts(NamedTuple):
    """What filters look at in a call or an event. `requested` is the model asked for, where another one answered."""

    provider: str = ""
    model: str = ""
    user: str | None = None
    feature: str | None = None
    requested: str | None = None


NO_FACTS = Facts()


class Filter(NamedTuple):
    """Patterns that a call must match; None matches every call.

    Provider and model are compared without regard to case; `*` in a pattern stands for any text. A user is one user,
    or `*` for each user on its own.
    """

    feature: str | None = None
    model: str | None = None
    provider: str | None = None
    user: str | None = None

    def __str__(self) -> str:
        """Return the stored form."""
        parts = zip(self._fields, self, strict=True)
        return "&".join(f"{name}={quote(value, safe='*/:@ ')}" for name, value in parts if value is not None)

    def matches(self, facts: Facts) -> bool:
        """Return whether the filter is for a call; what a call does not have is never matched."""
        if self.user is not None and not (facts.user if self.user == EACH else facts.user == self.user):
            return False
        if self.feature is not None and not (facts.feature and _fits(self.feature, facts.feature)):
            return False
        if self.provider is not None and not _fits(self.provider.lower(), facts.provider.lower()):
            return False
        if self.model is None:
            return True
        pattern, asked = self.model.lower(), facts.requested
        return _fits(pattern, facts.model.lower()) or (asked is not None and _fits(pattern, asked.lower()))


@lru_cache(maxsize=4096)
def parse_filter(text: str) -> Filter:
    """Read the stored form of a filter; what an unknown version has added is left out."""
    known = {name: value for name, value in parse_qsl(text, keep_blank_values=True) if name in Filter._fields}
    return Filter(**known)


def filter_of(
    *,
    user: str | int | None = None,
    model: str | None = None,
    provider: str | None = None,
    feature: str | None = None,
) -> str:
    """Return the stored form of a filter; None is for every call.

    Raises `ConfigurationError`, naming the argument, for what no call can match.
    """
    given = {"feature": feature, "model": model, "provider": provider, "user": user}
    text = str(Filter(**{name: _parse(value, name) for name, value in given.items()}))
    if len(text) > LONGEST_FILTER:
        names = ", ".join(name for name, value in given.items() if value is not None)
        raise ConfigurationError(f"{names}: too long; a filter may have {LONGEST_FILTER} characters in all")
    return text


def _parse(value: object, name: str) -> str | None:
    if value is None:
        return None
    if name == "user" and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    possible = isinstance(value, str) and value == value.strip() and 1 <= len(value) <= WIDTHS[name]
    if not possible or not str(value).isprintable():
        expected = "a user's id, or '*' for each user" if name == "user" else "a name, or a pattern with '*'"
        example = {"user": "'alice'", "model": "'gpt-4*'", "provider": "'openai'", "feature": "'chat'"}[name]
        raise ConfigurationError(
            f"{name}: invalid value {shown(value)}, which no call can match; expected {expected}, for example {example}"
        )
    return str(value)


def _fits(pattern: str, text: str) -> bool:
    first, *others = pattern.split("*")
    if not others:
        return pattern == text
    *between, last = others
    if not text.startswith(first):
        return False
    place = len(first)
    for part in between:
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return text.endswith(last) and len(text) - len(last) >= place
