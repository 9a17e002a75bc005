"""What a limit would have done, in words: shown before it is saved."""

from __future__ import annotations

from ..limits import OBSERVE, Limit
from ..runtime.language import translate as _
from ..stores.contract import Store
from ..wording import calls_in_words, clock_time, count, dollars

DAYS = 30
"""How far a preview looks back."""


def preview_of(store: Store, limit: Limit, now: float) -> str:
    """Say what a limit would have done to the calls of the last days. Reads the ledger."""
    found = store.preview(limit, now - DAYS * 86400, now)
    calls = calls_in_words(found.calls)
    if not found.calls:
        return _("No call of the last 30 days falls under this limit.")
    if found.first_at is None:
        return _("It would have refused none of the {calls} of the last 30 days.").format(calls=calls)
    refused = _("It would have refused {refused} of the {calls} of the last 30 days.")
    saved = _("They cost {saved}. The first was on {first}.")
    text = f"{refused.format(refused=count(found.refused), calls=calls)} " + saved.format(
        saved=dollars(found.saved_nano), first=clock_time(found.first_at, limit.timezone)
    )
    return f"{text} {_('In mode observe it refuses none.')}" if limit.mode == OBSERVE else text
