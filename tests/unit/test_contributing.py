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
