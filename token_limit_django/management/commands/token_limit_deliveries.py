"""`manage.py token_limit_deliveries` is `manage.py token_limit deliveries`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit deliveries`."""

    help: str = token_limit.GROUP.commands["deliveries"].help or ""
    first: tuple[str, ...] = ("deliveries",)
