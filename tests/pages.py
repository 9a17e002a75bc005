"""The README and the pages of the documentation, read by the tests that run their code as it stands."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import NamedTuple

from token_limit_core.testing import FakeProvider

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]

_BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block of code; one with a title is a file."""

    language: str
    title: str
    code: str


def section(path: str, heading: str) -> str:
    """Return what is under a heading, given with its signs (`## Settings`), up to the next one of its rank."""
    signs = heading.partition(" ")[0]
    _, found, rest = f"\n{(ROOT / path).read_text(encoding='utf-8')}".partition(f"\n{heading}\n")
    assert found, f"{path} has no section {heading!r}"
    return re.split(rf"^{signs} ", rest, flags=re.MULTILINE)[0]


def blocks(path: str, heading: str | None = None, language: str | None = None) -> list[Block]:
    """List the blocks of code of a page, or of a section of it; of one language, or all."""
    text = (ROOT / path).read_text(encoding="utf-8") if heading is None else section(path, heading)
    found = [Block(*parts) for parts in _BLOCK.findall(text)]
    return [block for block in found if language is None or block.language == language]


def code_of(path: str, heading: str, language: str = "python") -> str:
    """Return the one block of a language that a section has."""
    (block,) = blocks(path, heading, language)
    return block.code


def environment(provider: FakeProvider) -> dict[str, str]:
    """Make the environment that a reader would have, to whom a fake provider answers in place of OpenAI.

    It plays a proxy on the way there, so that a page's code needs no option of its own.
    """
    env = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "PYTEST_"))}
    return {
        **env,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}",
        "OPENAI_API_KEY": "test",
        "OPENAI_BASE_URL": "http://api.openai.com/v1",
        "HTTP_PROXY": f"http://{provider.host}",
        "NO_PROXY": "127.0.0.1",
    }
