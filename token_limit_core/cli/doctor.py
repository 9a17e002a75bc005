"""The command `doctor`: what is metered and what is not, in words. Exit code 1 if something is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click

from ..config.rules import CORE
from ..config.table import SETTINGS
from ..limits import EVERYONE
from ..meter import Meter
from ..runtime.faults import ConfigurationError, StoreError, TokenLimitError
from ..windows import DAY, PER_MONTH, window_of
from ..wording import dollars, shown_id
from .session import Source, require_store, with_new_meter

RECENT_DAYS = 7
OK, NOTE, WRONG = "ok", "note", "WRONG"

STATES = {
    "installed": (OK, "is hooked"),
    "waiting for import": (OK, "is hooked when it is imported"),
    "off": (NOTE, "is not hooked by this process; an application hooks all that its setting `patches` names"),
    "failed": (WRONG, "cannot be hooked, so its calls are not metered; the log says why"),
}
POLICIES = ("ON_UNPRICED", "ON_NO_TENANT", "ON_STORE_ERROR", "ON_UNGUARDED", "DEFAULT_LIMIT_USD", "DEFAULT_PLAN")
"""Settings that are shown although they have their default: what happens with what is not known."""


class Finding(NamedTuple):
    """A line of the doctor's report."""

    level: str
    text: str


@click.command()
@click.option("--user", help="Say who this user pays as: a user's name or id in the application.")
@with_new_meter
def doctor(meter: Meter, user: str | None) -> None:
    """Say what is metered and what is not: SDKs, store, settings, who pays, what has no price.

    The exit code is 1 if something is wrong.
    """
    source = click.get_current_context().find_object(Source)
    assert source is not None
    sections: list[tuple[str, Iterator[Finding]]] = [
        ("SDKs", _sdks(meter)),
        ("Store", _store(meter)),
        ("Settings", _settings(meter)),
        ("Recent calls", _calls(meter)),
    ]
    if user is not None:
        sections.append(("Who pays", _payer(meter, source.payer_of, user)))
    wrong = 0
    for title, findings in sections:
        click.echo(title)
        for finding in findings:
            wrong += finding.level == WRONG
            click.echo(f"  {finding.level:<6} {finding.text}")
    click.echo("Everything is in order." if not wrong else f"{wrong} thing{'s are' if wrong > 1 else ' is'} wrong.")
    if wrong:
        click.get_current_context().exit(1)


def _sdks(meter: Meter) -> Iterator[Finding]:
    status = meter.status()
    found = {name: patch for name, patch in status["patches"].items() if patch["state"] != "not installed"}
    for name, patch in sorted(found.items()):
        yield _sdk(name, **patch)
    if not found:
        yield Finding(WRONG, "no SDK is installed that could be metered, for example openai")
    for distribution in status["unmetered"]:
        yield Finding(NOTE, f"{distribution} is installed, and nothing meters it: its calls cost money unseen")


def _sdk(
    name: str, state: str, sdk: str | None, version: str | None, guards: list[str], not_guarded: list[str]
) -> Finding:
    level, what = STATES[state]
    module = f" (module {sdk})" if sdk not in (None, name) else ""
    missing = f"; not metered: {', '.join(not_guarded)}" if not_guarded else ""
    metered = f"; metered: {', '.join(guards)}" if guards else ""
    return Finding(level, f"{name}{module} {version or 'of unknown version'} {what}{metered}{missing}")


def _store(meter: Meter) -> Iterator[Finding]:
    store = meter.store
    try:
        require_store(store)
        store.check()
    except (ConfigurationError, StoreError) as error:
        yield Finding(WRONG, f"{store}: {error}")
        return
    schema = store.schema()
    yield Finding(OK, f"{store} answers{f', with {schema}' if schema else ''}")
    if store.backend is not None:
        yield Finding(NOTE, f"limits and ledger are kept by {store.backend}")
    elif not store.durable:
        yield Finding(NOTE, "it keeps nothing when the process ends, and each process has limits of its own")
    waiting = meter.status().get("settles_waiting")
    if waiting:
        yield Finding(WRONG, f"{waiting:,} calls wait to be written, since the store was away")


def _settings(meter: Meter) -> Iterator[Finding]:
    for key, setting in SETTINGS.items():
        if CORE not in setting.where:
            continue
        value = getattr(meter.config, key.lower())
        if key in POLICIES or not _is_default(value, setting.default):
            shown = "(set)" if setting.secret and value is not None else _value(value)
            yield Finding(OK, f"{key.lower()} = {shown}: {setting.doc}")


def _is_default(value: Any, default: Any) -> bool:
    return value is default or bool(value == default)


def _value(value: Any) -> str:
    return (
        f"{value.__module__}.{value.__qualname__}"
        if callable(value) and hasattr(value, "__qualname__")
        else repr(value)
    )


def _calls(meter: Meter) -> Iterator[Finding]:
    now = meter.config.clock()
    if not meter.store.exists():
        yield Finding(NOTE, "not known: there is no store yet")
        return
    try:
        rows = [row for row in meter.store.report("model", now - RECENT_DAYS * DAY, now, None) if row.total.unpriced]
        month = window_of(PER_MONTH, now)
        nobody = meter.store.spend("", month.start, month.end)
        limited = bool(meter.store.rules("").limits) or bool(meter.store.limits(EVERYONE))
    except StoreError as error:
        yield Finding(NOTE, f"not known: {error}")
        return
    for row in rows:
        calls = row.total.unpriced
        yield Finding(
            NOTE,
            f"{row.key}: no price was known for {calls:,} call{'s' if calls != 1 else ''} in {RECENT_DAYS} days; "
            f"`prices {row.key}` says why, the setting `prices` cures it",
        )
    if not rows:
        yield Finding(OK, f"every call of the last {RECENT_DAYS} days has a price")
    if nobody.calls:
        cure = "a limit holds them" if limited else "nothing limits them: set_limit('', ...), or on_no_tenant"
        yield Finding(
            NOTE, f"calls without a tenant this month: {nobody.calls:,}, for {dollars(nobody.cost_nano)}; {cure}"
        )


def _payer(meter: Meter, payer_of: Callable[[str], str | None] | None, user: str) -> Iterator[Finding]:
    if payer_of is None:
        yield Finding(
            NOTE,
            "only an application knows its users: run `flask token-limit doctor` or `manage.py token_limit_doctor`; "
            "in Starlette and FastAPI ask /token-limit of the application as that user",
        )
        return
    try:
        tenant = payer_of(user)
    except TokenLimitError as error:
        yield Finding(WRONG, f"{user}: {error}")
    except Exception as error:
        yield Finding(WRONG, f"{user}: the resolver failed: {type(error).__name__}: {error}")
    else:
        yield _pays(meter, user, tenant)


def _pays(meter: Meter, user: str, tenant: str | None) -> Finding:
    if tenant is None:
        return Finding(NOTE, f"{user} pays as nobody: on_no_tenant = {meter.config.on_no_tenant!r} decides")
    try:
        limits = meter.limits(tenant)
    except StoreError as error:
        return Finding(NOTE, f"{user} pays as {shown_id(tenant)}; its limits are not known: {error}")
    what = f"which has {len(limits)} limit{'s' if len(limits) != 1 else ''}" if limits else "which has no limit"
    return Finding(OK if limits else NOTE, f"{user} pays as {shown_id(tenant)}, {what}")
