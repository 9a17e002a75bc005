"""The journal of settled calls: a settle does not wait for the disk, and what was flushed outlives a power cut."""

from __future__ import annotations

import shutil
from pathlib import Path

from token_limit_core.delivery.journal import Journal, Kept


def test_a_checkpoint_puts_every_row_into_the_file_itself(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")

    def add(call_id: str) -> None:
        journal.add(Kept(call_id, None, None, call_id))

    def in_file() -> int:
        return len(Journal(Path(shutil.copy(journal.path, tmp_path / "copy"))).oldest(10))

    add("first")
    assert in_file() == 0
    journal.checkpoint()
    add("second")
    assert in_file() == 1
    assert [kept.call_id for _, kept in journal.oldest(10)] == ["first", "second"]
