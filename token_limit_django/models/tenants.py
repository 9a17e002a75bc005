"""Tenants, and the plans they are on."""

from __future__ import annotations

from django.db import models

from token_limit_core.stores.columns import PLAN_WIDTH

from ..fields import ExactTextField, TenantField

TENANT_WIDTH = 255


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
