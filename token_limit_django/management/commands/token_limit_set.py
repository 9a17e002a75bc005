"""`manage.py token_limit_set` is `manage.py token_limit set`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit set`."""

    help: str = token_limit.GROUP.commands["set"].help or ""
    first: tuple[str, ...] = ("set",)
