"""The pages about money: their Python runs in order, and prints what stands in the block of text below it."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import pytest

from tests import pages

PAGES = ["docs/plans.md", "docs/prices.md", "docs/notices.md"]


@pytest.mark.parametrize("path", PAGES)
def test_the_examples_of_a_page_print_what_they_say(path: str) -> None:
    known: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in pages.blocks(path):
        if block.language == "python" and not block.title:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block.code, path, "exec"), known)
            printed = out.getvalue()
        elif block.language == "text":
            assert printed == block.code, path
            printed = ""
    assert printed == "", path
