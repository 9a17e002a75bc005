"""A project of its own in a process of its own: `host.py SETTINGS SCENARIO`, settings as JSON, facts as JSON.

`SCENARIO` is a function of this module, or `manage` and the words of a management command.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import uuid
from typing import Any

import django
from django.conf import settings

from tests.support import use_pymysql

NOW = 1_800_000_000.0
COST = 700


def main(given: str, scenario: str, *words: str) -> None:
    """Set the project up, run one scenario, print what it found."""
    apps = ["django.contrib.contenttypes", "token_limit_django"]
    settings.configure(
        **{
            "INSTALLED_APPS": apps,
            "MIDDLEWARE": ["token_limit_django.middleware.TokenLimitMiddleware"],
            "TEMPLATES": [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}],
            "ROOT_URLCONF": "tests.frameworks.django.users_tests",
            "ALLOWED_HOSTS": ["*"],
            "USE_TZ": True,
            **json.loads(given),
        }
    )
    if "backends.mysql" in given:
        use_pymysql()
    django.setup()
    from django.core.management import execute_from_command_line

    if scenario == "manage":
        execute_from_command_line(["manage.py", *words])
        return
    execute_from_command_line(["manage.py", "migrate", "--verbosity=0"])
    print(json.dumps(globals()[scenario](*words)))


def call(tenant: str = "acme") -> str:
    """Meter one call from admission to settle."""
    from token_limit_core.events import LLMEvent
    from token_limit_core.stores.records import Call
    from token_limit_django.meter import get_store

    call_id = str(uuid.uuid4())
    assert get_store().admit(Call(call_id, tenant, 2 * COST), NOW).admitted
    return get_store().settle(call_id, LLMEvent(call_id, tenant, timestamp=NOW), COST, NOW)


def state(tenant: str = "acme") -> dict[str, Any]:
    """Tell what the store knows: calls, counter, open holds."""
    from token_limit_django.meter import get_store

    (status,) = get_store().usage(tenant, NOW)
    calls = get_store().spend(tenant, 0, 2 * NOW).calls
    return {"calls": calls, "settled": status.settled, "held": status.held, "holds": len(get_store().holds(tenant))}


def limit(tenant: str = "acme") -> None:
    """Give the tenant a limit, so that there is a counter to contend for."""
    from token_limit_core.limits import Limit
    from token_limit_django.meter import get_store

    get_store().set_limit(Limit(tenant, 10**9, effective_from=NOW), NOW)


def host_rows() -> list[str]:
    """List what the project itself has written."""
    from django.contrib.contenttypes.models import ContentType

    return sorted(ContentType.objects.filter(app_label="host").values_list("model", flat=True))


def write(name: str) -> None:
    """Write as the project."""
    from django.contrib.contenttypes.models import ContentType

    ContentType.objects.create(app_label="host", model=name)


def transactions() -> dict[str, Any]:
    """Meter calls inside every kind of transaction the project may have open."""
    from django.db import transaction

    facts: dict[str, Any] = {"tables": tables()}
    limit()
    with transaction.atomic():
        host_rows()
        facts["after a read"] = call()
        write("read, called, wrote")
    with transaction.atomic():
        write("wrote")
        facts["after a write"] = call()
        facts["in a thread"] = in_thread()
        write("called, wrote")
    try:
        with transaction.atomic():
            write("lost")
            facts["before a rollback"] = call()
            raise ZeroDivisionError
    except ZeroDivisionError:
        facts["rolled back"] = host_rows()
    facts["on the loop"] = asyncio.run(on_loop())
    facts["state"] = state()
    return facts


def connections_closed() -> dict[str, Any]:
    """Close every connection before a call, while it is in flight, and after it."""
    from django.db import connections

    from token_limit_core.events import LLMEvent
    from token_limit_core.stores.records import Call
    from token_limit_django.meter import get_store

    limit()
    for call_id in ("first", "second"):
        connections.close_all()
        assert get_store().admit(Call(call_id, "acme", 2 * COST), NOW).admitted
        connections.close_all()
        get_store().settle(call_id, LLMEvent(call_id, "acme", timestamp=NOW), COST, NOW)
        connections.close_all()
    return state()


def in_thread() -> Any:
    """Meter a call in a thread nobody cleans up after; it must leave no connection open."""
    from django.db import connections

    from token_limit_django.databases import store_alias

    found: list[Any] = []

    def work() -> None:
        found.extend([call(), connections[store_alias()].connection])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found


async def on_loop() -> list[str]:
    """Meter calls from a coroutine: off the loop, and by a synchronous call on its thread."""
    from token_limit_django.meter import get_store

    return [await get_store().run_async(call), call()]


def tables() -> dict[str, list[str]]:
    """List our tables by database alias."""
    from django.db import connections

    def ours(alias: str) -> list[str]:
        with connections[alias].cursor() as cursor:
            names = connections[alias].introspection.table_names(cursor)
        return sorted(name.removeprefix("token_limit_") for name in names if name.startswith("token_limit_"))

    return {alias: ours(alias) for alias in connections}


def everywhere() -> dict[str, list[str]]:
    """Migrate every alias, and list our tables."""
    from django.core.management import call_command
    from django.db import connections

    for alias in connections:
        call_command("migrate", database=alias, verbosity=0)
    return tables()


def back_and_forth() -> dict[str, Any]:
    """Take the app's migrations back on the default database, then apply them again."""
    from django.core.management import call_command
    from django.db import connections

    facts: dict[str, Any] = {}
    for target in ("zero", "0001"):
        call_command("migrate", "token_limit", target, verbosity=0)
        facts[target] = tables()
    call_command("migrate", database="token_limit", verbosity=0)
    names = connections["token_limit"].introspection.table_names()
    return {**facts, "others": sorted(name for name in names if not name.startswith("token_limit_"))}


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())
    main(*sys.argv[1:])
