"""The page of the command line: its commands are typed in order into an empty store, and answer as they stand."""

from __future__ import annotations

import shlex
from pathlib import Path

from tests.cli.conftest import runner
from tests.pages import blocks


def test_the_commands_of_the_page_answer_what_stands_below_them(tmp_path: Path) -> None:
    run = runner(f"sqlite:///{tmp_path}/token_limit.db")
    for block in blocks("docs/command-line.md", language="console"):
        for command, expected in (step.split("\n", 1) for step in block.code.split("$ token-limit ")[1:]):
            ran = run(*shlex.split(command))
            assert (ran.output, ran.exit_code) == (expected, 0), command
