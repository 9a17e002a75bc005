"""Calls: in flight, recorded, summed up, refused."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.db import models

from token_limit_core.money import to_usd
from token_limit_core.stores.columns import WIDTHS

from ..fields import (
    AutoKey,
    BigInt,
    BigIntOrNone,
    Bool,
    ExactTextField,
    Float,
    FloatOrNone,
    Int,
    Json,
    TenantField,
    TenantText,
    Text,
    TextOrNone,
)
from ..labels import label
from .tenants import TENANT_WIDTH


def _cut(name: str, *, null: bool = True) -> TextOrNone:
    return ExactTextField(max_length=WIDTHS[name], null=null)


class Hold(models.Model):
    """The amount reserved for a call in flight."""

    call_id: Text = ExactTextField(max_length=64, primary_key=True)
    tenant_id: TenantText = TenantField("tenant", max_length=TENANT_WIDTH)
    amount: BigIntOrNone = models.BigIntegerField(null=True, help_text="nano-dollars; empty is unpriced")
    created_at: Float = models.FloatField(help_text="unix seconds")
    expires_at: Float = models.FloatField(help_text="unix seconds")
    origin: Text = ExactTextField(max_length=16, default="call")
    state: Text = ExactTextField(max_length=16, default="open")
    tokens: BigInt = models.BigIntegerField(default=0)
    provider: Text = ExactTextField(max_length=WIDTHS["provider"], default="")
    model: Text = ExactTextField(max_length=WIDTHS["model"], default="")
    user: TextOrNone = _cut("user")
    feature: TextOrNone = _cut("feature")
    process: Text = ExactTextField(max_length=255, default="")
    charge: BigIntOrNone = models.BigIntegerField(null=True, help_text="nano-dollars; empty is the amount")

    class Meta:
        db_table = "token_limit_hold"
        verbose_name_plural: ClassVar[str] = label("Holds")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["state", "expires_at"], name="token_limit_hold_due"),
            models.Index(fields=["tenant_id", "state"], name="token_limit_hold_tenant"),
        ]

    def __str__(self) -> str:
        return self.call_id


class HoldItem(models.Model):
    """The part of a hold on one counter."""

    pk: models.CompositePrimaryKey = models.CompositePrimaryKey("call_id", "limit_id", "window_start")
    call_id: Text = ExactTextField(max_length=64)
    limit_id: BigInt = models.BigIntegerField()
    window_start: BigInt = models.BigIntegerField(help_text="unix seconds")
    amount: BigInt = models.BigIntegerField(default=0, help_text="in the limit's unit")
    subject: TenantText = TenantField(max_length=TENANT_WIDTH, default="")
    shared: Bool = models.BooleanField(default=False, help_text="on the counter of all tenants together")

    class Meta:
        db_table = "token_limit_hold_item"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["limit_id"], name="token_limit_hold_item_limit")]


class LedgerEntry(models.Model):
    """One event, append-only: an expiry or a correction is a separate row."""

    id: AutoKey = models.BigAutoField(primary_key=True)
    tenant_id: TenantText = TenantField("tenant", max_length=TENANT_WIDTH)
    event_id: Text = ExactTextField(max_length=80)
    kind: Text = ExactTextField(max_length=16, default="call")
    corrects: TextOrNone = ExactTextField(max_length=80, null=True)
    timestamp: Float = models.FloatField(help_text="unix seconds, when the call was admitted")
    input_tokens: BigInt = models.BigIntegerField(default=0)
    output_tokens: BigInt = models.BigIntegerField(default=0)
    total_tokens: BigInt = models.BigIntegerField(default=0)
    cached_tokens: BigInt = models.BigIntegerField(default=0)
    cache_creation_tokens: BigIntOrNone = models.BigIntegerField(null=True)
    reasoning_tokens: BigIntOrNone = models.BigIntegerField(null=True)
    cost_nano: BigIntOrNone = models.BigIntegerField("cost", null=True, help_text="nano-dollars; empty is unpriced")
    stream: Bool = models.BooleanField()
    duration_ms: FloatOrNone = models.FloatField(null=True)
    provider: TextOrNone = _cut("provider")
    model: TextOrNone = _cut("model")
    endpoint: TextOrNone = _cut("endpoint")
    price_version: TextOrNone = _cut("price_version")
    service_tier: TextOrNone = _cut("service_tier")
    user: TextOrNone = _cut("user")
    feature: TextOrNone = _cut("feature")
    session_id: TextOrNone = _cut("session_id")
    request_id: TextOrNone = _cut("request_id")
    error: TextOrNone = _cut("error")
    details: Json = models.JSONField(default=dict)
    requested_model: TextOrNone = ExactTextField(max_length=WIDTHS["model"], null=True)
    charge_nano: BigIntOrNone = models.BigIntegerField("charge", null=True, help_text="nano-dollars; empty is the cost")

    class Meta:
        db_table = "token_limit_ledger"
        verbose_name = "event"
        verbose_name_plural: ClassVar[str] = label("Events")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["tenant_id", "event_id"], name="token_limit_ledger_event")
        ]
        indexes: ClassVar[list[models.Index]] = [
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

    calls: BigInt = models.BigIntegerField(default=0)
    input_tokens: BigInt = models.BigIntegerField(default=0)
    output_tokens: BigInt = models.BigIntegerField(default=0)
    cost_nano: BigInt = models.BigIntegerField(default=0, help_text="nano-dollars")
    unpriced: BigInt = models.BigIntegerField(default=0)
    charge_nano: BigInt = models.BigIntegerField(default=0, help_text="nano-dollars")

    class Meta:
        abstract = True


class Rollup(_Totals):
    """Totals of a tenant by day, provider and model; lists read these rows."""

    pk: models.CompositePrimaryKey = models.CompositePrimaryKey("tenant_id", "day", "provider", "model")
    tenant_id: TenantText = TenantField(max_length=TENANT_WIDTH)
    day: Int = models.IntegerField(help_text="days since 1970, UTC")
    provider: Text = ExactTextField(max_length=WIDTHS["provider"])
    model: Text = ExactTextField(max_length=WIDTHS["model"])

    class Meta:
        db_table = "token_limit_rollup"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["day"], name="token_limit_rollup_day")]


class UserRollup(_Totals):
    """Totals of a tenant's day by user and feature; events without either are not in it."""

    pk: models.CompositePrimaryKey = models.CompositePrimaryKey("tenant_id", "user", "day", "feature")
    tenant_id: TenantText = TenantField(max_length=TENANT_WIDTH)
    user: Text = ExactTextField(max_length=WIDTHS["user"])
    day: Int = models.IntegerField(help_text="days since 1970, UTC")
    feature: Text = ExactTextField(max_length=WIDTHS["feature"])

    class Meta:
        db_table = "token_limit_user_rollup"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["day"], name="token_limit_user_rollup_day")]


class Refusal(models.Model):
    """Calls of a tenant that were refused in one minute for one reason, and what the last of them was."""

    pk: models.CompositePrimaryKey = models.CompositePrimaryKey("tenant_id", "minute", "kind", "limited_by")
    tenant_id: TenantText = TenantField("tenant", max_length=TENANT_WIDTH)
    minute: BigInt = models.BigIntegerField(help_text="unix seconds")
    kind: Text = ExactTextField(max_length=16)
    limited_by: Text = ExactTextField(max_length=255)
    calls: BigInt = models.BigIntegerField(default=0)
    last_at: Float = models.FloatField(help_text="unix seconds")
    model: Text = ExactTextField(max_length=WIDTHS["model"], default="")
    endpoint: Text = ExactTextField(max_length=WIDTHS["endpoint"], default="")
    user: TextOrNone = ExactTextField(max_length=WIDTHS["user"], null=True)
    feature: TextOrNone = ExactTextField(max_length=WIDTHS["feature"], null=True)

    class Meta:
        db_table = "token_limit_refusal"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["minute"], name="token_limit_refusal_minute")]
