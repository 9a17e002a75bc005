"""What a limit would have done, in words: shown before it is saved."""

from __future__ import annotations

from ..limits import EVERYONE, OBSERVE, Limit
from ..runtime.language import translate as _
from ..stores.contract import Store
from ..stores.plans import Preview
from ..windows import DAY
from ..wording import calls_in_words, clock_time, count, dollars

DAYS = 30
"""How far a preview looks back."""

MOST_CALLS = 250_000
"""A page does not wait for more: it looks back to the time that has about so many of the tenant's calls."""


def preview_of(store: Store, limit: Limit, now: float) -> str:
    """Say what a limit would have done to the calls of the last days. Reads the ledger."""
    since = _since(store, limit, now)
    is_whole = since == now - DAYS * DAY
    found = store.preview(limit, since, now)
    texts = [_whole_text(found) if is_whole else _part_text(found, limit, since)]
    if found.first_at is not None:
        saved = _("They cost {saved}. The first was on {first}.")
        texts.append(saved.format(saved=dollars(found.saved_nano), first=clock_time(found.first_at, limit.timezone)))
        if limit.mode == OBSERVE:
            texts.append(_("In mode observe it refuses none."))
    if not is_whole:
        texts.append(_("The last 30 days have more calls than a page looks at; the command preview looks at all."))
    return " ".join(texts)


def _since(store: Store, limit: Limit, now: float) -> float:
    """Return the time to look back to: the days of the tenant that have about `MOST_CALLS`, at most `DAYS`."""
    since, calls = now - DAYS * DAY, 0
    payer = None if limit.tenant_id == EVERYONE else limit.tenant_id
    for row in reversed(store.report("day", since, now, payer)):
        day, before = int(row.key) * DAY, calls
        calls += row.total.calls
        if calls > MOST_CALLS:
            end = min(now, day + DAY)
            return max(since, end - (end - day) * (MOST_CALLS - before) / row.total.calls)
    return since


def _whole_text(found: Preview) -> str:
    calls = calls_in_words(found.calls)
    if not found.calls:
        return _("No call of the last 30 days falls under this limit.")
    if found.first_at is None:
        return _("It would have refused none of the {calls} of the last 30 days.").format(calls=calls)
    text = _("It would have refused {refused} of the {calls} of the last 30 days.")
    return text.format(refused=count(found.refused), calls=calls)


def _part_text(found: Preview, limit: Limit, since: float) -> str:
    calls, start = calls_in_words(found.calls), clock_time(since, limit.timezone)
    if not found.calls:
        return _("No call since {start} falls under this limit.").format(start=start)
    if found.first_at is None:
        return _("It would have refused none of the {calls} since {start}.").format(calls=calls, start=start)
    text = _("It would have refused {refused} of the {calls} since {start}.")
    return text.format(refused=count(found.refused), calls=calls, start=start)
