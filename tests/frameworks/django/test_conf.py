from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from token_limit_core.config import CONFIG_FIELDS
from token_limit_core.delivery.remote_store import RemoteStore
from token_limit_core.errors import ConfigurationError
from token_limit_core.meter import engine_of
from token_limit_core.runtime.clock import system_time
from token_limit_core.stores.records import HOLD_SECONDS
from token_limit_django.conf import SETTINGS, settings
from token_limit_django.meter import get_meter
from token_limit_django.store import DjangoStore

DEFAULTS = {
    "ENABLED": True,
    "STORE": None,
    "DATABASE": "token_limit",
    "EAGER": False,
    "STORE_THREADS": 4,
    "HOSTS": {},
    "PATCHES": None,
    "DEFAULT_LIMIT_USD": None,
    "DEFAULT_PLAN": None,
    "ON_NO_TENANT": "allow",
    "BUSY_WAIT": 0.0,
    "LEASE_SECONDS": 0.0,
    "ON_STORE_ERROR": "allow",
    "OUTAGE_ALLOWANCE_USD": 1,
    "STORE_TIMEOUT": 5.0,
    "JOURNAL": None,
    "ON_UNGUARDED": "warn",
    "ON_UNPRICED": "assume",
    "FALLBACK_PRICE": (5, 25),
    "PRICES": {},
    "MARKUP": None,
    "THRESHOLDS": (50, 80, 100),
    "ON_THRESHOLD": None,
    "WEBHOOK_URL": None,
    "WEBHOOK_SECRET": None,
    "NOTICE_EMAILS": (),
    "ON_OVERRUN": "finish",
    "CAPTURE_CONTENT": False,
    "TENANT_RESOLVER": None,
    "USER_TENANT_ATTRIBUTES": (),
    "UPGRADE_URL": None,
    "SUPPORT_URL": None,
    "UPGRADE_TEMPLATE": "token_limit/upgrade.html",
    "UPGRADE_RESPONSE": None,
    "PEEK_STREAMS": False,
    "RENDER_SWALLOWED_REFUSALS": False,
    "PROPAGATE_THREADS": True,
    "HOLD_SECONDS": HOLD_SECONDS,
    "CLOCK": system_time,
    "ON_EVENT": None,
    "ON_REFUSAL": None,
    "URL": None,
    "THRESHOLDS_URL": None,
    "CHECK_URL": None,
    "API_KEY": None,
    "SPOOL": None,
    "FLUSH_INTERVAL": 5.0,
    "MAX_BATCH_SIZE": 50,
    "MAX_QUEUE_SIZE": 1000,
    "LIMIT_CHECK_CACHE_TTL": 5.0,
    "ON_FLUSH_ERROR": None,
    "DEBUG": False,
    "RAISE_ON_ERROR": False,
}


def tenant_of(request: Any) -> str:
    return "acme"


def clock() -> float:
    return 1_000_000.0


not_callable = "acme"


def test_every_key_has_a_documented_default_that_it_accepts() -> None:
    assert set(SETTINGS) == set(DEFAULTS)
    with override_settings(TOKEN_LIMIT={}):
        assert {key: settings.get(key) for key in DEFAULTS} == DEFAULTS
    assert all(SETTINGS[key].accepts(value) for key, value in DEFAULTS.items())


def test_settings_are_read_when_asked_for() -> None:
    with override_settings(TOKEN_LIMIT={"UPGRADE_URL": "/billing/"}):
        assert settings.UPGRADE_URL == "/billing/"
    assert settings.UPGRADE_URL is None


def test_a_project_without_the_setting_gets_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.conf.settings.TOKEN_LIMIT", {}, raising=False)
    assert settings.given() == {}
    assert settings.ENABLED is True


@pytest.mark.parametrize("resolver", [tenant_of, f"{__name__}.tenant_of"])
def test_a_callable_is_given_as_it_is_or_by_its_path(resolver: Any) -> None:
    with override_settings(TOKEN_LIMIT={"TENANT_RESOLVER": resolver}):
        assert settings.TENANT_RESOLVER is tenant_of


@pytest.mark.parametrize("path", ["nowhere.at_all", "nodots", f"{__name__}.missing", f"{__name__}.not_callable"])
def test_a_path_that_leads_nowhere_names_its_setting(path: str) -> None:
    expected = pytest.raises(ConfigurationError, match=r"TOKEN_LIMIT\['UPGRADE_RESPONSE'\]")
    with override_settings(TOKEN_LIMIT={"UPGRADE_RESPONSE": path}), expected:
        settings.UPGRADE_RESPONSE  # noqa: B018


def test_a_value_of_the_wrong_type_names_its_setting_and_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django.conf.settings.TOKEN_LIMIT", {"HOSTS": ["localhost"]}, raising=False)
    with pytest.raises(ConfigurationError, match=r"TOKEN_LIMIT\['HOSTS'\]: invalid value .*; expected a dict"):
        settings.get("HOSTS")


def test_what_the_meter_is_configured_with_are_fields_of_its_config() -> None:
    with override_settings(TOKEN_LIMIT={"DEBUG": True, "ON_EVENT": f"{__name__}.tenant_of"}):
        options = settings.meter_options()
    assert set(options) <= set(CONFIG_FIELDS)
    assert options == {"debug": True, "on_event": tenant_of}


def test_the_meter_has_the_clock_and_the_hold_of_the_project() -> None:
    given = {"CLOCK": f"{__name__}.clock", "HOLD_SECONDS": 60, "PROPAGATE_THREADS": False}
    with override_settings(TOKEN_LIMIT=given):
        config = get_meter().config
    assert (config.clock, config.hold_seconds, config.propagate_threads) == (clock, 60, False)


def test_the_resolver_of_a_project_is_not_imported_before_the_project_is_ready() -> None:
    with override_settings(TOKEN_LIMIT={"TENANT_RESOLVER": "not.importable.yet", "HOLD_SECONDS": 60}):
        assert settings.meter_options() == {"hold_seconds": 60}
        assert get_meter().status()["patches"]["openai"]["state"] in ("installed", "waiting for import")


@pytest.mark.django_db(databases="__all__")
def test_a_url_beside_the_projects_database_is_an_outbox_and_alone_it_keeps_the_limits() -> None:
    backend = {"URL": "https://limits.example.com/events", "API_KEY": "k1"}
    with override_settings(TOKEN_LIMIT=backend):
        meter = get_meter()
        assert (type(meter.store), engine_of(meter).outbox is not None) == (DjangoStore, True)
        assert meter.store.destinations == (backend["URL"],)
    with override_settings(TOKEN_LIMIT={**backend, "STORE": "remote"}):
        meter = get_meter()
        assert (type(meter.store), engine_of(meter).outbox) == (RemoteStore, None)
    with override_settings(TOKEN_LIMIT={"STORE": "remote"}), pytest.raises(ConfigurationError, match="'URL'"):
        get_meter()
