"""The tables, all at once."""

from __future__ import annotations

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Counter",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "limit_id",
                        "window_start",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("tenant_id", models.CharField(max_length=255)),
                ("limit_id", models.BigIntegerField()),
                ("window_start", models.BigIntegerField(help_text="unix seconds")),
                ("window_end", models.BigIntegerField(help_text="unix seconds")),
                ("settled", models.BigIntegerField(default=0, help_text="nano-dollars")),
                ("held", models.BigIntegerField(default=0, help_text="nano-dollars")),
            ],
            options={
                "db_table": "token_limit_counter",
            },
        ),
        migrations.CreateModel(
            name="Rollup",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "tenant_id",
                        "day",
                        "provider",
                        "model",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("tenant_id", models.CharField(max_length=255)),
                ("day", models.IntegerField(help_text="days since 1970, UTC")),
                ("provider", models.CharField(max_length=64)),
                ("model", models.CharField(max_length=255)),
                ("calls", models.BigIntegerField(default=0)),
                ("input_tokens", models.BigIntegerField(default=0)),
                ("output_tokens", models.BigIntegerField(default=0)),
                ("cost_nano", models.BigIntegerField(default=0, help_text="nano-dollars")),
                ("unpriced", models.BigIntegerField(default=0)),
            ],
            options={
                "db_table": "token_limit_rollup",
            },
        ),
        migrations.CreateModel(
            name="Tenant",
            fields=[
                ("id", models.CharField(max_length=255, primary_key=True, serialize=False)),
                ("name", models.CharField(blank=True, default="", max_length=255)),
                ("first_seen", models.FloatField(help_text="unix seconds")),
            ],
            options={
                "db_table": "token_limit_tenant",
            },
        ),
        migrations.CreateModel(
            name="Hold",
            fields=[
                ("call_id", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("tenant_id", models.CharField(max_length=255, verbose_name="tenant")),
                ("amount", models.BigIntegerField(help_text="nano-dollars; empty is unpriced", null=True)),
                ("created_at", models.FloatField(help_text="unix seconds")),
                ("expires_at", models.FloatField(help_text="unix seconds")),
                ("origin", models.CharField(default="call", max_length=16)),
                ("state", models.CharField(default="open", max_length=16)),
            ],
            options={
                "db_table": "token_limit_hold",
                "indexes": [
                    models.Index(fields=["state", "expires_at"], name="token_limit_hold_due"),
                    models.Index(fields=["tenant_id", "state"], name="token_limit_hold_tenant"),
                ],
            },
        ),
        migrations.CreateModel(
            name="HoldItem",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "call_id",
                        "limit_id",
                        "window_start",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("call_id", models.CharField(max_length=64)),
                ("limit_id", models.BigIntegerField()),
                ("window_start", models.BigIntegerField(help_text="unix seconds")),
                ("unit", models.CharField(default="usd", max_length=16)),
                ("amount", models.BigIntegerField(default=0, help_text="nano-dollars")),
            ],
            options={
                "db_table": "token_limit_hold_item",
                "indexes": [models.Index(fields=["limit_id"], name="token_limit_hold_item_limit")],
            },
        ),
        migrations.CreateModel(
            name="LedgerEntry",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("tenant_id", models.CharField(max_length=255, verbose_name="tenant")),
                ("event_id", models.CharField(max_length=80)),
                ("kind", models.CharField(default="call", max_length=16)),
                ("corrects", models.CharField(max_length=80, null=True)),
                ("timestamp", models.FloatField(help_text="unix seconds, when the call was admitted")),
                ("input_tokens", models.BigIntegerField(default=0)),
                ("output_tokens", models.BigIntegerField(default=0)),
                ("total_tokens", models.BigIntegerField(default=0)),
                ("cached_tokens", models.BigIntegerField(default=0)),
                ("cache_creation_tokens", models.BigIntegerField(null=True)),
                ("reasoning_tokens", models.BigIntegerField(null=True)),
                (
                    "cost_nano",
                    models.BigIntegerField(help_text="nano-dollars; empty is unpriced", null=True, verbose_name="cost"),
                ),
                ("stream", models.BooleanField()),
                ("duration_ms", models.FloatField(null=True)),
                ("provider", models.CharField(max_length=64, null=True)),
                ("model", models.CharField(max_length=255, null=True)),
                ("endpoint", models.CharField(max_length=64, null=True)),
                ("price_version", models.CharField(max_length=64, null=True)),
                ("service_tier", models.CharField(max_length=64, null=True)),
                ("user", models.CharField(max_length=255, null=True)),
                ("feature", models.CharField(max_length=255, null=True)),
                ("session_id", models.CharField(max_length=255, null=True)),
                ("request_id", models.CharField(max_length=255, null=True)),
                ("error", models.CharField(max_length=255, null=True)),
                ("details", models.JSONField(default=dict)),
            ],
            options={
                "verbose_name": "event",
                "db_table": "token_limit_ledger",
                "indexes": [
                    models.Index(fields=["tenant_id", "timestamp"], name="token_limit_ledger_tenant_time"),
                    models.Index(fields=["timestamp"], name="token_limit_ledger_time"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("tenant_id", "event_id"), name="token_limit_ledger_event")
                ],
            },
        ),
        migrations.CreateModel(
            name="Limit",
            fields=[
                ("id", models.BigAutoField(primary_key=True, serialize=False)),
                ("tenant_id", models.CharField(max_length=255, verbose_name="tenant")),
                ("frequency", models.CharField(default="per_month", max_length=16)),
                ("filter", models.CharField(blank=True, default="", max_length=255)),
                ("unit", models.CharField(default="usd", max_length=16)),
                ("amount", models.BigIntegerField(help_text="nano-dollars")),
                ("mode", models.CharField(default="enforce", max_length=16)),
                ("effective_from", models.FloatField(help_text="unix seconds")),
                ("effective_until", models.FloatField(blank=True, help_text="unix seconds", null=True)),
            ],
            options={
                "db_table": "token_limit_limit",
                "indexes": [models.Index(fields=["tenant_id"], name="token_limit_limit_tenant")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("tenant_id", "frequency", "filter", "effective_from"), name="token_limit_limit_identity"
                    )
                ],
            },
        ),
    ]
