"""The pages in another language: all texts are in the catalogue, and the browser's preference decides."""

from __future__ import annotations

import gettext
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po

import token_limit_core
from token_limit_core import upgrade, wording
from token_limit_core.console import actions, bulk, changes, event_details, fields, overview, pages, plans, queries
from token_limit_core.console.context import SAID
from token_limit_core.console.rendering import environment
from token_limit_core.limits.filters import Filter
from token_limit_core.runtime.language import ENGLISH, FOLDER, languages, preferred, speaking, translate
from token_limit_core.wording import FREQUENCY_LABELS, MODE_LABELS, REFUSAL_LABELS, STANDING_LABELS

from .mounts import Client

CONSOLE = Path(token_limit_core.__file__).parent / "console"
CALLS = re.compile(r"""\b_\((?:"([^"]+)"|'([^']+)')\)|(?:"([^"]+)"|'([^']+)')\|tr\b|translate\("([^"]+)"\)""")

MESSAGES = re.compile(
    r"""message\(\s*\d+, "([^"]+)"(?:, "([^"]+)")?|hint = "([^"]+)"|Field\("([^"]+)"(?:, "([^"]+)")?"""
)


def texts() -> Iterator[str]:
    """Yield every text that the pages translate."""
    core = [
        CONSOLE.parent / name
        for name in ("wording.py", "limits/decisions.py", "management/edits.py", "management/plan_edits.py")
    ]
    for path in (*CONSOLE.glob("*.py"), *CONSOLE.rglob("*.html"), *core):
        yield from (next(filter(None, found)) for found in CALLS.findall(path.read_text()))
    for path in CONSOLE.glob("*.py"):
        yield from (text for found in MESSAGES.findall(path.read_text()) for text in found if text)
    for words in upgrade.TEXTS.values():
        yield from words
    yield from (*upgrade.PERIODS.values(), *upgrade.LABELS.values(), *Filter._fields)
    yield from (*wording.MONTHS, *wording.SHORT_MONTHS, *wording.REFUSALS.values(), wording.ANY_LIMIT)
    yield from ("tokens", "token", "requests", "request")
    yield from (*wording.LIMIT_NAMES.values(), wording.NUMBER, wording.DATE, wording.MONEY_FORMAT)
    for labels in (FREQUENCY_LABELS, MODE_LABELS, REFUSAL_LABELS, STANDING_LABELS, queries.PERIODS, queries.MARKS,
                   event_details.TAGS, changes.NOTED):  # fmt: skip
        yield from labels.values()
    for group, names in event_details.GROUPS.items():
        yield from (group, *names.values())
    for action in actions.ACTIONS.values():
        yield from (action.title, action.lead, action.button)
    for field in (*fields.LIMIT_FIELDS.values(), *plans.FIELDS.values()):
        yield from filter(None, (field.label, field.hint, *(field.options or {}).values()))
    yield from (label for _, label in (*pages.PARTS, *overview.TOPS, *bulk.CHANGES.values()))
    yield from (text for name, text in SAID.items())


def source() -> Catalog:
    with (FOLDER / "de/LC_MESSAGES/token_limit.po").open("rb") as file:
        return read_po(file, locale="de")


@pytest.fixture
def german() -> Iterator[None]:
    with speaking("de"):
        yield


@pytest.mark.usefixtures("german")
def test_every_text_is_in_the_catalogue_with_its_placeholders() -> None:
    catalogue = source()
    assert sorted({text for text in texts() if text not in catalogue}) == []
    for message in catalogue:
        if message.id:
            assert message.string, message.id
            assert set(re.findall(r"{\w+}", message.id)) == set(re.findall(r"{\w+}", message.string))


def test_the_compiled_catalogue_is_that_of_the_text() -> None:
    compiled = gettext.translation("token_limit", FOLDER, ["de"])
    assert [m.id for m in source() if m.id and compiled.gettext(m.id) != m.string] == []


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("en-GB,en;q=0.9,de;q=0.8", "en"),
        ("fr,de;q=0.5", "de"),
        ("fr", "en"),
        ("de;q=x", "en"),
        ("", "en"),
        (None, "en"),
    ],
)
def test_the_browser_says_which_language(accept: str | None, language: str) -> None:
    assert languages() == {ENGLISH, "de"}
    assert preferred(accept) == language


def test_a_language_holds_in_its_block_only_and_another_is_english() -> None:
    with speaking("de-CH"):
        assert translate("Tenants") == "Mandanten"
        with speaking("xx"):
            assert translate("Tenants") == "Tenants"
    assert translate("Tenants") == "Tenants"


@pytest.mark.parametrize("path", ["", "tenants", "tenant?id=acme", "refusals", "events", "holds", "history", "limit"])
def test_a_page_is_german_for_who_prefers_it(client: Client, path: str) -> None:
    text = client.ask("GET", path, headers={"accept-language": "de-DE,de;q=0.9"}).text
    assert '<html lang="de">' in text
    assert "Mandanten</a>" in text
    assert "Jede Zeit nennt ihre Zeitzone" in text
    assert "Skip to the content" not in text


def test_a_page_that_was_first_read_in_german_is_english_for_the_next(client: Client) -> None:
    environment.cache_clear()
    assert "Days as a table" not in client.ask("GET", "tenant?id=acme", headers={"accept-language": "de"}).text
    assert "Days as a table" in client.ask("GET", "tenant?id=acme", headers={"accept-language": "en"}).text
