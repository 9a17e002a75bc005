"""`manage.py token_limit_prune` is `manage.py token_limit prune`."""

from __future__ import annotations

from . import token_limit


class Command(token_limit.Command):
    """Runs `token_limit prune`."""

    help: str = token_limit.GROUP.commands["prune"].help or ""
    first: tuple[str, ...] = ("prune",)
