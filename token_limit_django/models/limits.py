"""Limits, what counts on them, and what happened to them."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar

from django.db import models

from token_limit_core.limits import ENFORCE
from token_limit_core.money import show_usd, to_usd
from token_limit_core.stores.columns import PLAN_WIDTH
from token_limit_core.windows import PER_MONTH

from ..fields import (
    AutoKey,
    BigInt,
    BigIntOrNone,
    ExactTextField,
    Float,
    FloatOrNone,
    Int,
    LongText,
    TenantField,
    TenantText,
    Text,
    TextOrNone,
)
from ..labels import label
from .tenants import TENANT_WIDTH


class Limit(models.Model):
    """The amount that a tenant, or each tenant on a plan, may spend per window; the counters are separate rows."""

    id: AutoKey = models.BigAutoField(primary_key=True)
    tenant_id: TenantText = TenantField("tenant", max_length=TENANT_WIDTH)
    frequency: Text = ExactTextField(max_length=16, default=PER_MONTH)
    filter: Text = ExactTextField(max_length=255, default="", blank=True)
    unit: Text = ExactTextField(max_length=16, default="usd")
    amount: BigInt = models.BigIntegerField(help_text="nano-dollars, tokens or requests")
    mode: Text = ExactTextField(max_length=16, default=ENFORCE)
    effective_from: Float = models.FloatField(help_text="unix seconds")
    effective_until: FloatOrNone = models.FloatField(null=True, blank=True, help_text="unix seconds")
    timezone: Text = ExactTextField(max_length=64, default="UTC")
    anchor: Text = ExactTextField(max_length=10, default="", blank=True)
    plan: Text = ExactTextField(max_length=PLAN_WIDTH, default="", blank=True)
    basis: Text = ExactTextField(max_length=16, default="charge")
    name: Text = ExactTextField(max_length=255, default="", blank=True)

    class Meta:
        db_table = "token_limit_limit"
        verbose_name_plural: ClassVar[str] = label("Limits")
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["tenant_id", "plan", "frequency", "filter", "effective_from"], name="token_limit_limit_identity"
            )
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["tenant_id"], name="token_limit_limit_tenant"),
            models.Index(fields=["plan"], name="token_limit_limit_plan"),
        ]

    def __str__(self) -> str:
        return f"{self.tenant_id}: {show_usd(self.limit_usd)} {self.frequency.replace('_', ' ')}"

    @property
    def limit_usd(self) -> Decimal:
        """The amount in US dollars."""
        return to_usd(self.amount)


class Counter(models.Model):
    """The settled and held amounts of one window of a limit; each window is a row."""

    pk: models.CompositePrimaryKey = models.CompositePrimaryKey("tenant_id", "limit_id", "subject", "window_start")
    tenant_id: TenantText = TenantField(max_length=TENANT_WIDTH)
    limit_id: BigInt = models.BigIntegerField()
    subject: TenantText = TenantField(max_length=TENANT_WIDTH, help_text="the user of a limit on each user")
    window_start: BigInt = models.BigIntegerField(help_text="unix seconds")
    window_end: BigInt = models.BigIntegerField(help_text="unix seconds")
    settled: BigInt = models.BigIntegerField(default=0, help_text="in the limit's unit")
    held: BigInt = models.BigIntegerField(default=0, help_text="in the limit's unit")
    extra: BigInt = models.BigIntegerField(default=0, help_text="what top-ups add")
    extra_until: FloatOrNone = models.FloatField(null=True, help_text="unix seconds, when the next top-up expires")
    notify_at: BigInt = models.BigIntegerField(default=0, help_text="the next threshold, in the limit's unit")

    class Meta:
        db_table = "token_limit_counter"


class TopUp(models.Model):
    """Money added to the window of a limit."""

    id: AutoKey = models.BigAutoField(primary_key=True)
    tenant_id: TenantText = TenantField("tenant", max_length=TENANT_WIDTH)
    frequency: Text = ExactTextField(max_length=16)
    filter: Text = ExactTextField(max_length=255, default="", blank=True)
    subject: TenantText = TenantField(max_length=TENANT_WIDTH)
    amount: BigInt = models.BigIntegerField(help_text="nano-dollars")
    at: Float = models.FloatField(help_text="unix seconds")
    expires_at: FloatOrNone = models.FloatField(null=True, help_text="unix seconds")
    left: BigInt = models.BigIntegerField(default=0)
    lost: BigInt = models.BigIntegerField(default=0)
    seen: BigInt = models.BigIntegerField(default=0)

    class Meta:
        db_table = "token_limit_top_up"
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["tenant_id"], name="token_limit_top_up_tenant")]


class Notice(models.Model):
    """A threshold that a limit has crossed, and whether it still has to be delivered."""

    id: AutoKey = models.BigAutoField(primary_key=True)
    tenant_id: TenantText = TenantField("tenant", max_length=TENANT_WIDTH)
    limit_id: BigInt = models.BigIntegerField()
    subject: TenantText = TenantField(max_length=TENANT_WIDTH, help_text="the user of a limit on each user")
    window_start: BigInt = models.BigIntegerField(help_text="unix seconds")
    round: Int = models.IntegerField(help_text="how often the limit had room again before")
    percent: Int = models.IntegerField(help_text="0: the limit has room again")
    at: Float = models.FloatField(help_text="unix seconds")
    body: LongText = models.TextField()
    due: Float = models.FloatField(help_text="unix seconds; negative is never, or done")

    class Meta:
        db_table = "token_limit_notice"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["tenant_id", "limit_id", "subject", "window_start", "round", "percent"],
                name="token_limit_notice_once",
            )
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["due"], name="token_limit_notice_due")]

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.percent} %"


class LimitChange(models.Model):
    """One change of a limit, hold or API key, with actor, time, old and new value; append-only."""

    id: AutoKey = models.BigAutoField(primary_key=True)
    at: Float = models.FloatField(help_text="unix seconds")
    actor: Text = ExactTextField(max_length=255, default="", blank=True)
    kind: Text = ExactTextField(max_length=16)
    tenant_id: TenantText = TenantField("tenant", max_length=TENANT_WIDTH)
    frequency: Text = ExactTextField(max_length=16)
    filter: Text = ExactTextField(max_length=255, default="", blank=True)
    old_amount: BigIntOrNone = models.BigIntegerField(null=True, help_text="nano-dollars; empty is no limit")
    old_mode: TextOrNone = ExactTextField(max_length=16, null=True)
    new_amount: BigIntOrNone = models.BigIntegerField(null=True, help_text="nano-dollars; empty is no limit")
    new_mode: TextOrNone = ExactTextField(max_length=16, null=True)
    effective_from: FloatOrNone = models.FloatField(null=True, help_text="unix seconds")
    unit: Text = ExactTextField(max_length=16, default="usd")
    plan: Text = ExactTextField(max_length=PLAN_WIDTH, default="", blank=True)
    note: Text = ExactTextField(max_length=255, default="", blank=True)

    class Meta:
        db_table = "token_limit_limit_history"
        verbose_name_plural: ClassVar[str] = label("Changes")
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["tenant_id", "at"], name="token_limit_history_tenant_at"),
            models.Index(fields=["at"], name="token_limit_history_at"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.tenant_id} {self.frequency}"
