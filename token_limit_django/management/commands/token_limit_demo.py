"""`manage.py token_limit_demo` is `manage.py token_limit seed`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit seed`."""

    help: str = token_limit.GROUP.commands["seed"].help or ""
    first: tuple[str, ...] = ("seed",)
