"""Tenants, and the plans they are on."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from token_limit_core.stores.columns import PLAN_WIDTH

from ..fields import ExactTextField, Float, FloatOrNone, TenantField, TenantText, Text, TextOrNone
from ..labels import label

TENANT_WIDTH = 255


class Tenant(models.Model):
    """A tenant; its row is created with its first event or limit."""

    id: TenantText = TenantField(max_length=TENANT_WIDTH, primary_key=True)
    name: Text = ExactTextField(max_length=255, default="", blank=True)
    first_seen: Float = models.FloatField(help_text="unix seconds")
    plan: TextOrNone = ExactTextField(max_length=PLAN_WIDTH, null=True, blank=True)
    suspended_at: FloatOrNone = models.FloatField(
        null=True, blank=True, help_text="unix seconds; empty for a tenant that may call"
    )
    markup: TextOrNone = ExactTextField(
        max_length=32, null=True, blank=True, help_text="percent; empty is that of the plan"
    )

    class Meta:
        db_table = "token_limit_tenant"
        verbose_name_plural: ClassVar[str] = label("Tenants")
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["plan"], name="token_limit_tenant_plan")]

    def __str__(self) -> str:
        return self.name or self.id


class Overview(Tenant):
    """The entry of our pages in the admin's index; it has no table of its own."""

    class Meta:
        proxy = True
        default_permissions: ClassVar[tuple[str, ...]] = ("view",)
        verbose_name = "overview"
        verbose_name_plural: ClassVar[str] = label("Overview")


class Plan(models.Model):
    """A named set of limits; the limits are rows with its name."""

    name: Text = ExactTextField(max_length=PLAN_WIDTH, primary_key=True)
    markup: Text = ExactTextField(max_length=32, default="", blank=True, help_text="percent; empty is none")

    class Meta:
        db_table = "token_limit_plan"

    def __str__(self) -> str:
        return self.name
