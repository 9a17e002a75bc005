"""The troubleshooting page: it explains every system check."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_system_check_is_explained() -> None:
    source = (ROOT / "token_limit_django" / "checks.py").read_text()
    given = {f"E{int(number):03}" for number in re.findall(r"_error\(\s*(\d+)", source)}
    given |= {f"W{int(number):03}" for number in re.findall(r"_warning\(\s*(\d+)", source)}
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    assert given - set(re.findall(r"token_limit_django\.([EW]\d{3})", page)) == set()
