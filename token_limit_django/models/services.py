"""What the endpoints of a backend and deliveries need."""

from __future__ import annotations

from django.db import models

from ..fields import ExactTextField, TenantField
from .tenants import TENANT_WIDTH


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
