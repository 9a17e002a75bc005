"""The language of texts that people read: one gettext catalogue for all packages; English is in the code."""

from __future__ import annotations

import gettext
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path

ENGLISH = "en"
DOMAIN = "token_limit"
FOLDER = Path(__file__).parents[1] / "locale"

_language: ContextVar[str] = ContextVar("token_limit_language", default=ENGLISH)


def translate(text: str) -> str:
    """Return a text in the language in force; one without a translation stays English."""
    language = _language.get()
    return text if language == ENGLISH or not text else _catalogue(language).gettext(text)


def language() -> str:
    """Return the code of the language in force."""
    return _language.get()


@contextmanager
def speaking(code: str | None) -> Iterator[None]:
    """Use a language in a block; English for one that there is no catalogue of."""
    base = (code or "").lower().replace("_", "-").partition("-")[0]
    token = _language.set(base if base in languages() else ENGLISH)
    try:
        yield
    finally:
        _language.reset(token)


def preferred(accept: str | None) -> str:
    """Return the language that an `Accept-Language` header prefers of those there are."""
    ranked = []
    for place, part in enumerate((accept or "").lower().split(",")):
        code, _, weight = part.strip().partition(";q=")
        base = code.partition("-")[0]
        if base in languages() and _quality(weight) > 0:
            ranked.append((-_quality(weight), place, base))
    return min(ranked)[2] if ranked else ENGLISH


@cache
def languages() -> frozenset[str]:
    """Return the codes of the languages that there are."""
    return frozenset({ENGLISH, *(path.parent.parent.name for path in FOLDER.glob(f"*/LC_MESSAGES/{DOMAIN}.mo"))})


def _quality(text: str) -> float:
    try:
        return float(text or 1)
    except ValueError:
        return 0.0


@cache
def _catalogue(code: str) -> gettext.NullTranslations:
    return gettext.translation(DOMAIN, FOLDER, [code], fallback=True)
