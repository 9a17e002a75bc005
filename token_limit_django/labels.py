"""Names that Django's admin shows, in the language of the request. The texts are in core's catalogue."""

from __future__ import annotations

from django.utils.functional import lazy
from django.utils.translation import get_language

from token_limit_core.runtime.language import speaking, translate


def label(text: str) -> str:
    """Return a text that is translated each time it is shown."""
    return _lazily(text)


def _translated(text: str) -> str:
    with speaking(get_language()):
        return translate(text)


_lazily = lazy(_translated, str)
