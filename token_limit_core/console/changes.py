"""What a row of the history says, in words."""

from __future__ import annotations

from ..runtime.language import translate as _
from ..stores.reports import KEY_KINDS, Change
from ..windows import UTC_ZONE
from ..wording import FREQUENCY_LABELS, calls_in_words, clock_time, dollars, exact, filter_in_words

NOTED = {
    "set-plan": "Plan {plan}: {note}",
    "remove-plan": "Plan {plan} removed",
    "markup": "Own markup: {note}",
    "reprice": "Priced again: {note}",
    "suspend": "Suspended",
    "resume": "Resumed",
    "name": "Named “{note}”",
    "rename": "Id changed; it was “{note}”",
    "merge": "Merged with “{note}”",
    "erase": "Erased",
}
"""The kinds that need no more than the plan and the note of their row."""


def change_in_words(row: Change, zone: str = UTC_ZONE) -> str:
    """Say what was changed, with times of a time zone."""
    if row.kind in KEY_KINDS:
        return _("API key tl_{key} made" if row.kind == "make-key" else "API key tl_{key} revoked").format(
            key=row.filter
        )
    if row.kind == "release":
        held = _("a call without a price") if row.old_amount is None else exact(row.old_amount, row.unit)
        return _("Hold of {amount} released").format(amount=held)
    note = row.note.removeprefix("before: ").removeprefix("with: ")  # the history keeps its notes in English
    if row.kind == "assign-plan":
        text = _("Plan {plan}") if row.plan else _("No plan")
        return text.format(plan=row.plan) + (f" ({_('before')}: {note})" if note else "")
    if row.kind in ("top-up", "adjust"):
        text = _("Topped up by {amount}" if row.kind == "top-up" else "Corrected by {amount}")
        amount = dollars(row.new_amount) if row.unit == "usd" else str(row.new_amount)
        return text.format(amount=amount) + (f": {row.note}" if row.note else "")
    if row.kind == "reprice":
        note = calls_in_words(int(note.partition(" ")[0]))
    if row.kind in NOTED:
        text = _(NOTED[row.kind]).format(plan=row.plan, note=note or "–")
        return f"{text}: {note}" if note and row.kind == "suspend" else text
    return _limit_in_words(row, zone)


def _limit_in_words(row: Change, zone: str) -> str:
    details = filter_in_words(row.filter)
    each = _(FREQUENCY_LABELS.get(row.frequency, row.frequency)) + (f" ({details})" if details else "")
    old = "" if row.old_amount is None else exact(row.old_amount, row.unit)
    new = "" if row.new_amount is None else exact(row.new_amount, row.unit)
    if not new:
        return f"{old} {each} {_('called off') if row.kind == 'cancel' else _('removed')}"
    begins = ""
    if row.effective_from is not None and row.effective_from > row.at and row.kind == "set":
        begins = f", {_('from')} {clock_time(row.effective_from, zone)}"
    if not old:
        return f"{_('Set to')} {new} {each} ({_(row.new_mode or '')}){begins}"
    amounts = f"{old} → {new}" if old != new or row.old_mode == row.new_mode else new
    modes = f", {_(row.old_mode or '')} → {_(row.new_mode or '')}" if row.old_mode != row.new_mode else ""
    return f"{amounts} {each}{modes}{begins}"
