"""Forks: what a child makes anew, whoever forks. Python tells of its own forks only, and uWSGI forks by itself."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from inspect import ismethod

from .faults import logger

_calls: list[Callable[[], Callable[[], None] | None]] = []
pid = os.getpid()
"""The process that this module knows itself in: another one was forked without telling Python."""


def after_fork(call: Callable[[], None]) -> None:
    """Call a function in every process forked from now on; a bound method only as long as its object lives."""
    _calls.append(weakref.WeakMethod(call) if ismethod(call) else lambda: call)


def notice_fork() -> None:
    """Make up for a fork that nobody has told of."""
    if os.getpid() != pid:
        _in_child()


def _in_child() -> None:
    global pid
    pid = os.getpid()
    for find in _calls:
        if (call := find()) is not None:
            call()


def warn_without_threads() -> None:
    """Say so where a background thread cannot run while there is no request: uWSGI before 2.0.27 unless told to."""
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is not None and not getattr(uwsgi, "has_threads", True):
        logger.warning(
            "uWSGI runs without threads: events wait until its worker serves the next request, or ends; "
            "set `enable-threads = true`"
        )


def _let_uwsgi_tell() -> None:
    uwsgi = sys.modules.get("uwsgi")
    if uwsgi is None:
        return
    with suppress(Exception):  # it raises where there is no master
        import_module("uwsgidecorators")  # takes the only hook for itself when it is first imported
    before = getattr(uwsgi, "post_fork_hook", None)

    def hook() -> None:
        notice_fork()
        if before is not None:
            before()

    uwsgi.post_fork_hook = hook  # type: ignore[attr-defined]


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_in_child)
_let_uwsgi_tell()
