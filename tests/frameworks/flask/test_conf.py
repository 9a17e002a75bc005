"""Settings: read by init_app, and refused there with the name of the key and the cure."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from flask import Flask

from token_limit_core import ConfigurationError, LLMEvent
from token_limit_core.config.rules import FLASK
from token_limit_core.config.table import settings_of
from token_limit_core.stores.memory.store import MemoryStore
from token_limit_flask import TokenLimit, get_meter
from token_limit_flask.conf import PREFIX, Settings

not_callable = "acme"


def hook(event: LLMEvent) -> None: ...


def clock() -> float:
    return 1_800_000_000.0


async def aresolve(request: Any) -> str:
    return "acme"


def extended(**config: Any) -> Flask:
    app = Flask(__name__)
    app.config.update({PREFIX + key: value for key, value in {"STORE": "memory://", **config}.items()})
    TokenLimit(app)
    return app


def test_every_key_has_a_meaning() -> None:
    given: dict[str, Any] = {
        "ENABLED": False,
        "STORE": MemoryStore(),
        "HOSTS": {"LOCALHOST:1": "openai"},
        "PATCHES": ["openai"],
        "DEFAULT_LIMIT_USD": "9.99",
        "DEFAULT_PLAN": "basic",
        "ON_NO_TENANT": "refuse",
        "BUSY_WAIT": 2,
        "LEASE_SECONDS": 5,
        "ON_STORE_ERROR": "refuse",
        "OUTAGE_ALLOWANCE_USD": "2.50",
        "STORE_TIMEOUT": 2,
        "JOURNAL": "journal",
        "HOLD_SECONDS": 60,
        "CLOCK": f"{__name__}.clock",
        "ON_UNGUARDED": "refuse",
        "ON_UNPRICED": "free",
        "FALLBACK_PRICE": ["3", 15],
        "PRICES": {"my-model": {"input": 1}},
        "CAPTURE_CONTENT": True,
        "TENANT_RESOLVER": hook,
        "USER_TENANT_ATTRIBUTES": ["organization"],
        "UPGRADE_URL": "/plans",
        "SUPPORT_URL": "mailto:help@example.com",
        "MARKUP": f"{__name__}.hook",
        "UPGRADE_TEMPLATE": "upgrade.html",
        "UPGRADE_RESPONSE": hook,
        "PEEK_STREAMS": True,
        "RENDER_SWALLOWED_REFUSALS": True,
        "PROPAGATE_THREADS": False,
        "ON_EVENT": f"{__name__}.hook",
        "ON_REFUSAL": f"{__name__}.hook",
        "THRESHOLDS": [90],
        "ON_THRESHOLD": f"{__name__}.hook",
        "WEBHOOK_URL": "https://example.com/hook",
        "WEBHOOK_SECRET": "whsec_1",
        "ON_OVERRUN": "cut",
        "DEBUG": True,
        "RAISE_ON_ERROR": False,
        "URL": "https://limits.example.com/events",
        "THRESHOLDS_URL": "https://limits.example.com/t",
        "CHECK_URL": "https://limits.example.com/c",
        "API_KEY": "k1",
        "SPOOL": None,
        "FLUSH_INTERVAL": 1,
        "MAX_BATCH_SIZE": 10,
        "MAX_QUEUE_SIZE": 100,
        "LIMIT_CHECK_CACHE_TTL": 0.5,
        "ON_FLUSH_ERROR": f"{__name__}.hook",
    }
    assert set(given) == set(settings_of(FLASK))
    app = extended(**given)
    with get_meter(app) as meter:
        assert app.extensions["token_limit"].settings == Settings(
            enabled=False,
            tenant_resolver=hook,
            user_tenant_attributes=["organization"],
            upgrade_url="/plans",
            support_url="mailto:help@example.com",
            upgrade_template="upgrade.html",
            upgrade_response=hook,
            peek_streams=True,
            render_swallowed_refusals=True,
        )
        assert meter.store is given["STORE"]
        config = meter.config
        assert (config.hosts, config.patches, config.default_limit_usd) == (
            {"localhost:1": "openai"},
            ["openai"],
            "9.99",
        )
        assert (config.on_no_tenant, config.on_unguarded, config.capture_content) == ("refuse", "refuse", True)
        assert (config.propagate_threads, config.hold_seconds) == (False, 60)
        assert (config.on_event, config.clock) == (hook, clock)
        assert (config.debug, config.raise_on_error) == (True, False)
        assert meter.store.destinations == ("https://limits.example.com/events",)
        assert (config.thresholds_url, config.check_url) == (given["THRESHOLDS_URL"], given["CHECK_URL"])
        assert (config.api_key, config.flush_interval, config.max_batch_size, config.max_queue_size) == (
            "k1",
            1,
            10,
            100,
        )
        assert (config.limit_check_cache_ttl, config.on_flush_error, config.spool) == (0.5, hook, None)


def test_without_settings_there_are_defaults() -> None:
    app = Flask(__name__)
    TokenLimit(app)
    with get_meter(app) as meter:
        assert app.extensions["token_limit"].settings == Settings()
        assert type(meter.store).__name__ == "SqlStore"  # nothing is opened before it is needed


def test_the_config_wins_over_options() -> None:
    app = Flask(__name__)
    app.config["TOKEN_LIMIT_UPGRADE_URL"] = "/from-config"
    TokenLimit(app, upgrade_url="/from-option", store="memory://", debug=True)
    with get_meter(app) as meter:
        assert app.extensions["token_limit"].settings.upgrade_url == "/from-config"
        assert meter.config.debug is True


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"STOR": "memory://"}, "TOKEN_LIMIT_STOR is not a setting. Did you mean 'STORE'? Known keys are: API_KEY, "),
        ({"ENABLED": "no"}, "TOKEN_LIMIT_ENABLED: invalid value 'no'; expected True or False"),
        ({"STORE": 5}, "TOKEN_LIMIT_STORE: invalid value; expected a store URL"),
        ({"STORE": "postgres://localhost/x"}, "TOKEN_LIMIT_STORE: 'postgres://localhost/x' has no known scheme"),
        ({"HOSTS": ["localhost"]}, "TOKEN_LIMIT_HOSTS: invalid value ['localhost']; expected a dict from host"),
        ({"PATCHES": "openai"}, "TOKEN_LIMIT_PATCHES: invalid value 'openai'; expected a list of names of SDKs"),
        ({"PATCHES": ["opena1"]}, "TOKEN_LIMIT_PATCHES: 'opena1' is not known; known are: "),
        ({"DEFAULT_LIMIT_USD": -5}, "TOKEN_LIMIT_DEFAULT_LIMIT_USD: invalid value -5; expected US dollars"),
        ({"DEFAULT_LIMIT_USD": "nan"}, "TOKEN_LIMIT_DEFAULT_LIMIT_USD: invalid value 'nan'"),
        ({"ON_NO_TENANT": "block"}, "TOKEN_LIMIT_ON_NO_TENANT: invalid value 'block'; expected 'allow' or 'refuse'"),
        ({"ON_UNGUARDED": "shout"}, "TOKEN_LIMIT_ON_UNGUARDED: invalid value 'shout'; expected 'warn', 'ref"),
        ({"TENANT_RESOLVER": 5}, "TOKEN_LIMIT_TENANT_RESOLVER: invalid value 5; expected a callable"),
        ({"TENANT_RESOLVER": "nowhere.at_all"}, "TOKEN_LIMIT_TENANT_RESOLVER: 'nowhere.at_all' cannot be imported"),
        (
            {"ON_EVENT": f"{__name__}.missing"},
            "TOKEN_LIMIT_ON_EVENT: 'tests.frameworks.flask.test_conf.missing",
        ),
        ({"UPGRADE_RESPONSE": f"{__name__}.not_callable"}, "test_conf.not_callable' is not callable"),
        (
            {"USER_TENANT_ATTRIBUTES": "organization"},
            "TOKEN_LIMIT_USER_TENANT_ATTRIBUTES: invalid value 'organization'",
        ),
        ({"UPGRADE_URL": "javascript:alert(1)"}, "TOKEN_LIMIT_UPGRADE_URL: invalid value 'javascript:alert(1)'"),
        ({"STORE": None, "URL": "limits"}, "TOKEN_LIMIT_URL: invalid value; expected an http(s) URL"),
        ({"STORE": "memory://", "SPOOL": "x.db"}, "TOKEN_LIMIT_SPOOL: it keeps events for a remote backend"),
        (
            {"FLUSH_INTERVAL": float("inf")},
            "TOKEN_LIMIT_FLUSH_INTERVAL: invalid value inf; expected seconds",
        ),
        ({"LIMIT_CHECK_CACHE_TTL": "5"}, "TOKEN_LIMIT_LIMIT_CHECK_CACHE_TTL: invalid value '5'; expected seconds"),
        ({"API_KEY": b"secret"}, "TOKEN_LIMIT_API_KEY: invalid value; expected the key"),
        (
            {"UPGRADE_TEMPLATE": None},
            "TOKEN_LIMIT_UPGRADE_TEMPLATE: invalid value None; expected the name",
        ),
    ],
)
def test_a_setting_that_cannot_be_names_its_key_and_the_cure(config: dict[str, Any], complaint: str) -> None:
    app = Flask(__name__)
    app.config.update({PREFIX + key: value for key, value in config.items()})
    wsgi_app = app.wsgi_app
    with pytest.raises(ConfigurationError) as caught:
        TokenLimit(app)
    assert complaint in str(caught.value)
    assert (app.wsgi_app, app.extensions) == (wsgi_app, {})  # nothing is half done


def test_an_unknown_option_is_refused_like_a_key() -> None:
    with pytest.raises(ConfigurationError, match="TOKEN_LIMIT_UPGRADEURL is not a setting. Did you mean 'UPGRADE_URL'"):
        TokenLimit(Flask(__name__), upgradeurl="/plans")


def test_an_asynchronous_resolver_needs_what_flask_needs_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asgiref.sync", None)
    with pytest.raises(
        ConfigurationError, match=r"TOKEN_LIMIT_TENANT_RESOLVER: invalid value .* async .*'async' extra"
    ):
        extended(TENANT_RESOLVER=aresolve)


def test_an_app_is_extended_once() -> None:
    app = extended()
    with get_meter(app), pytest.raises(ConfigurationError, match="TokenLimit is set up on this app already"):
        TokenLimit().init_app(app)


def test_an_app_without_the_extension_is_told_so() -> None:
    with pytest.raises(ConfigurationError, match=r"TokenLimit is not set up on this app; call TokenLimit\(app\)"):
        get_meter(Flask(__name__))
