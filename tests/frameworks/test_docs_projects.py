"""The code of the README and of the page on testing, put into a project as a reader would and run as it stands."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.pages import ROOT, blocks, code_of, environment, section
from token_limit_core import Meter, MeterConfig
from token_limit_core.testing import FakeProvider

WITHOUT = "## Use it without a framework"
WITH_DJANGO = "## Add it to a Django project"

SETTINGS = """
SECRET_KEY = "x"
ALLOWED_HOSTS = ["*"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "db.sqlite3"}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "chat"
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
"""
AROUND_OURS = """
INSTALLED_APPS[:1] = ["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE[-1:] = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
"""
MANAGE = """
import os, sys
from django.core.management import execute_from_command_line
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
execute_from_command_line(sys.argv)
"""
CHAT = """
from django.conf import settings
from django.http import HttpResponse
from django.urls import path
from openai import OpenAI

def chat(request):
    client = OpenAI(base_url=getattr(settings, "OPENAI_BASE_URL", None))
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
    return HttpResponse("answered")

def tenant_of(request):
    return "acme"

urlpatterns = [path("chat/", chat)]
"""
VISIT = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
import django
django.setup()
from django.contrib.auth.models import User
from django.test import Client
User.organization = "acme"  # a real project has a column
client = Client()
client.force_login(User.objects.get_or_create(username="alice")[0])
response = client.get("/chat/", headers={"accept": "application/json"})
print(response.status_code, response.content.decode())
"""


class Folder:
    """A folder with files, in which commands are typed."""

    def __init__(self, path: Path, provider: FakeProvider) -> None:
        self.path = path
        self.env = environment(provider)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.path / f"{name}.py").write_text(text)

    def type(self, command: str) -> str:
        done = subprocess.run(
            command, shell=True, cwd=self.path, env=self.env, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout + done.stderr


@pytest.fixture
def folder(tmp_path: Path, fake_provider: FakeProvider) -> Folder:
    return Folder(tmp_path, fake_provider)


@pytest.mark.parametrize(("page", "heading"), [("README.md", WITHOUT), ("docs/index.md", "## Without a framework")])
def test_the_script_meters_its_call_and_says_why_it_is_refused(
    folder: Folder, fake_provider: FakeProvider, page: str, heading: str
) -> None:
    script = code_of(page, heading)
    folder.write(script=script, refused=script.replace('"acme", 25', '"acme", 0'))
    assert folder.type("python script.py") == ""
    assert len(fake_provider.requests) == 1
    with Meter(MeterConfig(store=f"sqlite:///{folder.path}/spend.db", patches=[])) as meter:
        spend = meter.store.spend("acme", 0, 4e9)
    assert (spend.calls, spend.unpriced) == (1, 0) and spend.cost_nano > 0

    assert re.fullmatch(r"This account has no AI allowance\. None\n", folder.type("python refused.py"))
    assert len(fake_provider.requests) == 1
    (command,) = re.findall(r"`(token-limit --store \S+ usage)`", section("README.md", WITHOUT))
    assert re.match(r"acme\n  this month  \$0\.0000\d* in 1 call", folder.type(command))


def test_the_readmes_django_settings_are_all_it_takes(folder: Folder, fake_provider: FakeProvider) -> None:
    ours = code_of("README.md", WITH_DJANGO)
    folder.write(settings=SETTINGS + ours + AROUND_OURS, manage=MANAGE, chat=CHAT, visit=VISIT)
    _, commands = blocks("README.md", WITH_DJANGO, "console")
    shown = folder.type(f"set -e\n{commands.code}")
    assert "acme: $100.00 per month (enforce)." in shown
    assert re.search(r"^acme\n.*in 0 calls\n.* of \$100\.00 \(enforce\)", shown, re.MULTILINE)

    assert folder.type("python visit.py") == "200 answered\n"
    folder.type("python manage.py token_limit_set acme 0")
    refused = folder.type("python visit.py")
    assert refused.startswith("402 ") and '"upgrade_url": "/plans/"' in refused
    assert len(fake_provider.requests) == 1
    checked = folder.type("python manage.py check --tag token_limit")
    assert "W006" in checked and "1 issue" in checked  # Django's own User has no organization


def test_the_tests_of_the_page_on_testing_pass(folder: Folder) -> None:
    (with_pytest,) = blocks("docs/testing.md", "## With pytest", "python")
    in_flight = f"""
import openai

def test_what_holds_while_a_call_is_in_flight(token_limit_meter, fake_provider):
    client = openai.OpenAI(base_url=fake_provider.base_url, api_key="any", max_retries=0)
    messages = [{{"role": "user", "content": "Hello"}}]
    token_limit_meter.set_limit("acme", 5)
    with client, token_limit_meter.for_tenant("acme"):
{textwrap.indent(code_of("docs/testing.md", "## What a test can change"), " " * 8)}
        assert list(stream)
    assert token_limit_meter.usage("acme")[0].held_usd == 0
"""
    folder.write(test_limits=with_pytest.code, test_in_flight=in_flight)
    assert "2 passed" in folder.type(f"{sys.executable} -m pytest -p no:cacheprovider")


def test_the_django_test_of_the_page_on_testing_passes_in_its_transaction(folder: Folder) -> None:
    eager, tests = (block.code for block in blocks("docs/testing.md", "## With Django", "python"))
    project = """
INSTALLED_APPS = ["token_limit_django"]
MIDDLEWARE = ["token_limit_django.middleware.TokenLimitMiddleware"]
TOKEN_LIMIT["TENANT_RESOLVER"] = "chat.tenant_of"
"""
    folder.write(settings=SETTINGS + eager + project, manage=MANAGE, chat=CHAT, tests=tests)
    shown = folder.type("python manage.py test")
    assert "Ran 1 test" in shown and "OK" in shown
    assert not (folder.path / "db.sqlite3").exists()


def test_the_readmes_links_work_on_the_package_index_too() -> None:
    text = (ROOT / "README.md").read_text()
    base = "https://github.com/token-limit-suite/token-limit-suite/blob/main/"
    links = [*re.findall(r"\]\(([^)]+)\)", text), *re.findall(r"^\[[\w-]+\]: (\S+)$", text, re.MULTILINE)]
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    assert [link for link in links if link.startswith(base) and not (ROOT / link.removeprefix(base)).exists()] == []
