"""The recipe of the page on plans: a Stripe subscription puts its tenant on a plan."""

from __future__ import annotations

import importlib
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.test import RequestFactory

from tests import pages
from token_limit_core import Meter, MeterConfig
from token_limit_core.delivery.signature import sign
from token_limit_django.meter import get_meter

SECRET = "whsec_test"


def body(kind: str, status: str, plan: str) -> bytes:
    """Return a webhook as Stripe sends it (API version 2024-06-20), shortened."""
    price = {"id": "price_1PgafmB7", "object": "price", "active": True, "currency": "usd", "lookup_key": plan}
    item = {"id": "si_QXhVfbJ4", "object": "subscription_item", "price": price, "quantity": 1}
    subscription = {
        "id": "sub_1PgafmB7WZ01zgkW",
        "object": "subscription",
        "customer": "cus_QXg1o8vcGmoR32",
        "items": {"object": "list", "data": [item], "has_more": False, "total_count": 1},
        "metadata": {"tenant": "acme"},
        "status": status,
    }
    event = {"id": "evt_1PgafpB7", "object": "event", "api_version": "2024-06-20", "type": kind, "livemode": False}
    return json.dumps({**event, "data": {"object": subscription}}).encode()


@pytest.fixture
def receive() -> Any:
    [block] = [block for block in pages.blocks("docs/plans.md") if block.title == "billing.py"]
    names: dict[str, Any] = {}
    exec(compile(block.code, "docs/plans.md", "exec"), names)
    return names["receive"]


@pytest.fixture
def meter() -> Meter:
    meter = Meter(MeterConfig(store="memory://"))
    meter.set_plan("free", [{"amount": 1}])
    meter.set_plan("pro", [{"amount": 25}])
    return meter


def plan(meter: Meter) -> str | None:
    tenant = meter.store.tenant("acme")
    return None if tenant is None else tenant.plan


@pytest.mark.parametrize(
    ("kind", "status", "expected"),
    [
        ("customer.subscription.created", "active", "pro"),
        ("customer.subscription.updated", "past_due", "pro"),
        ("customer.subscription.updated", "unpaid", "free"),
        ("customer.subscription.deleted", "canceled", "free"),
        ("customer.subscription.deleted", "active", "free"),
        ("invoice.paid", "active", None),
    ],
)
def test_a_subscription_puts_its_tenant_on_a_plan(
    receive: Any, meter: Meter, kind: str, status: str, expected: str | None
) -> None:
    sent = body(kind, status, "pro")
    assert receive(meter, sent, sign(sent, SECRET, time.time()), SECRET) == 204
    assert plan(meter) == expected


def test_a_webhook_that_stripe_did_not_sign_changes_nothing(receive: Any, meter: Meter) -> None:
    sent = body("customer.subscription.created", "active", "pro")
    assert receive(meter, sent, sign(sent, "other", time.time()), SECRET) == 400
    assert plan(meter) is None


@pytest.mark.django_db(databases="__all__", transaction=True)
def test_the_view_of_django_answers_stripe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    package = tmp_path / "stripe_recipe"
    package.mkdir()
    for block in pages.blocks("docs/plans.md", language="python"):
        if block.title:
            (package / block.title).write_text(block.code)
    monkeypatch.syspath_prepend(tmp_path)
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    meter = get_meter()
    meter.set_plan("pro", [{"amount": 25}])
    view = importlib.import_module("stripe_recipe.views").stripe_webhook
    sent = body("customer.subscription.created", "active", "pro")
    post = partial(RequestFactory().post, "/stripe", sent, content_type="application/json")
    signature = sign(sent, SECRET, time.time())
    assert [view(post(headers={"Stripe-Signature": one})).status_code for one in (signature, "")] == [204, 400]
    assert plan(meter) == "pro"
