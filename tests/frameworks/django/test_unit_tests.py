"""A project's own tests: a call with a mocked LLM needs no database and no mark once the app is installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers import ROOT
from tests.support import environment

SETTINGS = """
from tests.django_settings import *

if {engine!r} == "postgresql":  # nobody is there
    DATABASES["default"] = {{"ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "127.0.0.1", "PORT": 1}}
TOKEN_LIMIT = {{"EAGER": {eager!r}, "DEFAULT_LIMIT_USD": 1}}
"""


@pytest.mark.parametrize(("engine", "eager"), [("sqlite3", False), ("postgresql", True)])
def test_a_test_without_a_database_does_not_fail(tmp_path: Path, engine: str, eager: bool) -> None:
    (tmp_path / "project_settings.py").write_text(SETTINGS.format(engine=engine, eager=eager))
    (tmp_path / "test_project.py").write_text(Path(__file__).with_name("unit_project.py").read_text())
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--ds=project_settings"]
    if engine == "postgresql":
        command += ["-k", "not Transactional"]
    command.append("test_project.py")
    env = {**environment(), "PYTHONPATH": f"{tmp_path}:{ROOT}", "DJANGO_SETTINGS_MODULE": "project_settings"}
    run = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stdout[-4000:]
    assert "ERROR" not in run.stdout
