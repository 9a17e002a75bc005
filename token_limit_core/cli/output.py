"""What commands write: tables for people, JSON and CSV for programs. Money is US dollars as text."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import click

from ..limits import LimitStatus
from ..money import as_text, to_usd
from ..stores.entries import Spend

Row = Mapping[str, Any]

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
_LATER_FORMULA = re.compile(r"([;,\t\r\n])(?=\s*[=+\-@＝＋－＠])")
"""Characters after which a spreadsheet that does not split at commas would start a cell with a formula."""

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Write JSON; money is in US dollars as text.")(function)


def file_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--json` and `--csv`."""
    csv_option = click.option("--csv", "as_csv", is_flag=True, help="Write CSV, with a header.")
    return json_option(csv_option(function))


def write_rows(rows: Sequence[Row], as_json: bool = False, as_csv: bool = False, none: str = "There are none.") -> None:
    """Write rows that have the same keys, as a table unless it is to be JSON or CSV; `none` stands for no row."""
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=str))
    elif as_csv:
        click.echo(_csv(rows), nl=False)
    else:
        click.echo(table(rows) if rows else none)


def _csv(rows: Sequence[Row]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([list(rows[0]), *([harmless(value) for value in row.values()] for row in rows)] if rows else [])
    return text.getvalue()


class ProgressLine:
    """Says on the standard error output how far something is that takes more than a second: `line(calls, share)`.

    On a terminal one line is written again and again, elsewhere a new one each time. `clock` is in seconds.
    """

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._next = clock() + 1.0
        self._written = False

    def __call__(self, calls: int, share: float) -> None:
        """Write the line, at most once a second."""
        if self._clock() < self._next:
            return
        self._next = self._clock() + 1.0
        self._written = sys.stderr.isatty()
        start = "\r" if self._written else ""
        click.echo(f"{start}{calls:,} calls looked at, {share:.0%}", nl=not self._written, err=True)

    def end(self) -> None:
        """End the line, so that the result has one of its own."""
        if self._written:
            click.echo(err=True)


def harmless(value: Any) -> Any:
    """Prevent a spreadsheet from running text as a formula (OWASP: CSV injection). Numbers stay numbers."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value):
        return value
    inside = _LATER_FORMULA.sub(r"\1'", value)
    return f"'{inside}" if value.startswith(_FORMULA) else inside


def table(rows: Sequence[Row]) -> str:
    """Write rows in aligned columns, numbers to the right."""
    cells = [list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    right = [
        all(isinstance(value, int) for value in column) for column in zip(*(r.values() for r in rows), strict=True)
    ]
    return "\n".join(_line(line, widths, right) for line in cells)


def _cell(value: Any) -> str:
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _line(cells: Iterable[str], widths: Iterable[int], right: Iterable[bool]) -> str:
    aligned = zip(cells, widths, right, strict=True)
    return "  ".join(cell.rjust(width) if to_right else cell.ljust(width) for cell, width, to_right in aligned).rstrip()


def spend_dict(total: Spend) -> dict[str, Any]:
    """Return totals as JSON has them."""
    return {
        "calls": total.calls,
        "input_tokens": total.input_tokens,
        "output_tokens": total.output_tokens,
        "spent_usd": f"{to_usd(total.cost_nano):f}",
        "unpriced": total.unpriced,
    }


def status_dict(status: LimitStatus) -> dict[str, Any]:
    """Return a limit and its current window as JSON has them; a limit in tokens or requests has whole numbers."""
    limit, usd = status.limit, status.limit.limit_usd
    shown: dict[str, Any] = {"frequency": limit.frequency, "mode": limit.mode}
    if usd is None:
        amounts = {"limit": status.ceiling, "spent": status.settled, "held": status.held, "remaining": status.left}
        shown |= {"unit": limit.unit, **amounts}
    else:
        money = {"limit": usd, "spent": status.spent_usd, "held": status.held_usd, "remaining": status.remaining_usd}
        shown |= {f"{name}_usd": f"{amount:f}" for name, amount in money.items()}
    details = {"filter": limit.filter, "user": status.subject, "plan": limit.plan, "name": limit.name}
    if status.extra:
        details["top_ups"] = as_text(to_usd(status.extra))
    ends = None if status.resets_at is None else datetime.fromtimestamp(status.window.end, UTC).isoformat()
    return shown | {name: value for name, value in details.items() if value} | {"resets_at": ends}


def iso(seconds: float | None) -> str | None:
    """Write a unix time for programs."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
