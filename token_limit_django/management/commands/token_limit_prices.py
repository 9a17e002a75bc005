"""`manage.py token_limit_prices` is `manage.py token_limit prices`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit prices`."""

    help: str = token_limit.GROUP.commands["prices"].help or ""
    first: tuple[str, ...] = ("prices",)
