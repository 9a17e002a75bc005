"""`manage.py token_limit_keys` is `manage.py token_limit keys`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit keys`."""

    help: str = token_limit.GROUP.commands["keys"].help or ""
    first: tuple[str, ...] = ("keys",)
