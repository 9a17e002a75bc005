"""Limits, what counts on them, and what happened to them."""

from __future__ import annotations

from decimal import Decimal

from django.db import models

from token_limit_core.limits import ENFORCE
from token_limit_core.money import show_usd, to_usd
from token_limit_core.stores.columns import PLAN_WIDTH
from token_limit_core.windows import PER_MONTH

from ..fields import ExactTextField, TenantField
from .tenants import TENANT_WIDTH


class Limit(models.Model):
    """The amount that a tenant, or each tenant on a plan, may spend per window; the counters are separate rows."""

    id = models.BigAutoField(primary_key=True)
    tenant_id = TenantField("tenant", max_length=TENANT_WIDTH)
    frequency = ExactTextField(max_length=16, default=PER_MONTH)
    filter = ExactTextField(max_length=255, default="", blank=True)
    unit = ExactTextField(max_length=16, default="usd")
    amount = models.BigIntegerField(help_text="nano-dollars, tokens or requests")
    mode = ExactTextField(max_length=16, default=ENFORCE)
    effective_from = models.FloatField(help_text="unix seconds")
    effective_until = models.FloatField(null=True, blank=True, help_text="unix seconds")
    timezone = ExactTextField(max_length=64, default="UTC")
    anchor = ExactTextField(max_length=10, default="", blank=True)
    plan = ExactTextField(max_length=PLAN_WIDTH, default="", blank=True)
    basis = ExactTextField(max_length=16, default="charge")
    name = ExactTextField(max_length=255, default="", blank=True)

    class Meta:
        db_table = "token_limit_limit"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant_id", "plan", "frequency", "filter", "effective_from"], name="token_limit_limit_identity"
            )
        ]
        indexes = [
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

    pk = models.CompositePrimaryKey("tenant_id", "limit_id", "subject", "window_start")
    tenant_id = TenantField(max_length=TENANT_WIDTH)
    limit_id = models.BigIntegerField()
    subject = TenantField(max_length=TENANT_WIDTH, help_text="the user of a limit on each user")
    window_start = models.BigIntegerField(help_text="unix seconds")
    window_end = models.BigIntegerField(help_text="unix seconds")
    settled = models.BigIntegerField(default=0, help_text="in the limit's unit")
    held = models.BigIntegerField(default=0, help_text="in the limit's unit")
    extra = models.BigIntegerField(default=0, help_text="what top-ups add")
    extra_until = models.FloatField(null=True, help_text="unix seconds, when the next top-up expires")
    notify_at = models.BigIntegerField(default=0, help_text="the next threshold, in the limit's unit")

    class Meta:
        db_table = "token_limit_counter"


class TopUp(models.Model):
    """Money added to the window of a limit."""

    id = models.BigAutoField(primary_key=True)
    tenant_id = TenantField("tenant", max_length=TENANT_WIDTH)
    frequency = ExactTextField(max_length=16)
    filter = ExactTextField(max_length=255, default="", blank=True)
    subject = TenantField(max_length=TENANT_WIDTH)
    amount = models.BigIntegerField(help_text="nano-dollars")
    at = models.FloatField(help_text="unix seconds")
    expires_at = models.FloatField(null=True, help_text="unix seconds")
    left = models.BigIntegerField(default=0)
    lost = models.BigIntegerField(default=0)
    seen = models.BigIntegerField(default=0)

    class Meta:
        db_table = "token_limit_top_up"
        indexes = [models.Index(fields=["tenant_id"], name="token_limit_top_up_tenant")]


class Notice(models.Model):
    """A threshold that a limit has crossed, and whether it still has to be delivered."""

    id = models.BigAutoField(primary_key=True)
    tenant_id = TenantField("tenant", max_length=TENANT_WIDTH)
    limit_id = models.BigIntegerField()
    subject = TenantField(max_length=TENANT_WIDTH, help_text="the user of a limit on each user")
    window_start = models.BigIntegerField(help_text="unix seconds")
    round = models.IntegerField(help_text="how often the limit had room again before")
    percent = models.IntegerField(help_text="0: the limit has room again")
    at = models.FloatField(help_text="unix seconds")
    body = models.TextField()
    due = models.FloatField(help_text="unix seconds; negative is never, or done")

    class Meta:
        db_table = "token_limit_notice"
        constraints = [
            models.UniqueConstraint(
                fields=["tenant_id", "limit_id", "subject", "window_start", "round", "percent"],
                name="token_limit_notice_once",
            )
        ]
        indexes = [models.Index(fields=["due"], name="token_limit_notice_due")]

    def __str__(self) -> str:
        return f"{self.tenant_id}: {self.percent} %"


class LimitChange(models.Model):
    """One change of a limit, hold or API key, with actor, time, old and new value; append-only."""

    id = models.BigAutoField(primary_key=True)
    at = models.FloatField(help_text="unix seconds")
    actor = ExactTextField(max_length=255, default="", blank=True)
    kind = ExactTextField(max_length=16)
    tenant_id = TenantField("tenant", max_length=TENANT_WIDTH)
    frequency = ExactTextField(max_length=16)
    filter = ExactTextField(max_length=255, default="", blank=True)
    old_amount = models.BigIntegerField(null=True, help_text="nano-dollars; empty is no limit")
    old_mode = ExactTextField(max_length=16, null=True)
    new_amount = models.BigIntegerField(null=True, help_text="nano-dollars; empty is no limit")
    new_mode = ExactTextField(max_length=16, null=True)
    effective_from = models.FloatField(null=True, help_text="unix seconds")
    unit = ExactTextField(max_length=16, default="usd")
    plan = ExactTextField(max_length=PLAN_WIDTH, default="", blank=True)
    note = ExactTextField(max_length=255, default="", blank=True)

    class Meta:
        db_table = "token_limit_limit_history"
        indexes = [
            models.Index(fields=["tenant_id", "at"], name="token_limit_history_tenant_at"),
            models.Index(fields=["at"], name="token_limit_history_at"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.tenant_id} {self.frequency}"
