"""`manage.py token_limit_reconcile` is `manage.py token_limit reconcile`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit reconcile`."""

    help: str = token_limit.GROUP.commands["reconcile"].help or ""
    first: tuple[str, ...] = ("reconcile",)
