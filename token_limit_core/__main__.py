"""`python -m token_limit_core` is `token-limit`."""

from __future__ import annotations

from .cli.main import main

main(prog_name="token-limit")
