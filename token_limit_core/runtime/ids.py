"""Ids of calls: UUIDs of version 4 whose randomness is drawn once a process. The name of the process."""

from __future__ import annotations

import itertools
import os
import socket

from . import forks as processes

_prefix: str
_numbers: itertools.count[int]
_process: str


def _draw() -> None:
    """Draw 72 random bits for this process, and where its numbers begin: they have 12 digits, the UUID's last.

    Not from `random`: an application may seed that the same in every process.
    """
    global _prefix, _numbers, _process
    digits = os.urandom(16).hex()
    _prefix = f"{digits[:8]}-{digits[8:12]}-4{digits[12:15]}-a{digits[15:18]}-"
    _numbers = itertools.count(10**11 + int(digits[18:], 16) % 10**11)
    _process = f"{socket.gethostname()[:240]}:{os.getpid()}"


def new_id() -> str:
    """Make an id that no other thread, process or host makes."""
    if os.getpid() != processes.pid:
        processes.notice_fork()
    return f"{_prefix}{next(_numbers)}"


def process_name() -> str:
    """Return `host:pid` of this process."""
    if os.getpid() != processes.pid:
        processes.notice_fork()
    return _process


_draw()
processes.after_fork(_draw)
