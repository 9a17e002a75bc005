"""What the endpoints of a backend and deliveries need."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from ..fields import (
    AutoKey,
    Bool,
    ExactTextField,
    Float,
    FloatOrNone,
    Json,
    LongText,
    TenantField,
    TenantText,
    Text,
    TextOrNone,
)
from ..labels import label
from .tenants import TENANT_WIDTH


class ApiKey(models.Model):
    """The API key of a service that reports here; only its hash is stored."""

    public_id: Text = ExactTextField("key", primary_key=True, max_length=16)
    digest: Text = ExactTextField(max_length=64)
    account: TenantText = TenantField(max_length=TENANT_WIDTH, db_index=True)
    name: Text = ExactTextField(max_length=255, default="", blank=True)
    tenants: Json = models.JSONField(default=list)
    permissions: Json = models.JSONField(default=list)
    created_at: Float = models.FloatField(help_text="unix seconds")
    revoked_at: FloatOrNone = models.FloatField(null=True, help_text="unix seconds")

    class Meta:
        db_table = "token_limit_api_key"
        verbose_name = "API key"
        verbose_name_plural: ClassVar[str] = label("API keys")

    def __str__(self) -> str:
        return f"tl_{self.public_id}"


class Figures(models.Model):
    """Figures of the overview, kept until newer ones are added up."""

    name: Text = ExactTextField(primary_key=True, max_length=64)
    body: LongText = models.TextField()
    at: Float = models.FloatField(help_text="unix seconds")
    claimed_until: Float = models.FloatField(help_text="unix seconds")
    failure: Text = ExactTextField(max_length=255)

    class Meta:
        db_table = "token_limit_figures"
        verbose_name_plural = "figures"

    def __str__(self) -> str:
        return self.name


class Delivery(models.Model):
    """A copy of an event that a remote destination has not acknowledged yet."""

    id: AutoKey = models.BigAutoField(primary_key=True)
    destination: Text = ExactTextField(max_length=255)
    tenant_id: TenantText = TenantField("tenant", max_length=TENANT_WIDTH)
    event_id: Text = ExactTextField(max_length=80)
    claimed_by: TextOrNone = ExactTextField(max_length=32, null=True)
    claimed_until: Float = models.FloatField(default=0.0, help_text="unix seconds")
    parked: Bool = models.BooleanField(default=False)

    class Meta:
        db_table = "token_limit_delivery"
        verbose_name_plural = "deliveries"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["destination", "parked", "id"], name="token_limit_delivery_due")
        ]

    def __str__(self) -> str:
        return self.event_id
