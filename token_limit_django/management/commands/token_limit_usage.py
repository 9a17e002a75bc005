"""`manage.py token_limit_usage` is `manage.py token_limit usage`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit usage`."""

    help: str = token_limit.GROUP.commands["usage"].help or ""
    first: tuple[str, ...] = ("usage",)
