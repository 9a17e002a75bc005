from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from django.core.checks import INFO, CheckMessage, run_checks
from django.db import connections
from django.test import override_settings

from token_limit_core.config import CONFIG_FIELDS
from token_limit_core.errors import ConfigurationError
from token_limit_core.patches import PATCH_REGISTRY
from token_limit_core.stores import open_store
from token_limit_django.conf import SETTINGS
from token_limit_django.meter import get_meter
from token_limit_django.middleware import TokenLimitMiddleware
from token_limit_django.store import DjangoStore

from . import host

ROOT = Path(__file__).parents[3]
E = "token_limit_django.E"
W = "token_limit_django.W"


class Subclass(TokenLimitMiddleware):
    """A project's own version of the middleware."""


def check(monkeypatch: pytest.MonkeyPatch, given: Any, deploy: bool = False, **others: Any) -> list[CheckMessage]:
    """Run our checks as `manage.py check` does, on other settings."""
    for name, value in {"TOKEN_LIMIT": given, **others}.items():
        monkeypatch.setattr(f"django.conf.settings.{name}", value, raising=False)
    messages = run_checks(tags=["token_limit"], include_deployment_checks=deploy)
    return [message for message in messages if message.level > INFO]


def manage(settings: dict[str, Any], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-m", host.__name__, json.dumps(settings), "manage", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("deploy", [False, True])
def test_settings_that_work_pass_in_silence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, deploy: bool) -> None:
    works = {
        "STORE": f"sqlite:///{tmp_path}/spend.db",
        "HOSTS": {"127.0.0.1:8010": "openai"},
        "PATCHES": ["openai"],
        "ON_NO_TENANT": "refuse",
        "ON_UNGUARDED": "refuse",
        "CAPTURE_CONTENT": True,
        "TENANT_RESOLVER": f"{__name__}.check",
        "USER_TENANT_ATTRIBUTES": ["organization"],
        "UPGRADE_URL": "https://example.com/billing",
        "ON_EVENT": print,
        "STORE_THREADS": 8,
        "URL": "https://limits.example.com/events",
        "API_KEY": "k1",
    }
    assert check(monkeypatch, works, deploy) == []
    assert check(monkeypatch, {}, deploy) == []


WRONG = [
    (["ENABLED"], "E001", "TOKEN_LIMIT", "TOKEN_LIMIT = {...}"),
    (
        {"UPGRADEURL": "/x"},
        "E002",
        "'UPGRADEURL'",
        "Did you mean 'UPGRADE_URL'? Known keys are: API_KEY, ",
    ),
    ({"on_event": print}, "E002", "'on_event'", "Did you mean 'ON_EVENT'?"),
    ({7: 7}, "E002", "[7]", "Known keys are"),
    ({"ENABLED": "no"}, "E003", "'ENABLED'", "True or False"),
    ({"EAGER": 1}, "E003", "'EAGER'", "True or False"),
    ({"STORE": 5}, "E003", "'STORE'", "a store URL"),
    ({"DATABASE": None}, "E003", "'DATABASE'", "database alias"),
    ({"STORE_THREADS": 0}, "E003", "'STORE_THREADS'", "a whole number above 0"),
    ({"STORE_THREADS": True}, "E003", "'STORE_THREADS'", "a whole number above 0"),
    ({"HOSTS": ["localhost"]}, "E003", "'HOSTS'", "{'127.0.0.1:8010': 'openai'}"),
    ({"HOSTS": {"http://localhost/v1": "openai"}}, "E003", "'HOSTS'", "without scheme"),
    ({"USER_TENANT_ATTRIBUTES": ["organisation"]}, "W006", "'organisation'", "a field or a property"),
    ({"USER_TENANT_ATTRIBUTES": ["username", "groups.name"]}, "W006", "'groups.name'", "give a TENANT_RESOLVER"),
    ({"PATCHES": "openai"}, "E003", "'PATCHES'", "['openai']"),
    ({"DEFAULT_LIMIT_USD": -5}, "E003", "'DEFAULT_LIMIT_USD'", "US dollars a calendar month"),
    ({"DEFAULT_LIMIT_USD": float("nan")}, "E003", "'DEFAULT_LIMIT_USD'", "from 0 to 10^9"),
    ({"ON_NO_TENANT": None}, "E003", "'ON_NO_TENANT'", "'allow' or 'refuse'"),
    ({"USER_TENANT_ATTRIBUTES": "organization"}, "E003", "'USER_TENANT_ATTRIBUTES'", "['organization']"),
    ({"UPGRADE_URL": 5}, "E003", "'UPGRADE_URL'", "'/billing/'"),
    ({"UPGRADE_TEMPLATE": None}, "E003", "'UPGRADE_TEMPLATE'", "'billing/upgrade.html'"),
    ({"TENANT_RESOLVER": "nowhere.tenant_of"}, "E004", "'TENANT_RESOLVER'", "its dotted path"),
    ({"TENANT_RESOLVER": f"{__name__}.ROOT"}, "E004", "'TENANT_RESOLVER'", "a callable"),
    ({"UPGRADE_RESPONSE": 5}, "E004", "'UPGRADE_RESPONSE'", "a callable"),
    ({"ON_EVENT": "print"}, "E004", "'ON_EVENT'", "its dotted path"),
    ({"ON_NO_TENANT": "block"}, "E003", "'ON_NO_TENANT'", "'refuse'"),
    ({"ON_UNGUARDED": "shout"}, "E003", "'ON_UNGUARDED'", "'ignore'"),
    ({"FLUSH_INTERVAL": float("inf")}, "E003", "'FLUSH_INTERVAL'", "for example 5"),
    ({"LIMIT_CHECK_CACHE_TTL": float("inf")}, "E003", "'LIMIT_CHECK_CACHE_TTL'", "for example 5"),
    ({"UPGRADE_URL": "javascript:alert(1)"}, "E006", "'UPGRADE_URL'", "http(s)"),
    ({"UPGRADE_TEMPLATE": "nowhere.html"}, "E007", "'UPGRADE_TEMPLATE'", "APP_DIRS"),
    ({"STORE": "postgres://localhost/spend"}, "E008", "'STORE'", "the URL of a store that opens"),
    ({"STORE": "sqlite:////dev/null/spend.db"}, "E008", "'STORE'", "the URL of a store that opens"),
    ({"PATCHES": ["opena1"]}, "E009", "'opena1'", "Expected names of: "),
    ({"URL": 5}, "E003", "'URL'", "a URL or None"),
    ({"API_KEY": b"secret"}, "E003", "'API_KEY']: invalid value", "the key of the backend"),
    ({"MAX_BATCH_SIZE": 0}, "E003", "'MAX_BATCH_SIZE'", "for example 50"),
    ({"ON_FLUSH_ERROR": "nowhere.at_all"}, "E004", "'ON_FLUSH_ERROR'", "its dotted path"),
    ({"STORE": "remote"}, "E013", "'STORE'", "Give the URL of the backend"),
    ({"URL": "limits"}, "E014", "'URL'", "Several services"),
    ({"URL": "https://[half"}, "E014", "'URL'", "Several services"),
    ({"URL": "https://x/e", "CHECK_URL": "nowhere"}, "E014", "'CHECK_URL'", "Several services"),
    ({"SPOOL": "x.db"}, "E014", "'SPOOL'", "Several services"),
    ({"STORE": "remote", "URL": "https://x/e", "DEFAULT_LIMIT_USD": 5}, "E014", "'DEFAULT_LIMIT_USD'", "Several"),
    ({"STORE": "remote", "URL": "https://x/e", "SPOOL": "/dev/null/x.db"}, "E014", "'SPOOL'", "Several"),
    ({"DATABASE": "default"}, "E010", "'DATABASE'", "Leave DATABASE out"),
]


@pytest.mark.parametrize(("given", "number", "named", "cure"), WRONG, ids=[f"{row[1]} {row[0]}" for row in WRONG])
def test_a_wrong_setting_is_named_with_its_cure(
    monkeypatch: pytest.MonkeyPatch, given: Any, number: str, named: str, cure: str
) -> None:
    (message,) = check(monkeypatch, given)
    assert message.id == f"token_limit_django.{number}"
    assert named in message.msg
    assert message.hint is not None
    assert cure in message.hint


def test_every_wrong_setting_is_reported_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"HOST": {}, "EAGER": "yes", "TENANT_RESOLVER": "x", "UPGRADE_URL": "data:x", "ON_NO_TENANT": "?"}
    found = [message.id for message in check(monkeypatch, given)]
    assert found == [f"{E}002", f"{E}003", f"{E}003", f"{E}004", f"{E}006"]


VALUES: list[Any] = ["", "x", "memory://", 0, 1, -1, 2.5, 10**10, math.inf, math.nan, True, b"x", [], ["x"], {}]


@pytest.mark.parametrize("key", sorted({key for key in SETTINGS if key.lower() in CONFIG_FIELDS}))
def test_with_settings_that_pass_a_meter_can_be_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str) -> None:
    monkeypatch.chdir(tmp_path)  # 'x' is the name of a file as well
    monkeypatch.setattr("token_limit_core.meter.raise_on_error", print)  # it would hold for the tests after this one
    for store in ("memory://", "remote"):
        for value in VALUES:
            given = {"PATCHES": [], "URL": "https://x/e", "STORE": store, key: value}
            with override_settings(TOKEN_LIMIT=given):
                if not run_checks(tags=["token_limit"]):
                    get_meter()


def test_a_password_in_a_store_url_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    (message,) = check(monkeypatch, {"STORE": "postgresql+psycopg://app:s3cret@127.0.0.1:1/spend"})
    assert message.id == f"{E}008"
    assert "s3cret" not in str(message)


def test_an_alias_with_atomic_requests_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections["token_limit"].settings_dict, "ATOMIC_REQUESTS", True)
    (message,) = check(monkeypatch, {})
    assert message.id == f"{E}011"
    assert "TOKEN_LIMIT['DATABASE']" in message.msg
    assert message.hint == "Set DATABASES['token_limit']['ATOMIC_REQUESTS'] = False."


def test_a_database_of_another_engine_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections["token_limit"], "vendor", "oracle")
    (message,) = check(monkeypatch, {})
    assert message.id == f"{E}015"
    assert "DATABASES['token_limit']: invalid engine" in message.msg
    assert "expected SQLite, PostgreSQL, MySQL or MariaDB" in message.msg
    with pytest.raises(ConfigurationError, match="invalid engine"):
        DjangoStore("token_limit").limits("acme")


def test_an_alias_on_the_default_sqlite_file_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    default = connections["default"].settings_dict
    for key in ("HOST", "PORT", "NAME"):
        monkeypatch.setitem(connections["token_limit"].settings_dict, key, default[key])
    assert [message.id for message in check(monkeypatch, {})] == [f"{E}010"]


def test_a_missing_middleware_is_a_warning_and_a_subclass_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    (message,) = check(monkeypatch, {}, MIDDLEWARE=["nowhere.at.all", "django.middleware.common.CommonMiddleware"])
    assert message.id == f"{W}001"
    assert "MIDDLEWARE" in message.msg
    assert "token_limit_django.middleware.TokenLimitMiddleware" in str(message.hint)
    assert check(monkeypatch, {}, MIDDLEWARE=[f"{__name__}.Subclass"]) == []
    assert check(monkeypatch, {"ENABLED": False}, MIDDLEWARE=[]) == []


@pytest.mark.parametrize("store", ["memory://", open_store("memory://")], ids=["url", "store"])
def test_a_store_of_one_process_is_a_warning_for_deployment(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    assert check(monkeypatch, {"STORE": store}) == []
    (message,) = check(monkeypatch, {"STORE": store}, deploy=True)
    assert (message.id, "TOKEN_LIMIT['STORE']" in message.msg) == (f"{W}003", True)


@pytest.mark.parametrize(("name", "value"), [("ON_UNPRICED", "free"), ("ON_UNGUARDED", "ignore")])
def test_a_policy_without_a_bound_is_a_warning_for_deployment(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    assert check(monkeypatch, {name: value}) == []
    (message,) = check(monkeypatch, {name: value}, deploy=True)
    assert message.id == "token_limit_django.W007"
    assert name in message.msg


def test_eager_mode_is_a_warning_for_deployment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check(monkeypatch, {"EAGER": True}) == []
    (message,) = check(monkeypatch, {"EAGER": True}, deploy=True)
    assert (message.id, "TOKEN_LIMIT['EAGER']" in message.msg) == (f"{W}004", True)


def test_the_sdks_that_are_found_are_listed_for_deployment_with_what_is_metered_of_them() -> None:
    def listed() -> dict[str, str]:
        messages = run_checks(tags=["token_limit"], include_deployment_checks=True)
        return {m.msg.split()[0]: m.msg for m in messages if m.id == "token_limit_django.I001" and m.level == INFO}

    with override_settings(TOKEN_LIMIT={"PATCHES": ["openai"]}):
        found = listed()
    version = re.escape(metadata.version("openai"))
    assert re.match(rf"openai \(openai {version}\): hooks (installed|waiting for import); gu", found["openai"])
    assert found["deepseek"].startswith("deepseek (openai ")
    assert ": hooks off; " in found["anthropic"]
    assert {"openai", "anthropic", "google", "groq", "together", "deepseek", "openrouter"} <= set(found)
    assert set(found) <= set(PATCH_REGISTRY)
    assert "realtime.connect" in found["openai"].partition("not guarded: ")[2]
    assert not [m for m in run_checks(tags=["token_limit"]) if m.level == INFO], "they would be shown by every command"


def test_listing_the_sdks_imports_none_of_them() -> None:
    code = (
        "import sys; from token_limit_django.checks import list_sdks; from django.conf import settings; "
        "settings.configure(); assert list_sdks(); "
        "print(*{'openai', 'anthropic', 'google.genai', 'groq', 'together'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("\n", "")


MEMORY = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}


def test_limits_in_memory_are_a_warning_outside_of_tests() -> None:
    done = manage({"DATABASES": MEMORY}, "check", "--tag", "token_limit")
    assert done.returncode == 0
    assert f"({W}002) TOKEN_LIMIT['DATABASE']" in done.stderr


def test_a_project_without_a_database_is_told_to_name_a_store() -> None:
    done = manage({"DATABASES": {}}, "check")
    assert done.returncode == 1
    assert f"({E}012) TOKEN_LIMIT['STORE']" in done.stderr
    assert manage({"DATABASES": {}, "TOKEN_LIMIT": {"STORE": "memory://"}}, "check").returncode == 0


@pytest.mark.parametrize("given", [[], {"ENABLED": "no"}, {"HOSTS": []}, {"EAGER": None}, {"PATCHES": ["x"]}])
def test_no_wrong_setting_keeps_the_check_command_from_telling(given: Any) -> None:
    done = manage({"DATABASES": MEMORY, "TOKEN_LIMIT": given}, "check")
    assert done.returncode == 1
    assert "SystemCheckError" in done.stderr
    assert f"({E}00" in done.stderr
    assert "Traceback" not in done.stderr


def test_setting_up_and_checking_touches_no_database(tmp_path: Path) -> None:
    default = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "db.sqlite3")}
    assert manage({"DATABASES": {"default": default}}, "check", "--deploy", "--tag", "token_limit").returncode == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("peek", [True, False])
@pytest.mark.parametrize("inside", [True, False])
def test_compression_inside_of_a_peek_is_a_warning(monkeypatch: pytest.MonkeyPatch, peek: bool, inside: bool) -> None:
    both = ["token_limit_django.middleware.TokenLimitMiddleware", "django.middleware.gzip.GZipMiddleware"]
    messages = check(monkeypatch, {"PEEK_STREAMS": peek}, MIDDLEWARE=both if inside else both[::-1])
    assert [message.id for message in messages] == ([f"{W}005"] if peek and inside else [])
