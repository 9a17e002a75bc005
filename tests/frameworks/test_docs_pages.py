"""The five-minute pages: their code blocks are copied into a fresh project and run as they stand.

A block with a `title` is a file. In a `console` block a line that begins with `$ ` is typed, and what follows is what
has to be printed; `...` stands for anything. Commands that serve go on in the background until the page ends.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import pages
from tests.servers import answers, free_port
from tests.support import unavailable
from tests.waiting import PATIENCE, wait_until
from token_limit_core.config.rules import FLASK
from token_limit_core.config.table import settings_of
from token_limit_core.testing import FakeProvider
from token_limit_django.conf import SETTINGS as DJANGO_SETTINGS


class Page(NamedTuple):
    """A page: the section that is run, the port it writes of, how its serving command begins, its environment."""

    path: str
    section: str
    port: int
    serves: str
    env: dict[str, str]


FROM_THE_ENVIRONMENT = {"FLASK_TOKEN_LIMIT_HOSTS": '{"%(host)s": "openai"}', "OPENAI_BASE_URL": "http://%(host)s/v1"}
FIVE_MINUTES = [
    Page("docs/flask.md", "## Five minutes", 5000, "flask run", FROM_THE_ENVIRONMENT),
    Page("docs/fastapi.md", "## Five minutes", 8000, "uvicorn app:app", {}),
    Page("docs/django.md", "## Five minutes", 8000, "python manage.py runserver", {}),
]


class Project:
    """A folder in which a page's commands are typed."""

    def __init__(self, folder: Path, page: Page, provider: FakeProvider) -> None:
        self.folder = folder
        self.page = page
        self.port = free_port()
        self.servers: list[subprocess.Popen[bytes]] = []
        given = {name: value % {"host": provider.host} for name, value in page.env.items()}
        self.env = {**pages.environment(provider), **given}

    def type(self, command: str) -> str:
        command = re.sub(rf"\b{self.page.port}\b", str(self.port), command)
        if command.startswith("pip install "):
            return _check_requirements(command)
        if command.startswith(self.page.serves):
            return self.serve(command)
        done = subprocess.run(
            command, shell=True, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def serve(self, command: str) -> str:
        server = subprocess.Popen(
            f"exec {command}", shell=True, cwd=self.folder, env=self.env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.servers.append(server)
        wait_until(lambda: answers(self.port), server)
        return ""

    def stop(self) -> None:
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
            server.wait(PATIENCE)


@pytest.fixture(params=FIVE_MINUTES, ids=lambda page: page.path)
def project(request: pytest.FixtureRequest, tmp_path: Path, fake_provider: FakeProvider) -> Iterator[Project]:
    if shutil.which("curl") is None:
        unavailable("curl is not on the PATH")
    project = Project(tmp_path, request.param, fake_provider)
    yield project
    project.stop()


def test_the_five_minute_page_does_what_it_says(project: Project, fake_provider: FakeProvider) -> None:
    typed = 0
    for language, title, text in pages.blocks(project.page.path, project.page.section):
        if title:
            (project.folder / title).write_text(text)
        elif language == "console":
            for command, expected in _commands(text):
                shown = project.type(command)
                assert re.fullmatch(_pattern(expected), shown.rstrip("\n"), re.DOTALL), (command, shown)
                typed += 1
    assert typed > 5
    assert len(fake_provider.requests) == 2, "one call before the limit, one after it was raised"


@pytest.mark.parametrize("path", pages.PAGES)
def test_every_python_block_is_python(path: str) -> None:
    for block in pages.blocks(path, language="python"):
        compile(block.code, path, "exec")


@pytest.mark.parametrize(
    ("path", "rules"), [("docs/django.md", DJANGO_SETTINGS), ("docs/flask.md", settings_of(FLASK))]
)
def test_the_table_of_settings_has_every_setting(path: str, rules: dict[str, Any]) -> None:
    rows = re.findall(r"^\| (`.*?) \|", pages.section(path, "## Settings"), re.MULTILINE)
    named = [name.removeprefix("TOKEN_LIMIT").lstrip("_") for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert sorted(named) == sorted(rules)


def _commands(text: str) -> list[tuple[str, str]]:
    """Split a console block into commands and what each is to print."""
    parts = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
    return [(command, expected.rstrip("\n")) for command, _, expected in (part.partition("\n") for part in parts)]


def _pattern(expected: str) -> str:
    return re.escape(expected).replace(re.escape("..."), ".*")


def _check_requirements(command: str) -> str:
    """See that what the page installs is there, and that its extra exists; nothing is downloaded in tests."""
    extras = tomllib.loads((pages.ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"token-limit-suite\[([\w,]+)\]", command)
    assert named and all(name in extras for names in named for name in names.split(","))
    return ""
