"""A pseudo-language: each letter of a text that is translated becomes a wide one. What stays ASCII is not translated.

The pages are asked for in German, whose catalogue this stands in for. It remembers each text that it was asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from unittest.mock import patch

from babel.messages.pofile import read_po

from token_limit_core.runtime import language

GERMAN = {"accept-language": "de"}
READ = ("alt", "aria-label", "data-confirm", "data-label", "placeholder", "title")
"""Attributes that people read, or hear."""
UNREAD = ("script", "style", "code")
_WIDE = re.compile("[Ａ-Ｚａ-ｚ]")
WORD = re.compile(r"[A-Za-z]{2,}")


class PseudoCatalogue:
    """Translates each text into wide letters; placeholders and what has no letter stay."""

    def __init__(self) -> None:
        self.asked: set[str] = set()

    def gettext(self, text: str) -> str:
        """Translate a text."""
        self.asked.add(text)
        return "".join(part if part.startswith("{") else _wide(part) for part in re.split(r"({\w*})", text))

    def asked_and_missing(self) -> set[str]:
        """Return the texts that were asked for and that German has no translation of."""
        with (language.FOLDER / "de/LC_MESSAGES/token_limit.po").open("rb") as file:
            german = read_po(file, locale="de")
        return {text for text in self.asked if text not in german and not _WIDE.search(text)}


@contextmanager
def pseudo_german() -> Iterator[PseudoCatalogue]:
    """Put the pseudo-language in the place of German."""
    made = PseudoCatalogue()
    with patch.object(language, "_catalogue", lambda code: made):
        yield made


def english_of(page: str, *data: str) -> set[str]:
    """Return the words of a page, or of a text, that were not translated; those of `data` need no translation."""
    reader = _Reader()
    reader.feed(page)
    known = {word for text in data for word in WORD.findall(text)}
    return {word for text in reader.texts for word in WORD.findall(text)} - known


def _wide(text: str) -> str:
    return "".join(chr(ord(each) + 0xFEE0) if each.isascii() and each.isalpha() else each for each in text)


class _Reader(HTMLParser):
    """Collects the texts of a page that people read."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self._unread = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._unread += tag in UNREAD
        self.texts += [value or "" for name, value in attrs if name in READ]

    def handle_endtag(self, tag: str) -> None:
        self._unread -= tag in UNREAD

    def handle_data(self, data: str) -> None:
        if not self._unread:
            self.texts.append(data)
