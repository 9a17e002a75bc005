"""Calls: in flight, recorded, summed up, refused."""

from __future__ import annotations

from decimal import Decimal

from django.db import models

from token_limit_core.money import to_usd
from token_limit_core.stores.columns import WIDTHS

from ..fields import ExactTextField, TenantField
from .tenants import TENANT_WIDTH


def _cut(name: str, *, null: bool = True) -> ExactTextField[str | None, str | None]:
    return ExactTextField(max_length=WIDTHS[name], null=null)


class Hold(models.Model):
    """The amount reserved for a call in flight."""

    call_id = ExactTextField(max_length=64, primary_key=True)
    tenant_id = TenantField("tenant", max_length=TENANT_WIDTH)
    amount = models.BigIntegerField(null=True, help_text="nano-dollars; empty is unpriced")
    created_at = models.FloatField(help_text="unix seconds")
    expires_at = models.FloatField(help_text="unix seconds")
    origin = ExactTextField(max_length=16, default="call")
    state = ExactTextField(max_length=16, default="open")
    tokens = models.BigIntegerField(default=0)
    provider = ExactTextField(max_length=WIDTHS["provider"], default="")
    model = ExactTextField(max_length=WIDTHS["model"], default="")
    user = _cut("user")
    feature = _cut("feature")
    process = ExactTextField(max_length=255, default="")
    charge = models.BigIntegerField(null=True, help_text="nano-dollars; empty is the amount")

    class Meta:
        db_table = "token_limit_hold"
        indexes = [
            models.Index(fields=["state", "expires_at"], name="token_limit_hold_due"),
            models.Index(fields=["tenant_id", "state"], name="token_limit_hold_tenant"),
        ]

    def __str__(self) -> str:
        return self.call_id


class HoldItem(models.Model):
    """The part of a hold on one counter."""

    pk = models.CompositePrimaryKey("call_id", "limit_id", "window_start")
    call_id = ExactTextField(max_length=64)
    limit_id = models.BigIntegerField()
    window_start = models.BigIntegerField(help_text="unix seconds")
    amount = models.BigIntegerField(default=0, help_text="in the limit's unit")
    subject = TenantField(max_length=TENANT_WIDTH, default="")
    shared = models.BooleanField(default=False, help_text="on the counter of all tenants together")

    class Meta:
        db_table = "token_limit_hold_item"
        indexes = [models.Index(fields=["limit_id"], name="token_limit_hold_item_limit")]


class LedgerEntry(models.Model):
    """One event, append-only: an expiry or a correction is a separate row."""

    id = models.BigAutoField(primary_key=True)
    tenant_id = TenantField("tenant", max_length=TENANT_WIDTH)
    event_id = ExactTextField(max_length=80)
    kind = ExactTextField(max_length=16, default="call")
    corrects = ExactTextField(max_length=80, null=True)
    timestamp = models.FloatField(help_text="unix seconds, when the call was admitted")
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    total_tokens = models.BigIntegerField(default=0)
    cached_tokens = models.BigIntegerField(default=0)
    cache_creation_tokens = models.BigIntegerField(null=True)
    reasoning_tokens = models.BigIntegerField(null=True)
    cost_nano = models.BigIntegerField("cost", null=True, help_text="nano-dollars; empty is unpriced")
    stream = models.BooleanField()
    duration_ms = models.FloatField(null=True)
    provider = _cut("provider")
    model = _cut("model")
    endpoint = _cut("endpoint")
    price_version = _cut("price_version")
    service_tier = _cut("service_tier")
    user = _cut("user")
    feature = _cut("feature")
    session_id = _cut("session_id")
    request_id = _cut("request_id")
    error = _cut("error")
    details = models.JSONField(default=dict)
    requested_model = ExactTextField(max_length=WIDTHS["model"], null=True)
    charge_nano = models.BigIntegerField("charge", null=True, help_text="nano-dollars; empty is the cost")

    class Meta:
        db_table = "token_limit_ledger"
        verbose_name = "event"
        constraints = [models.UniqueConstraint(fields=["tenant_id", "event_id"], name="token_limit_ledger_event")]
        indexes = [
            models.Index(fields=["tenant_id", "timestamp"], name="token_limit_ledger_tenant_time"),
            models.Index(fields=["timestamp"], name="token_limit_ledger_time"),
            models.Index(fields=["tenant_id", "user", "timestamp"], name="token_limit_ledger_user_time"),
        ]

    def __str__(self) -> str:
        return self.event_id

    @property
    def cost_usd(self) -> Decimal | None:
        """The cost of the row in US dollars; None if no price is known."""
        return None if self.cost_nano is None else to_usd(self.cost_nano)

    @property
    def charge_usd(self) -> Decimal | None:
        """What the tenant is billed in US dollars; None if no price is known."""
        return self.cost_usd if self.charge_nano is None else to_usd(self.charge_nano)


class _Totals(models.Model):
    """The columns of `stores.entries.Spend`."""

    calls = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_nano = models.BigIntegerField(default=0, help_text="nano-dollars")
    unpriced = models.BigIntegerField(default=0)
    charge_nano = models.BigIntegerField(default=0, help_text="nano-dollars")

    class Meta:
        abstract = True


class Rollup(_Totals):
    """Totals of a tenant by day, provider and model; lists read these rows."""

    pk = models.CompositePrimaryKey("tenant_id", "day", "provider", "model")
    tenant_id = TenantField(max_length=TENANT_WIDTH)
    day = models.IntegerField(help_text="days since 1970, UTC")
    provider = ExactTextField(max_length=WIDTHS["provider"])
    model = ExactTextField(max_length=WIDTHS["model"])

    class Meta:
        db_table = "token_limit_rollup"
        indexes = [models.Index(fields=["day"], name="token_limit_rollup_day")]


class UserRollup(_Totals):
    """Totals of a tenant's day by user and feature; events without either are not in it."""

    pk = models.CompositePrimaryKey("tenant_id", "user", "day", "feature")
    tenant_id = TenantField(max_length=TENANT_WIDTH)
    user = ExactTextField(max_length=WIDTHS["user"])
    day = models.IntegerField(help_text="days since 1970, UTC")
    feature = ExactTextField(max_length=WIDTHS["feature"])

    class Meta:
        db_table = "token_limit_user_rollup"
        indexes = [models.Index(fields=["day"], name="token_limit_user_rollup_day")]


class Refusal(models.Model):
    """Calls of a tenant that were refused in one minute for one reason, and what the last of them was."""

    pk = models.CompositePrimaryKey("tenant_id", "minute", "kind", "limited_by")
    tenant_id = TenantField("tenant", max_length=TENANT_WIDTH)
    minute = models.BigIntegerField(help_text="unix seconds")
    kind = ExactTextField(max_length=16)
    limited_by = ExactTextField(max_length=255)
    calls = models.BigIntegerField(default=0)
    last_at = models.FloatField(help_text="unix seconds")
    model = ExactTextField(max_length=WIDTHS["model"], default="")
    endpoint = ExactTextField(max_length=WIDTHS["endpoint"], default="")
    user = ExactTextField(max_length=WIDTHS["user"], null=True)
    feature = ExactTextField(max_length=WIDTHS["feature"], null=True)

    class Meta:
        db_table = "token_limit_refusal"
        indexes = [models.Index(fields=["minute"], name="token_limit_refusal_minute")]
