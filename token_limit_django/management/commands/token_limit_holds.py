"""`manage.py token_limit_holds` is `manage.py token_limit holds`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit holds`."""

    help: str = token_limit.GROUP.commands["holds"].help or ""
    first: tuple[str, ...] = ("holds",)
