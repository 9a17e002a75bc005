"""How long each page of the console and of Django's admin takes on a large store, and with how many statements.

Usage: python benchmarks/pages.py URL [--only TEXT] [--rounds N]

`URL` is an SQLAlchemy URL of an empty database, which is filled first (100,000 tenants, 5,000,000 rows of the ledger;
some minutes), or of one that an earlier run has filled. Who makes a database on a server drops it afterwards.
Figures are milliseconds with the rendering of the page: the first time, and the best of some rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import django
import sqlalchemy
from django.conf import settings
from django.core.management import call_command

from seeding import DAY, NOW, Size, fill
from token_limit_core import Meter, MeterConfig
from token_limit_core.console.context import Context, Frame
from token_limit_core.console.routes import respond
from token_limit_core.console.web import Request
from token_limit_core.stores.reports import BY
from token_limit_core.stores.sql.transaction import SqlTransaction

PAGES = [
    "", "tenants", "tenants?page=1900", "tenants?q=company+99", "tenants?sort=name", "tenants?sort=spend",
    "tenants?sort=calls", "tenants?sort=share", "tenants?show=near", "tenants?show=near&sort=share",
    "tenants?show=unlimited", "tenants?plan=pro", "tenants.json?sort=share", "tenant?id=t4", "tenant?id=t0&days=90",
    "tenant?id=t0&by=user", "tenant?id=t0&by=session", "tenant.json?id=t0", "tenant.csv?id=t0", "plans",
    "plan?plan=pro", "refusals", "refusals?tenant=t4", "refusals?kind=exhausted&page=100", "limit?tenant=t4", "holds",
    "holds?page=200", "events", "events?tenant=t0", "events?tenant=Company+7919", "events?model=m1",
    "events?mark=unpriced", "events?mark=failed", "events?mark=assumed", "events?call=b77", "history",
    "history?tenant=t7", "keys",
]  # fmt: skip


class Counted:
    """Counts the statements of stores."""

    number = 0

    @contextmanager
    def of_stores(self) -> Iterator[None]:
        """Count what stores run."""
        kept = {name: getattr(SqlTransaction, name) for name in ("_run", "_ask")}

        def counting(work: Callable[..., Any]) -> Callable[..., Any]:
            def run(*given: Any, **named: Any) -> Any:
                self.number += 1
                return work(*given, **named)

            return run

        for name, work in kept.items():
            setattr(SqlTransaction, name, counting(work))
        try:
            yield
        finally:
            for name, work in kept.items():
                setattr(SqlTransaction, name, work)


def console(meter: Meter) -> Callable[[str], Any]:
    """Return what opens a page of the console."""
    frame = Frame("base.html", ("csrf", ""))

    def read(address: str) -> int:
        path, _, query = address.partition("?")
        answer = respond(Context(Request("GET", path, "/console", query), meter, "ann", frame))
        list(answer.body)
        return answer.status

    return read


def admin(url: str, folder: str) -> Callable[[str], Any]:
    """Return what opens a page of Django's admin."""
    own = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(Path(folder, "site.db"))}
    parts = sqlalchemy.make_url(url)
    named = {"NAME": parts.database, "USER": parts.username, "HOST": parts.host, "PORT": parts.port}
    kind = {"sqlite": "sqlite3"}.get(parts.get_backend_name(), parts.get_backend_name())
    settings.configure(
        SECRET_KEY="benchmark",
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=__name__,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        INSTALLED_APPS=[*(f"django.contrib.{name}" for name in APPS), "token_limit_django"],
        MIDDLEWARE=[f"django.contrib.{name}" for name in MIDDLEWARE],
        TEMPLATES=[{"BACKEND": ENGINE, "APP_DIRS": True, "OPTIONS": {"context_processors": PROCESSORS}}],
        DATABASES={"default": own, "token_limit": {"ENGINE": f"django.db.backends.{kind}", **named}},
        TOKEN_LIMIT={"ENABLED": False},
        STATIC_URL="static/",
    )
    django.setup()
    call_command("migrate", database="default", verbosity=0)
    from django.contrib.auth.models import User
    from django.test import Client

    from token_limit_django.meter import get_meter

    object.__setattr__(get_meter().config, "clock", lambda: NOW)
    client = Client(raise_request_exception=True)
    client.force_login(User.objects.create_superuser("ann"))

    def read(address: str) -> int:
        answer = client.get(f"/admin/token_limit/{address}")
        list(answer)
        return answer.status_code

    return read


APPS = ("admin", "auth", "contenttypes", "messages", "sessions")
MIDDLEWARE = (
    "sessions.middleware.SessionMiddleware",
    "auth.middleware.AuthenticationMiddleware",
    "messages.middleware.MessageMiddleware",
)
ENGINE = "django.template.backends.django.DjangoTemplates"
PROCESSORS = [
    "django.template.context_processors.request",
    "django.contrib.auth.context_processors.auth",
    "django.contrib.messages.context_processors.messages",
]


def __getattr__(name: str) -> Any:
    """Give Django the URLs, which it can only load when it is set up."""
    if name != "urlpatterns":
        raise AttributeError(name)
    from django.contrib import admin as site
    from django.urls import path

    return [path("admin/", site.site.urls)]


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--only", default="")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tenants", type=int, default=Size().tenants)
    parser.add_argument("--big", type=int, default=Size().big)
    given = parser.parse_args()
    store = fill(given.url, Size(given.tenants, big=given.big))
    meter = Meter(MeterConfig(store=store, clock=lambda: NOW, patches=[]))
    counted = Counted()
    with TemporaryDirectory() as folder:
        in_admin = admin(given.url, folder)
        open_console = console(meter)
        pages = [
            (f"{kind}{page}", partial(read, f"{below}{page}"))
            for page in PAGES
            for kind, below, read in (("console/", "", open_console), ("admin/overview/", "overview/", in_admin))
        ]
        reports = [
            (f"report by {by}, {days} days", partial(report, meter, by, days)) for by in BY for days in (1, 30, 90)
        ]
        print("| page | milliseconds, first | best | statements |\n|---|---|---|---|")
        with counted.of_stores():
            for name, work in (*pages, *reports):
                if given.only in name:
                    print(row(name, work, counted, given.rounds), flush=True)
    store.close()


def report(meter: Meter, by: Any, days: int) -> None:
    """Sum days of all tenants."""
    meter.store.report(by, NOW - days * DAY, NOW)


def row(name: str, work: Callable[[], Any], counted: Counted, rounds: int) -> str:
    """Measure one page, and write its line."""
    taken = []
    for _ in range(rounds):
        counted.number = 0
        start = time.perf_counter()
        status = work()
        taken.append(time.perf_counter() - start)
        if len(taken) == 1:
            statements = counted.number
    odd = "" if status in (None, 200) else f" ({status})"
    return f"| {name}{odd} | {taken[0] * 1000:,.0f} | {min(taken) * 1000:,.0f} | {statements} |"


if __name__ == "__main__":
    main()
