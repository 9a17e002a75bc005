"""Which notices a change of a counter makes: each threshold once a limit and window, over all processes.

A counter keeps the amount of its next threshold (`notify_at`), so a settle that crosses nothing looks no further. The
rows of notices say what was sent. A limit that was used up and has room again starts a new round.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

from ..limits import CounterKey, Limit, LimitStatus
from ..limits.notices import FULL, Notice, NoticeKind, next_threshold, passed
from ..runtime.ids import new_id

RECOVERED = 0
"""Stands in the place of the percent in the row of a recovery."""

KEPT = -1.0
"""When a row is due that is not to be delivered."""


class NoticeRow(NamedTuple):
    """What was noticed of a counter. `due` is when to deliver `body` (unix seconds); negative is never, or done."""

    tenant_id: str
    limit_id: int
    subject: str
    window_start: int
    round: int
    percent: int
    at: float
    body: str = ""
    due: float = KEPT
    id: int = 0


class NoticesTransaction:
    """The primitives of notices on one engine, and the notices of this transaction.

    `thresholds` are percents, `delivers` says whether notices are delivered to a webhook.
    """

    thresholds: Sequence[int] = ()
    delivers: bool = False
    notices: list[Notice]

    @abstractmethod
    def noticed(self, key: CounterKey) -> list[tuple[int, int]]:
        """Read the round and percent of each notice of a counter."""

    @abstractmethod
    def insert_notice(self, row: NoticeRow) -> bool:
        """Insert a notice; False where it is there already."""

    @abstractmethod
    def notify_at(self, key: CounterKey, amount: int) -> None:
        """Set the amount of a counter's next threshold."""

    @abstractmethod
    def claim_notices(self, now: float, until: float, most: int) -> list[NoticeRow]:
        """Read the oldest notices that are due by `now`, and let them be due again at `until`."""

    @abstractmethod
    def reschedule_notices(self, ids: Sequence[int], due: float) -> None:
        """Let notices be due at another time; `KEPT` is never again."""


def review(tx: NoticesTransaction, key: CounterKey, limit: Limit, status: LimitStatus, now: float) -> None:
    """Make the notices of a counter as it stands now, and set its next threshold."""
    sent = tx.noticed(key)
    turn = sum(percent == RECOVERED for _, percent in sent)
    before = {percent for round, percent in sent if round == turn}
    reached = passed(tx.thresholds, status.settled, status.ceiling)
    if FULL in before and FULL not in reached and FULL in tx.thresholds:
        _send(tx, key, "recovered", turn, RECOVERED, status, now)
        for percent in reached:
            tx.insert_notice(NoticeRow(*key, turn + 1, percent, now))
    for percent in sorted(reached - before) if FULL not in before else ():
        _send(tx, key, "threshold", turn, percent, status, now)
    tx.notify_at(key, next_threshold(tx.thresholds, status.settled, status.ceiling))


def _send(
    tx: NoticesTransaction, key: CounterKey, kind: NoticeKind, turn: int, percent: int, status: LimitStatus, now: float
) -> None:
    notice = Notice(new_id(), kind, key.tenant_id, percent or FULL, status, now)
    body, due = (json.dumps(notice.to_dict()), now) if tx.delivers else ("", KEPT)
    if tx.insert_notice(NoticeRow(*key, turn, percent, now, body, due)):
        tx.notices.append(notice)
