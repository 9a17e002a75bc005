"""Templates, with autoescaping. Needs Jinja2 (the `console` extra)."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from markupsafe import Markup

from ..limits import Limit
from ..runtime.language import language, translate
from ..windows import UTC_ZONE
from ..wording import (
    FREQUENCY_LABELS,
    MODE_LABELS,
    REFUSAL_LABELS,
    STANDING_LABELS,
    calls_in_words,
    clock_time,
    column_usd,
    count,
    dollars,
    editable_usd,
    exact,
    fault_in_words,
    filter_in_words,
    limit_line,
    moment,
    number,
    refused_by,
    rounded,
    shown_id,
    span,
)
from .changes import change_in_words
from .charts import billed_in_words
from .event_details import details
from .gauges import gauge

TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


@cache
def environment() -> Environment:
    """Return the template environment."""
    made = Environment(
        loader=PackageLoader(__package__),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"dollars": dollars, "exact": exact, "editable_usd": _typed}
    made.filters |= {
        "span": span,
        "when": when,
        "shown_id": shown_id,
        "calls": calls_in_words,
        "count": count,
        "billed": billed_in_words,
        "fault": fault_in_words,
        "cost": column_usd,
        "rounded": rounded,
        "number": number,
    }
    made.filters |= {"limit_line": _line, "refused_by": refused_by, "filter_in_words": filter_in_words}
    made.filters |= {"change_in_words": change_in_words, "tr": _translated}
    made.globals |= {"gauge": gauge, "frequencies": FREQUENCY_LABELS, "modes": MODE_LABELS, "version": version}
    made.globals |= {"standings": STANDING_LABELS, "refusal_kinds": REFUSAL_LABELS, "details": details}
    made.globals |= {"_": translate, "language": language, "dict": dict}
    return made


def render(template: str, **context: Any) -> str:
    """Render a template of the console."""
    return environment().get_template(template).render(**context)


def when(seconds: float, precise: bool = False, zone: str = UTC_ZONE) -> Markup:
    """Return a unix time as HTML on the clock of a time zone. The script of the page adds the reader's local time."""
    at, shown = moment(seconds, zone), clock_time(seconds, zone, precise)
    return Markup('<time datetime="{}">{}</time>').format(at.isoformat(timespec="seconds"), shown)


@cache
def static(name: str) -> bytes | None:
    """Return a static file; None if there is no such file."""
    if name not in {entry.name for entry in files(__package__).joinpath("static").iterdir()}:
        return None
    return files(__package__).joinpath("static", name).read_bytes()


@cache
def version(name: str) -> str:
    """Return a hash of a static file's content, so that browsers can cache it until it changes."""
    return sha256(static(name) or b"").hexdigest()[:12]


@pass_context  # else Jinja translates a constant once, when it compiles the template
def _translated(context: object, text: str) -> str:
    return translate(text)


def _line(limit: Limit) -> str:
    return limit_line(limit.amount, limit.unit, limit.frequency, limit.filter)


def _typed(nano: int) -> str:
    return f"{editable_usd(nano):f}"
