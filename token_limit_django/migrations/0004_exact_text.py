"""Compare all text exactly on MySQL, tenants byte for byte; other engines do already, so nothing is altered there."""

from __future__ import annotations

from typing import Any

from django.db import migrations

from token_limit_django.fields import ExactTextField, TenantField


class AlterOnMySQL(migrations.AlterField):
    """Change what Django knows of a field, and its column on MySQL."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        """Alter the column on MySQL."""
        if schema_editor.connection.vendor == "mysql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):
    dependencies = [("token_limit", "0003_peers")]

    operations = [
        AlterOnMySQL("apikey", "account", TenantField(db_index=True, max_length=255)),
        AlterOnMySQL("apikey", "digest", ExactTextField(max_length=64)),
        AlterOnMySQL("apikey", "name", ExactTextField(blank=True, default="", max_length=255)),
        AlterOnMySQL("apikey", "public_id", ExactTextField(max_length=16, primary_key=True, serialize=False, verbose_name="key")),
        AlterOnMySQL("counter", "tenant_id", TenantField(max_length=255)),
        AlterOnMySQL("delivery", "claimed_by", ExactTextField(max_length=32, null=True)),
        AlterOnMySQL("delivery", "destination", ExactTextField(max_length=255)),
        AlterOnMySQL("delivery", "event_id", ExactTextField(max_length=80)),
        AlterOnMySQL("delivery", "tenant_id", TenantField(max_length=255, verbose_name="tenant")),
        AlterOnMySQL("hold", "call_id", ExactTextField(max_length=64, primary_key=True, serialize=False)),
        AlterOnMySQL("hold", "origin", ExactTextField(default="call", max_length=16)),
        AlterOnMySQL("hold", "state", ExactTextField(default="open", max_length=16)),
        AlterOnMySQL("hold", "tenant_id", TenantField(max_length=255, verbose_name="tenant")),
        AlterOnMySQL("holditem", "call_id", ExactTextField(max_length=64)),
        AlterOnMySQL("holditem", "unit", ExactTextField(default="usd", max_length=16)),
        AlterOnMySQL("ledgerentry", "corrects", ExactTextField(max_length=80, null=True)),
        AlterOnMySQL("ledgerentry", "endpoint", ExactTextField(max_length=64, null=True)),
        AlterOnMySQL("ledgerentry", "error", ExactTextField(max_length=255, null=True)),
        AlterOnMySQL("ledgerentry", "event_id", ExactTextField(max_length=80)),
        AlterOnMySQL("ledgerentry", "feature", ExactTextField(max_length=255, null=True)),
        AlterOnMySQL("ledgerentry", "kind", ExactTextField(default="call", max_length=16)),
        AlterOnMySQL("ledgerentry", "model", ExactTextField(max_length=255, null=True)),
        AlterOnMySQL("ledgerentry", "price_version", ExactTextField(max_length=64, null=True)),
        AlterOnMySQL("ledgerentry", "provider", ExactTextField(max_length=64, null=True)),
        AlterOnMySQL("ledgerentry", "request_id", ExactTextField(max_length=255, null=True)),
        AlterOnMySQL("ledgerentry", "service_tier", ExactTextField(max_length=64, null=True)),
        AlterOnMySQL("ledgerentry", "session_id", ExactTextField(max_length=255, null=True)),
        AlterOnMySQL("ledgerentry", "tenant_id", TenantField(max_length=255, verbose_name="tenant")),
        AlterOnMySQL("ledgerentry", "user", ExactTextField(max_length=255, null=True)),
        AlterOnMySQL("limit", "filter", ExactTextField(blank=True, default="", max_length=255)),
        AlterOnMySQL("limit", "frequency", ExactTextField(default="per_month", max_length=16)),
        AlterOnMySQL("limit", "mode", ExactTextField(default="enforce", max_length=16)),
        AlterOnMySQL("limit", "tenant_id", TenantField(max_length=255, verbose_name="tenant")),
        AlterOnMySQL("limit", "unit", ExactTextField(default="usd", max_length=16)),
        AlterOnMySQL("limitchange", "actor", ExactTextField(blank=True, default="", max_length=255)),
        AlterOnMySQL("limitchange", "filter", ExactTextField(blank=True, default="", max_length=255)),
        AlterOnMySQL("limitchange", "frequency", ExactTextField(max_length=16)),
        AlterOnMySQL("limitchange", "kind", ExactTextField(max_length=16)),
        AlterOnMySQL("limitchange", "new_mode", ExactTextField(max_length=16, null=True)),
        AlterOnMySQL("limitchange", "old_mode", ExactTextField(max_length=16, null=True)),
        AlterOnMySQL("limitchange", "tenant_id", TenantField(max_length=255, verbose_name="tenant")),
        AlterOnMySQL("rollup", "model", ExactTextField(max_length=255)),
        AlterOnMySQL("rollup", "provider", ExactTextField(max_length=64)),
        AlterOnMySQL("rollup", "tenant_id", TenantField(max_length=255)),
        AlterOnMySQL("tenant", "id", TenantField(max_length=255, primary_key=True, serialize=False)),
        AlterOnMySQL("tenant", "name", ExactTextField(blank=True, default="", max_length=255)),
    ]
