"""Bad input is refused by the name of its field in code, commands, consoles, Django's admin and over the wire."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import requests
from click.testing import CliRunner
from django.contrib.auth.models import User
from django.test import Client as DjangoClient
from django.urls import reverse

from tests.console.mounts import MOUNTS, by_header
from tests.remote.receiver import Receiver
from tests.waiting import PATIENCE
from token_limit_core import ConfigurationError, Meter, MeterConfig
from token_limit_core.cli.main import main
from token_limit_core.ingest.endpoints import Ingest
from token_limit_core.limits.filters import LONGEST_FILTER
from token_limit_django.meter import get_meter

pytestmark = pytest.mark.django_db(databases="__all__", transaction=True)

FORM = "application/x-www-form-urlencoded"
GOOD = {"amount": "25", "frequency": "per_month", "mode": "enforce", "unit": "usd"}

Refuse = Callable[[str, dict[str, str]], str]
"""Does something to tenant acme with keywords that cannot be used, and returns what it was told."""


class Surface:
    """One way to change limits, over a store of its own."""

    def __init__(self, meter: Meter, refuse: Refuse) -> None:
        self.meter = meter
        self.refuse = refuse

    @property
    def saved(self) -> tuple[Any, ...]:
        store = self.meter.store
        changes = [change for change in store.history() if change.kind != "make-key"]
        return store.limits("acme"), store.plans(), store.tenant("acme"), changes


def code(meter: Meter, opened: ExitStack, folder: Path) -> Refuse:
    def refuse(do: str, given: dict[str, Any]) -> str:
        with pytest.raises(ConfigurationError) as refused:
            getattr(meter, do)("pro" if do == "set_plan" else "acme", **given)
        return str(refused.value)

    return refuse


def command(meter: Meter, opened: ExitStack, folder: Path) -> Refuse:
    names = {"set_limit": ["set"], "assign_plan": ["plans", "assign"], "top_up": ["top-up"], "adjust": ["adjust"],
             "set_plan": ["plans", "set"]}  # fmt: skip

    def refuse(do: str, given: dict[str, Any]) -> str:
        rest = dict(given)
        words = [rest.pop(name) for name in ("amount", "usd", "plan") if name in rest]
        words += [",".join(f"{name}={value}" for name, value in one.items()) for one in rest.pop("limits", ())]
        options = [f"--{name.replace('_', '-')}={value}" for name, value in rest.items()]
        who = "pro" if do == "set_plan" else "acme"
        ran = CliRunner().invoke(main, ["--store", str(meter.config.store), *names[do], who, *words, *options])
        assert ran.exit_code != 0
        return ran.output

    return refuse


def forms(post: Callable[[str, dict[str, str]], tuple[int, str]]) -> Refuse:
    paths = {"set_limit": "limit", "set_plan": "plan/limit"}

    def refuse(do: str, given: dict[str, str]) -> str:
        status, page = post(paths[do], {"tenant": "acme", "new_tenant": "acme", **given})
        assert status in (400, 409)
        return " ".join(re.findall(r'id="(\w+-problem)"', html.unescape(page)))

    return refuse


def console(mount: str) -> Callable[[Meter, ExitStack, Path], Refuse]:
    def opened_on(meter: Meter, opened: ExitStack, folder: Path) -> Refuse:
        client = opened.enter_context(MOUNTS[mount](meter, by_header))

        def post(path: str, fields: dict[str, str]) -> tuple[int, str]:
            answer = client.post(path, fields)
            return answer.status, answer.text

        return forms(post)

    return opened_on


def admin(meter: Meter, opened: ExitStack, folder: Path) -> Refuse:
    client = DjangoClient()
    client.force_login(User.objects.create_superuser("root"))

    def post(path: str, fields: dict[str, str]) -> tuple[int, str]:
        url = reverse("admin:token_limit_overview_changelist") + path
        answer = client.post(url, urlencode(fields), FORM)
        return answer.status_code, answer.content.decode()

    return forms(post)


def wire(meter: Meter, opened: ExitStack, folder: Path) -> Refuse:
    receiver = opened.enter_context(Receiver(meter.store, Ingest.of(meter)))
    headers = {"Authorization": f"Bearer {receiver.token}"}

    def refuse(do: str, given: dict[str, Any]) -> str:
        who = {"plan": "pro"} if do == "set_plan" else {"tenant_id": "acme"}
        body = {"do": do, **who, **given}
        url = receiver.url.replace("events", "manage")
        answer = requests.post(url, json=body, headers=headers, timeout=PATIENCE)
        assert answer.status_code == 422
        return str(answer.json()["detail"])

    return refuse


SURFACES = {
    "code": code, "command": command, "flask": console("flask"), "starlette": console("starlette"), "admin": admin,
    "wire": wire,
}  # fmt: skip


@pytest.fixture
def surface(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Surface]:
    with ExitStack() as opened:
        if request.param == "admin":
            meter = get_meter()
        else:
            meter = opened.enter_context(Meter(MeterConfig(store=f"sqlite:///{tmp_path}/ledger.db", patches=[])))
        meter.store.check()
        yield Surface(meter, SURFACES[request.param](meter, opened, tmp_path))


on_every_surface = pytest.mark.parametrize("surface", list(SURFACES), indirect=True)
by_words = pytest.mark.parametrize("surface", ["code", "command", "wire"], indirect=True)
"""Where money and plans are given in words; forms offer a choice, and are tested with the console."""


BAD: list[tuple[str, dict[str, str]]] = [
    *(("amount", {"amount": amount}) for amount in ("-1", "NaN", "Infinity", "1e400", "1000000001", "much")),
    *(("amount", {"unit": "tokens", "amount": amount}) for amount in ("-1", "NaN", "1e400", "1.5", "much")),
    ("frequency", {"frequency": "per_fortnight"}),
    ("unit", {"unit": "bananas"}),
    ("mode", {"mode": "loose"}),
    *(("timezone", {"timezone": zone}) for zone in ("Mars/Olympus", "../etc/passwd", "Europe")),
    *(("anchor", {"anchor": anchor}) for anchor in ("32", "0", "-1", "someday")),
    ("anchor", {"frequency": "per_day", "anchor": "5"}),
    ("basis", {"unit": "tokens", "basis": "cost"}),
    ("basis", {"basis": "profit"}),
    *((name, {name: "x" * (LONGEST_FILTER + 1)}) for name in ("model", "provider", "feature", "user")),
    *((name, {name: "a\x07b"}) for name in ("model", "provider", "feature", "user")),
    ("name", {"name": "x" * 256}),
    *(("effective_date", {"effective_date": date}) for date in ("soon", "2027-13-01")),
]


def names(told: str, field: str) -> bool:
    """Tell whether a message names a field; dollars may be called by the first name of the amount."""
    return field in told.replace("-", "_") or (field == "amount" and ("limit_usd" in told))


def check(surface: Surface, field: str, do: str, given: dict[str, Any]) -> None:
    """Check that something is refused by the name of a field, and that nothing is saved."""
    before = surface.saved
    told = surface.refuse(do, given)
    assert names(told, field), (given, told)
    assert surface.saved == before, given


@on_every_surface
def test_a_limit_that_cannot_be_is_refused_by_the_name_of_its_field(surface: Surface) -> None:
    for field, given in BAD:
        check(surface, field, "set_limit", {**GOOD, **given})


@on_every_surface
def test_a_plan_with_a_limit_that_cannot_be_is_not_saved(surface: Surface) -> None:
    surface.meter.set_plan("pro", [{"amount": 5}])
    for field, given in BAD:
        if field != "effective_date":  # plans have none
            limit = {**GOOD, "frequency": "per_year", **given}
            form = surface.refuse.__qualname__.startswith("forms")
            words = {"plan": "pro", **limit} if form else {"limits": [{"amount": "1"}, limit]}
            check(surface, field, "set_plan", words)


OTHERS: list[tuple[str, str, dict[str, Any]]] = [
    ("plan", "assign_plan", {"plan": "gold"}),
    ("frequency", "set_plan", {"limits": [{"amount": "5"}, {"amount": "6"}]}),
    *(("usd", "top_up", {"usd": usd}) for usd in ("-1", "0", "NaN", "1e400", "much")),
    ("frequency", "top_up", {"usd": "5", "frequency": "per_hour"}),
    ("expires_at", "top_up", {"usd": "5", "frequency": "per_month", "expires_at": "2099-01-01"}),
    *(("usd", "adjust", {"usd": usd}) for usd in ("0", "NaN", "1e400", "much")),
    ("markup", "set_plan", {"limits": [{"amount": "5"}], "markup": "-101"}),
    ("markup", "set_plan", {"limits": [{"amount": "5"}], "markup": "NaN"}),
]


@by_words
def test_money_and_plans_that_cannot_be_are_refused_by_the_name_of_the_field(surface: Surface) -> None:
    surface.meter.set_limit("acme", 5)
    for field, do, given in OTHERS:
        check(surface, field, do, given)
