"""What a user installs: the wheel alone, in a clean environment, in a new Django project."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("token_limit_core", "token_limit_django", "token_limit_flask", "token_limit_starlette")

SETTINGS = """
INSTALLED_APPS.append("token_limit_django")
MIDDLEWARE.insert(0, "token_limit_django.middleware.TokenLimitMiddleware")
"""
URLS = """
from django.http import HttpResponse
from django.urls import path
from openai import OpenAI


def ask(request):
    OpenAI(api_key="none").chat.completions.create(model="gpt-5", messages=[{"role": "user", "content": "Hello"}])
    return HttpResponse("answered")


urlpatterns = [path("ask/", ask)]
"""
VISIT = """
import django

django.setup()
from django.contrib.auth.models import User
from django.test import Client
from token_limit_django.meter import get_meter

user = User.objects.create_user("alice")
get_meter().set_limit(f"user:{user.pk}", 0)
client = Client(SERVER_NAME="localhost")
client.force_login(user)
for accept in ("text/html", "application/json"):
    response = client.get("/ask/", headers={"accept": accept})
    print(response.status_code, response["Content-Type"], response["Cache-Control"])
    print(response.content.decode())
"""


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its good end; give what it printed."""
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "site_of_ours.settings"}
    environment.pop("PYTHONPATH", None)  # the source tree must not stand in for the wheel
    environment.pop("SSL_CERT_FILE", None)  # pip may have to reach its index
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the build backend that is installed."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel in an environment that has nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    python = folder / "bin" / "python"
    constraints = ROOT / "constraints.txt"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-compile")
    run(*pip, f"{wheel}[django,openai]", "-c", constraints, cwd=folder)
    return python


@pytest.fixture
def project(python: Path, tmp_path: Path) -> Path:
    """Start a Django project and add the suite to it."""
    run(python, "-m", "django", "startproject", "site_of_ours", tmp_path, cwd=tmp_path)
    with (tmp_path / "site_of_ours" / "settings.py").open("a") as settings:
        settings.write(SETTINGS)
    (tmp_path / "site_of_ours" / "urls.py").write_text(URLS)
    return tmp_path


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: Path) -> None:
    built = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert built == set(files())
    assert {"token_limit_core/py.typed", "token_limit_django/py.typed"} <= built
    assert {Path(name).suffix for name in built} >= {".py", ".html", ".css", ".js", ".svg", ".typed"}


def files() -> Iterator[str]:
    """List the files of the packages as they are in the source tree."""
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*"):
            if file.is_file() and file.parent.name != "__pycache__":
                yield file.relative_to(ROOT).as_posix()


@pytest.mark.timeout(300)
def test_a_new_project_with_the_wheel_checks_migrates_and_shows_the_upgrade_page(python: Path, project: Path) -> None:
    run(python, "manage.py", "check", "--fail-level", "WARNING", cwd=project)
    run(python, "manage.py", "migrate", cwd=project)
    run(python, "manage.py", "makemigrations", "--check", "--dry-run", "token_limit", cwd=project)
    shown = run(python, "-c", VISIT, cwd=project)
    html, problem = shown.split("402 application/problem+json no-store\n")
    assert html.startswith("402 text/html; charset=utf-8 no-store\n")
    assert "</html>" in html
    assert '"status": 402' in problem
