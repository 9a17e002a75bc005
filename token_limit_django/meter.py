"""The project's one Meter, made from settings when it is first needed."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

from django.core.signals import setting_changed

from token_limit_core import Meter, MeterConfig
from token_limit_core.errors import ConfigurationError
from token_limit_core.meter import engine_of
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store

from .conf import REMOTE, settings
from .mails import mail
from .signals import SignalListener

_meter: Meter | None = None
_lock = threading.RLock()


def get_meter() -> Meter:
    """Return the project's Meter; making it starts no thread and touches no database."""
    if _meter is not None:
        return _meter
    with _lock:
        return _meter if _meter is not None else _make()


def get_store() -> Store:
    """Return the store of the project's Meter."""
    return get_meter().store


def install() -> None:
    """Hook the configured SDKs; of settings that cannot work the system checks and the middleware tell."""
    with contextlib.suppress(ConfigurationError):
        if settings.ENABLED:
            get_meter().patch_all()


def _make() -> Meter:
    global _meter
    given = settings.meter_options()
    if settings.STORE == REMOTE and given.get("url") is None:
        raise ConfigurationError("TOKEN_LIMIT['URL']: is missing; STORE = 'remote' needs it")
    _meter = Meter(MeterConfig(store=_store(), **given))
    signals, engine = SignalListener(), engine_of(_meter)
    engine.listeners.append(signals)
    engine.notice_hooks += (signals.on_threshold, mail)
    return _meter


def _store() -> Store | None:
    if settings.STORE == REMOTE:
        return None  # with a URL alone, limits and ledger live there
    if settings.STORE is not None:
        return open_store(settings.STORE)
    from .store import DjangoStore  # the ORM is not ready while settings are being read

    return DjangoStore()


def _settings_changed(*, setting: str, **kwargs: Any) -> None:
    """Start over with a new Meter when a test overrides the settings."""
    global _meter
    if setting != "TOKEN_LIMIT":
        return
    with _lock:
        old, _meter = _meter, None
    if old is not None:
        old.close()
    install()


setting_changed.connect(_settings_changed, dispatch_uid="token_limit_django.meter")
