"""The files that the guide for contributors names are there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_path_of_the_guide_exists() -> None:
    named = re.findall(r"`([\w.]+/[\w./]*|[\w-]+\.(?:md|toml|txt))`", (ROOT / "CONTRIBUTING.md").read_text())
    assert len(named) > 20
    below = [ROOT, ROOT / "token_limit_core/stores"]
    assert [path for path in named if not any((folder / path).exists() for folder in below)] == []


def test_every_module_of_the_architecture_exists() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    table = text.partition("## Where is what")[2].partition("## Arrows")[0]
    rows = re.findall(r"^\| ([^|]*) \|", table, re.MULTILINE)
    named = [name for row in rows for name in re.findall(r"`([a-z_]+(?:\.py|/))`", row)]
    assert len(named) > 20
    assert [name for name in named if not (ROOT / "token_limit_core" / name).exists()] == []
