"""System checks: report invalid settings at start-up, with a hint on how to correct them."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.core import mail
from django.core.checks import CheckMessage, Error, Info, Warning
from django.core.management.commands import migrate
from django.db import DEFAULT_DB_ALIAS, connections
from django.template import TemplateDoesNotExist, TemplateSyntaxError
from django.template.loader import get_template
from django.utils.module_loading import import_string

from token_limit_core import MeterConfig, patches
from token_limit_core.config.rules import hint_for
from token_limit_core.delivery.spool import Spool
from token_limit_core.errors import ConfigurationError, StoreError
from token_limit_core.patches import PATCH_REGISTRY
from token_limit_core.runtime.faults import StoreBlocked
from token_limit_core.runtime.links import check_support_url, check_upgrade_url
from token_limit_core.stores import open_store
from token_limit_core.stores.contract import Store

from .conf import REMOTE, SETTINGS, settings
from .databases import in_memory, same_place, store_alias, unsupported
from .meter import get_store

MIDDLEWARE = "token_limit_django.middleware.TokenLimitMiddleware"
GZIP = "django.middleware.gzip.GZipMiddleware"


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """Check `TOKEN_LIMIT` key by key."""
    given = settings.given()
    if not isinstance(given, Mapping):
        return [_error(1, "TOKEN_LIMIT: invalid value; expected a dict.", "Set TOKEN_LIMIT = {...} in the settings.")]
    messages = [_unknown(key) for key in given if key not in SETTINGS]
    messages += [
        _error(
            3,
            f"{_named(key)}: {setting.problem(given[key])}.",
            f"{setting.hint[0].upper()}{setting.hint[1:]}.",
        )
        for key, setting in SETTINGS.items()
        if key in given and not setting.dotted and not setting.accepts(given[key])
    ]
    checks = (
        _callables, _tenant_attributes, _upgrade_url, _upgrade_template, _store, _meter, _patches, _engine, _database,
        _middleware, _peeking,
    )  # fmt: skip
    return messages + _gather(checks)


def check_deployment(**kwargs: Any) -> list[CheckMessage]:
    """Warn, with --deploy, if limits are not durable, not shared between processes, or let calls pass unbounded."""
    return _gather([_durability, _unbounded])


def check_database(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Check, with --database, that the tables are there; `migrate` runs this check, too, before it makes them.

    With `--database default` our alias is checked as well. Django's test runner asks for the databases that the tests
    name, so there our alias must be named.
    """
    try:
        named = {store_alias()} if _testing() else {store_alias(), DEFAULT_DB_ALIAS}
        if settings.STORE is None and named & set(databases or ()) and not _migrating():
            get_store().check()
    except StoreError as error:
        return [_error(16, f"The store cannot be used: {error}.", "Run `manage.py migrate`, or start the database.")]
    except (ConfigurationError, StoreBlocked):
        return []  # a wrong setting is reported already
    return []


def _migrating() -> bool:
    """Return whether `migrate` asks, by whatever name it was started: Django does not tell a check what it is for."""
    stack = traceback.walk_stack(sys._getframe())
    return any(isinstance(frame.f_locals.get("self"), migrate.Command) for frame, _ in stack)


def list_sdks(**kwargs: Any) -> list[CheckMessage]:
    """List, with --deploy, the installed SDKs, and which of their methods are guarded; imports none of them.

    The list needs --deploy because every command of the project would show it otherwise.
    """
    found = {name: patch for name, patch in patches.status().items() if patch["state"] != "not installed"}
    return [_listed(name, **patch) for name, patch in found.items()]


def _listed(
    name: str, state: str, sdk: str | None, version: str | None, guards: list[str], not_guarded: list[str]
) -> CheckMessage:
    hint = f"{_named('ON_UNGUARDED')} applies to calls that are not guarded."
    message = (
        f"{name} ({sdk or 'no module'} {version or 'of unknown version'}): hooks {state}; "
        f"guarded: {', '.join(guards) or 'no method'}; "
        f"not guarded: {', '.join(not_guarded) or 'no known method'}."
    )
    return Info(message, hint=hint, id="token_limit_django.I001")


def _gather(checks: Iterable[Callable[[], Iterable[CheckMessage]]]) -> list[CheckMessage]:
    messages: list[CheckMessage] = []
    for check in checks:
        with suppress(ConfigurationError):  # the type of a setting is wrong, which is reported already
            messages += check()
    return messages


def _unknown(key: Any) -> CheckMessage:
    return _error(2, f"{_named(key)} is not a setting.", hint_for(str(key), SETTINGS))


def _callables() -> Iterator[CheckMessage]:
    for key in (key for key, setting in SETTINGS.items() if setting.dotted):
        try:
            settings.get(key)
        except ConfigurationError as error:
            yield _error(4, f"{error}.", "Give a callable, its dotted path, or None.")


def _tenant_attributes() -> Iterator[CheckMessage]:
    """Find attributes that the user model lacks; without them each user would be its own tenant."""
    names = settings.USER_TENANT_ATTRIBUTES if settings.TENANT_RESOLVER is None else ()
    user = get_user_model() if names else None
    for name in names:
        if not hasattr(user, name):
            message = f"{_named('USER_TENANT_ATTRIBUTES')}: {name!r} is not an attribute of the user model."
            hint = "Name a field or a property; for a dotted path such as 'team.owner' give a TENANT_RESOLVER."
            yield _warning(6, message, hint)


def _upgrade_url() -> Iterator[CheckMessage]:
    links = (
        ("UPGRADE_URL", settings.UPGRADE_URL, check_upgrade_url),
        ("SUPPORT_URL", settings.SUPPORT_URL, check_support_url),
    )
    for name, url, check in links:
        try:
            if url is not None:
                check(url)
        except ConfigurationError:
            message = f"{_named(name)}: invalid value {url!r}."
            yield _error(6, message, "Give an http(s) URL or a path such as '/billing/'.")


def _upgrade_template() -> Iterator[CheckMessage]:
    name = settings.UPGRADE_TEMPLATE
    try:
        get_template(name)
    except (TemplateDoesNotExist, TemplateSyntaxError) as error:
        hint = "Set APP_DIRS in TEMPLATES, which finds 'token_limit/upgrade.html', or name an existing template."
        yield _error(7, f"{_named('UPGRADE_TEMPLATE')}: {name!r} cannot be used: {type(error).__name__}.", hint)


def _store() -> Iterator[CheckMessage]:
    given = settings.STORE
    if given is None or given == REMOTE:
        return
    try:
        store = open_store(given)
        try:
            store.check()
        finally:
            if store is not given:
                store.close()
    except (ConfigurationError, StoreError) as error:
        hint = "Give the URL of a store that opens here, or leave STORE out to use the project's database."
        yield _error(8, f"{_named('STORE')} cannot be opened: {error}.", hint)


def _meter() -> Iterator[CheckMessage]:
    """Check the settings of the Meter in combination; each may be valid alone."""
    remote = settings.STORE == REMOTE
    if remote and settings.URL is None:
        hint = "Give the URL of the backend that takes the events, or leave STORE out to use the project's database."
        yield _error(13, f"{_named('STORE')} is {REMOTE!r}, but URL is not set.", hint)
        return
    options = settings.meter_options()
    try:
        config = MeterConfig(store=None if remote else "memory://", **options)
        if config.spool is not None:
            Spool(config.spool).check()
    except ConfigurationError as error:
        key = str(error).partition(":")[0].upper()
        yield _error(14, f"{_named(key)}: {str(error).partition(': ')[2]}.", "See “Several services, one ledger”.")


def _patches() -> Iterator[CheckMessage]:
    for name in settings.PATCHES or ():
        if name not in PATCH_REGISTRY:
            hint = f"Expected names of: {', '.join(sorted(PATCH_REGISTRY))}."
            yield _error(9, f"{_named('PATCHES')}: unknown SDK {name!r}.", hint)


def _engine() -> Iterator[CheckMessage]:
    alias = store_alias()
    wrong = unsupported(alias) if settings.STORE is None and alias in connections else None
    if wrong is not None:
        hint = "Name an alias with a supported engine in DATABASE, or set STORE, for example 'sqlite:////var/lib/app/limits.db'."
        yield _error(15, f"{wrong}.", hint)


def _database() -> Iterator[CheckMessage]:
    if settings.EAGER or settings.STORE is not None:
        return
    alias = store_alias()
    if alias not in connections:
        message = f"{_named('STORE')} is not set, and the project has no default database for the limits."
        yield _error(
            12, message, "Set a store URL, for example 'sqlite:////var/lib/app/token_limit.db', or a default database."
        )
    elif alias == DEFAULT_DB_ALIAS or (connections[alias].vendor == "sqlite" and same_place(alias, DEFAULT_DB_ALIAS)):
        message = f"{_named('DATABASE')}: {alias!r} shares its connection or file with the project's transactions."
        yield _error(10, message, "Leave DATABASE out, or name an alias with a separate database file.")
    elif connections[alias].settings_dict["ATOMIC_REQUESTS"]:
        message = (
            f"{_named('DATABASE')}: {alias!r} has ATOMIC_REQUESTS: a failed request would roll back its recorded spend."
        )
        yield _error(11, message, f"Set DATABASES[{alias!r}]['ATOMIC_REQUESTS'] = False.")
    elif connections[alias].vendor == "sqlite" and in_memory(alias) and not _testing():
        message = f"{_named('DATABASE')}: the limits are stored in memory, because the default database is in memory."
        yield _warning(2, message, "Use a file for the default database, or set EAGER in the settings of tests.")
    elif connections[alias].vendor == "sqlite" and not in_memory(alias):
        folder = os.path.dirname(os.path.abspath(connections[alias].settings_dict["NAME"]))
        if not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            message = f"{_named('DATABASE')}: the folder {folder} of {alias!r} does not exist or is not writable."
            yield _error(17, message, "Make the folder, or give the database a file in a folder that can be written.")


def _middleware() -> Iterator[CheckMessage]:
    if settings.ENABLED and not any(map(_is_ours, django_settings.MIDDLEWARE)):
        hint = f"Add '{MIDDLEWARE}' to MIDDLEWARE, preferably first."
        yield _warning(1, "MIDDLEWARE lacks the token-limit middleware: requests have no tenant.", hint)


def _peeking() -> Iterator[CheckMessage]:
    """Find GZipMiddleware below ours: its first chunk is the gzip header, sent before the body begins."""
    order = list(django_settings.MIDDLEWARE)
    ours = next((place for place, path in enumerate(order) if _is_ours(path)), None)
    if settings.PEEK_STREAMS and ours is not None and GZIP in order[ours:]:
        message = (
            f"{_named('PEEK_STREAMS')}: GZipMiddleware is below the token-limit middleware: "
            "streams begin before a refusal."
        )
        yield _warning(5, message, f"List {GZIP!r} before '{MIDDLEWARE}'.")


def _durability() -> Iterator[CheckMessage]:
    store = settings.STORE
    if (isinstance(store, str) and store.startswith("memory:")) or (isinstance(store, Store) and not store.durable):
        hint = "Leave STORE out to use the project's database, or set the URL of a database."
        yield _warning(3, f"{_named('STORE')}: each process has separate counters and loses them when it ends.", hint)
    elif store == REMOTE and settings.SPOOL is None:
        hint = "Set SPOOL to the path of a file."
        yield _warning(
            5, f"{_named('STORE')}: events that are not delivered yet are lost if the process is killed.", hint
        )
    elif settings.EAGER:
        hint = "Use EAGER only in the settings of tests that run inside a transaction."
        yield _warning(4, f"{_named('EAGER')}: a request that rolls back also removes its recorded spend.", hint)


UNBOUNDED = {"ON_UNPRICED": "free", "ON_UNGUARDED": "ignore"}
"""Policies under which calls count against no limit, and nothing is logged."""


def _unbounded() -> Iterator[CheckMessage]:
    for name, value in UNBOUNDED.items():
        if settings.get(name) == value:
            hint = f"Use {SETTINGS[name].default!r} or 'refuse'."
            yield _warning(7, f"{_named(name)}: {value!r} lets calls pass that count against no limit.", hint)


def _is_ours(path: str) -> bool:
    if path == MIDDLEWARE:
        return True
    try:
        candidate = import_string(path)
    except ImportError:
        return False  # Django reports it
    return isinstance(candidate, type) and issubclass(candidate, import_string(MIDDLEWARE))


def _testing() -> bool:
    return hasattr(mail, "outbox")  # Django's test environment sets it


def _named(key: Any) -> str:
    return f"TOKEN_LIMIT[{key!r}]"


def _error(number: int, message: str, hint: str) -> CheckMessage:
    return Error(message, hint=hint, id=f"token_limit_django.E{number:03}")


def _warning(number: int, message: str, hint: str) -> CheckMessage:
    return Warning(message, hint=hint, id=f"token_limit_django.W{number:03}")
