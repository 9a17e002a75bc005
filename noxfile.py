"""The test matrix: the Pythons found on this machine, each with Django's LTS and the newest Django it can run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.error_on_missing_interpreters = False

# pyenv's shims refuse a version that is installed but not activated, so look behind them.
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
os.environ["PATH"] = os.pathsep.join([*map(str, PYENV.glob("versions/3.*/bin")), os.environ["PATH"]])

CONSTRAINTS = Path("constraints.txt")
LTS = "Django~=5.2.0"
# The ends first: where time is short, what is cut off has the least to say. Python 3.11 stops at the LTS.
MATRIX = [("3.13", "newest"), ("3.11", "lts"), ("3.12", "newest"), ("3.13", "lts"), ("3.12", "lts")]


@nox.session
@nox.parametrize("python,django", MATRIX)
def tests(session: nox.Session, django: str) -> None:
    """Run the tests, without the browser's."""
    constraints = CONSTRAINTS
    if django == "lts":
        lines = CONSTRAINTS.read_text().splitlines()
        constraints = Path(session.create_tmp(), "constraints.txt")
        constraints.write_text("\n".join([line for line in lines if not line.startswith("Django==")] + [LTS]))
    session.install("--editable", ".[test]", "--constraint", str(constraints))
    session.run("python", "-m", "pytest", "-m", "not browser", *session.posargs)


@nox.session
def published_client(session: nox.Session) -> None:
    """Install the published client in an environment of its own, and run it against our endpoints."""
    session.install("token-limit==0.1.10", "openai", "aiohttp", "--constraint", str(CONSTRAINTS))
    env = {"TOKEN_LIMIT_PUBLISHED_CLIENT": str(Path(session.bin, "python"))}
    session.run(sys.executable, "-m", "pytest", "tests/remote/test_published_client.py", env=env, external=True)
