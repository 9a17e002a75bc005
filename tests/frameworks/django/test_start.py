"""Settings that cannot work stop a WSGI or ASGI server when it starts, as neither runs the system checks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import CheckMessage, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.test import override_settings

from token_limit_core.errors import ConfigurationError, StoreError
from token_limit_django.store import DjangoStore

OURS = "token_limit_django.middleware.TokenLimitMiddleware"

ALONE = """
import sys
import django
from django.conf import settings
settings.configure(MIDDLEWARE=["token_limit_django.middleware.TokenLimitMiddleware"], INSTALLED_APPS=[])
django.setup()
if sys.argv[1] == "wsgi":
    from django.core.wsgi import get_wsgi_application as start
else:
    from django.core.asgi import get_asgi_application as start
start()
"""


@pytest.mark.parametrize("server", [WSGIHandler, ASGIHandler])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"TENANT_RESOLVR": None}, r"TOKEN_LIMIT\['TENANT_RESOLVR'\] is not a setting. Did you mean 'TENANT_RESOLVER'"),
        ({"TENANT_RESOLVER": "nowhere.at_all"}, r"TOKEN_LIMIT\['TENANT_RESOLVER'\]: .*nowhere"),
        ({"UPGRADE_RESPONSE": f"{__name__}.OURS"}, r"TOKEN_LIMIT\['UPGRADE_RESPONSE'\]: "),
        ({"ON_UNPRICED": "guess"}, r"TOKEN_LIMIT\['ON_UNPRICED'\]: invalid value 'guess'"),
        ({"PEEK_STREAMS": "yes"}, r"TOKEN_LIMIT\['PEEK_STREAMS'\]: invalid value 'yes'"),
        ({"STORE": "sqlite:////dev/null/limits.db"}, r"cannot be opened \(/dev/null is in the way\)"),
        ({"STORE": "oracle://x/y"}, "no known scheme"),
    ],
)
def test_a_wrong_setting_stops_the_server(server: Callable[[], Any], given: dict[str, Any], message: str) -> None:
    with override_settings(TOKEN_LIMIT=given, MIDDLEWARE=[OURS]), pytest.raises(ConfigurationError, match=message):
        server()


@pytest.mark.parametrize("server", [WSGIHandler, ASGIHandler])
def test_a_missing_driver_names_the_extra_to_install(
    server: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("token_limit_core.stores.urls.find_spec", lambda name: None)
    for url, extra in {
        "postgresql+psycopg://x@127.0.0.1/y": "postgresql",
        "mysql+pymysql://x@127.0.0.1/y": "mysql",
    }.items():
        with (
            override_settings(TOKEN_LIMIT={"STORE": url}, MIDDLEWARE=[OURS]),
            pytest.raises(ConfigurationError, match=rf"pip install 'token-limit-suite\[{extra}\]'"),
        ):
            server()


@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
def test_the_middleware_without_the_app_says_what_is_missing(kind: str) -> None:
    done = subprocess.run([sys.executable, "-c", ALONE, kind], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"{ImproperlyConfigured.__module__}.ImproperlyConfigured: INSTALLED_APPS lacks 'token_limit_django', and "
        "MIDDLEWARE has its middleware; add it to INSTALLED_APPS"
    )


def database_messages(alias: str) -> list[CheckMessage]:
    return [message for message in run_checks(tags=["database"], databases=[alias]) if "token_limit" in str(message.id)]


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_missing_tables_are_found_by_the_check_of_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    alias = DjangoStore().alias
    assert database_messages(alias) == []

    def missing(store: DjangoStore) -> None:
        raise StoreError("no such table")

    monkeypatch.setattr(DjangoStore, "check", missing)
    (message,) = database_messages(alias)
    assert (message.id, message.hint) == (
        "token_limit_django.E016",
        "Run `manage.py migrate`, or start the database.",
    )


PROJECT = """
import sys
from django.conf import settings
from django.core.management import execute_from_command_line
from django.db import connections

def manage(*words):
    sys.argv = ["manage.py", *words]
    try:
        execute_from_command_line(sys.argv)
    except SystemExit as end:
        print(words[0], "ends with", end, file=sys.stderr)

sqlite = "django.db.backends.sqlite3"
settings.configure(
    DATABASES={name: {"ENGINE": sqlite, "NAME": name + ".sqlite3"} for name in ("default", "limits")},
    INSTALLED_APPS=["token_limit_django"],
    MIDDLEWARE=["token_limit_django.middleware.TokenLimitMiddleware"],
    TOKEN_LIMIT={"DATABASE": "limits"},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
)
manage("check", "--database", "default")
manage("migrate", "--database", "limits", "--verbosity", "0")
manage("check", "--database", "default")
connections["limits"].settings_dict["NAME"] = "/nowhere/limits.sqlite3"
manage("check")
"""


def test_missing_tables_fail_a_check_and_not_the_command_that_makes_them(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", PROJECT], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    told = [line for line in done.stderr.splitlines() if line.startswith(("?:", "check", "migrate"))]
    assert [line.partition(")")[0] for line in told] == [
        "?: (token_limit_django.E016", "check ends with 1", "?: (token_limit_django.E017", "check ends with 1",
    ]  # fmt: skip
    assert "the folder /nowhere of 'limits' does not exist" in told[2]


def test_a_file_that_cannot_be_written_is_told_before_the_first_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("token_limit_core.stores.urls.os.access", lambda path, mode: False)
    with (
        override_settings(TOKEN_LIMIT={"STORE": f"sqlite:///{tmp_path}/limits.db"}, MIDDLEWARE=[OURS]),
        pytest.raises(ConfigurationError, match="is not writable"),
    ):
        WSGIHandler()
