"""`manage.py token_limit ...`: the commands of `token-limit` over the project's Meter."""

from __future__ import annotations

import argparse
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import click
from django.core.management.base import BaseCommand, CommandError, CommandParser

from token_limit_core.cli.main import group_for
from token_limit_django.meter import get_meter
from token_limit_django.resolvers import payer_of

GROUP = group_for("token_limit", get_meter, payer_of)


class _Parser(CommandParser):
    """Reads Django's own options, and leaves everything else to the command, in its order."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        found, rest = self.parse_known_args(args, namespace)
        found.args = rest
        return found


class Command(BaseCommand):
    """Runs `token_limit COMMAND ...`. A subclass may name the first arguments, such as `set`."""

    help = "Spend limits: who may spend how much, and what is spent. `token_limit --help` lists the commands."
    first: tuple[str, ...] = ()

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """Return a parser of Django's own options."""
        own = super().create_parser(prog_name, subcommand, add_help=False, **kwargs)
        return _Parser(parents=[own], prog=own.prog, add_help=False, allow_abbrev=False, usage=argparse.SUPPRESS)

    def print_help(self, prog_name: str, subcommand: str) -> None:
        """Print the help of the command itself."""
        self.handle("--help")

    def handle(self, *args: str, **options: Any) -> None:
        stdout: Any = self.stdout
        stderr: Any = self.stderr
        try:
            with redirect_stdout(stdout._out), redirect_stderr(stderr._out):  # without Django's line endings
                code = GROUP.main([*self.first, *args], "manage.py token_limit", standalone_mode=False)
        except click.Abort:
            raise CommandError("Nothing was done.") from None
        except click.ClickException as error:
            raise CommandError(error.format_message(), returncode=error.exit_code) from error
        if code:
            raise CommandError("Something is wrong; see above.", returncode=code)
