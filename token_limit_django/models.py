"""The tables of `token_limit_core.stores.sql.tables` as models, for the admin and for migrations.

Times are unix seconds, so windows do not depend on USE_TZ or on the dialect. Money is integer nano-dollars. Tenants
are text, and no foreign key refers to a table of the project.
"""

from __future__ import annotations

from decimal import Decimal

from django.db import models

from token_limit_core.limits import ENFORCE
from token_limit_core.money import show_usd, to_usd
from token_limit_core.stores.columns import PLAN_WIDTH, WIDTHS
from token_limit_core.windows import PER_MONTH

from .fields import ExactTextField, TenantField

TENANT_WIDTH = 255


def _cut(name: str, *, null: bool = True) -> ExactTextField[str | None, str | None]:
    return ExactTextField(max_length=WIDTHS[name], null=null)


class Tenant(models.Model):
    """A tenant; its row is created with its first event or limit."""

    id = TenantField(max_length=TENANT_WIDTH, primary_key=True)
    name = ExactTextField(max_length=255, default="", blank=True)
    first_seen = models.FloatField(help_text="unix seconds")
    plan = ExactTextField(max_length=PLAN_WIDTH, null=True, blank=True)
    suspended_at = models.FloatField(null=True, blank=True, help_text="unix seconds; empty for a tenant that may call")
    markup = ExactTextField(max_length=32, null=True, blank=True, help_text="percent; empty is that of the plan")

    class Meta:
        db_table = "token_limit_tenant"
        indexes = [models.Index(fields=["plan"], name="token_limit_tenant_plan")]

    def __str__(self) -> str:
        return self.name or self.id


class Overview(Tenant):
    """The entry of our pages in the admin's index; it has no table of its own."""

    class Meta:
        proxy = True
        default_permissions = ("view",)
        verbose_name = verbose_name_plural = "overview"


class Plan(models.Model):
    """A named set of limits; the limits are rows with its name."""

    name = ExactTextField(max_length=PLAN_WIDTH, primary_key=True)
    markup = ExactTextField(max_length=32, default="", blank=True, help_text="percent; empty is none")

    class Meta:
        db_table = "token_limit_plan"

    def __str__(self) -> str:
        return self.name


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


class Rollup(models.Model):
    """Totals of a tenant by day, provider and model; lists read these rows."""

    pk = models.CompositePrimaryKey("tenant_id", "day", "provider", "model")
    tenant_id = TenantField(max_length=TENANT_WIDTH)
    day = models.IntegerField(help_text="days since 1970, UTC")
    provider = ExactTextField(max_length=WIDTHS["provider"])
    model = ExactTextField(max_length=WIDTHS["model"])
    calls = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_nano = models.BigIntegerField(default=0, help_text="nano-dollars")
    unpriced = models.BigIntegerField(default=0)
    charge_nano = models.BigIntegerField(default=0, help_text="nano-dollars")

    class Meta:
        db_table = "token_limit_rollup"
        indexes = [models.Index(fields=["day"], name="token_limit_rollup_day")]


class UserRollup(models.Model):
    """Totals of a tenant's day by user and feature; events without either are not in it."""

    pk = models.CompositePrimaryKey("tenant_id", "user", "day", "feature")
    tenant_id = TenantField(max_length=TENANT_WIDTH)
    user = ExactTextField(max_length=WIDTHS["user"])
    day = models.IntegerField(help_text="days since 1970, UTC")
    feature = ExactTextField(max_length=WIDTHS["feature"])
    calls = models.BigIntegerField(default=0)
    input_tokens = models.BigIntegerField(default=0)
    output_tokens = models.BigIntegerField(default=0)
    cost_nano = models.BigIntegerField(default=0, help_text="nano-dollars")
    unpriced = models.BigIntegerField(default=0)
    charge_nano = models.BigIntegerField(default=0, help_text="nano-dollars")

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


class ApiKey(models.Model):
    """The API key of a service that reports here; only its hash is stored."""

    public_id = ExactTextField("key", primary_key=True, max_length=16)
    digest = ExactTextField(max_length=64)
    account = TenantField(max_length=TENANT_WIDTH, db_index=True)
    name = ExactTextField(max_length=255, default="", blank=True)
    tenants = models.JSONField(default=list)
    permissions = models.JSONField(default=list)
    created_at = models.FloatField(help_text="unix seconds")
    revoked_at = models.FloatField(null=True, help_text="unix seconds")

    class Meta:
        db_table = "token_limit_api_key"
        verbose_name = "API key"

    def __str__(self) -> str:
        return f"tl_{self.public_id}"


class Delivery(models.Model):
    """A copy of an event that a remote destination has not acknowledged yet."""

    id = models.BigAutoField(primary_key=True)
    destination = ExactTextField(max_length=255)
    tenant_id = TenantField("tenant", max_length=TENANT_WIDTH)
    event_id = ExactTextField(max_length=80)
    claimed_by = ExactTextField(max_length=32, null=True)
    claimed_until = models.FloatField(default=0.0, help_text="unix seconds")
    parked = models.BooleanField(default=False)

    class Meta:
        db_table = "token_limit_delivery"
        verbose_name_plural = "deliveries"
        indexes = [models.Index(fields=["destination", "parked", "id"], name="token_limit_delivery_due")]

    def __str__(self) -> str:
        return self.event_id
