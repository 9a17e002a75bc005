"""`manage.py token_limit_status` is `manage.py token_limit status`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit status`."""

    help: str = token_limit.GROUP.commands["status"].help or ""
    first: tuple[str, ...] = ("status",)
