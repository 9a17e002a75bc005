"""Ids of calls: unique across threads, forks and processes, and UUIDs to everybody else."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from token_limit_core.runtime.ids import new_id

MANY = 2000


def ids(count: int) -> list[str]:
    return [new_id() for _ in range(count)]


def test_an_id_is_a_random_uuid() -> None:
    for made in ids(MANY):
        found = uuid.UUID(made)
        assert (str(found), found.version, found.variant) == (made, 4, uuid.RFC_4122)


def test_threads_never_make_the_same_id() -> None:
    with ThreadPoolExecutor(8) as pool:
        made = [one for part in pool.map(ids, [MANY] * 8) for one in part]
    assert len(set(made)) == 8 * MANY


def test_processes_never_make_the_same_id() -> None:
    code = "from token_limit_core.runtime.ids import new_id; print(new_id())"
    made = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(made) == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform does not fork")
@pytest.mark.parametrize("fork", ["os.fork()", "ctypes.PyDLL(None).fork()"], ids=["of Python", "of C"])
def test_a_fork_goes_on_with_ids_of_its_own(fork: str) -> None:
    code = (
        f"import ctypes, os; from token_limit_core.runtime.ids import new_id; new_id(); child = {fork};"
        "os.write(1, f'{new_id()}\\n'.encode()); child and os.waitpid(child, 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    one, other = done.stdout.split()
    assert one[:23] != other[:23]
