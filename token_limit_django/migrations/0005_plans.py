"""Limits with plans, filters, units and windows of every kind; top-ups; totals by user and feature.

A counter's key has a subject now. A composite key cannot be altered, so the counters move to a new table.
"""

from typing import Any

import token_limit_django.fields
from django.db import migrations, models

COPY_COUNTERS = """
    INSERT INTO token_limit_new_counter
        (tenant_id, limit_id, subject, window_start, window_end, settled, held, extra)
    SELECT tenant_id, limit_id, '', window_start, window_end, settled, held, 0 FROM token_limit_counter
"""


def total_by_user(apps: Any, schema_editor: Any) -> None:
    """Sum the ledger by user and feature into the roll-up."""
    user = f"COALESCE({schema_editor.quote_name('user')}, '')"
    day = "CAST(timestamp / 86400 AS INTEGER)" if schema_editor.connection.vendor == "sqlite" else "FLOOR(timestamp / 86400)"
    key = f"tenant_id, {user}, {day}, COALESCE(feature, '')"
    statement = f"""
        INSERT INTO token_limit_user_rollup
            (tenant_id, {schema_editor.quote_name('user')}, day, feature,
             calls, input_tokens, output_tokens, cost_nano, unpriced)
        SELECT {key}, COUNT(CASE WHEN kind = 'call' THEN 1 END), SUM(input_tokens), SUM(output_tokens),
            COALESCE(SUM(cost_nano), 0), COUNT(CASE WHEN kind = 'call' AND cost_nano IS NULL THEN 1 END)
        FROM token_limit_ledger
        WHERE {user} <> '' OR COALESCE(feature, '') <> ''
        GROUP BY {key}
    """
    with schema_editor.connection.cursor() as cursor:
        cursor.execute(statement)


class Migration(migrations.Migration):

    dependencies = [
        ('token_limit', '0004_exact_text'),
    ]

    operations = [
        migrations.CreateModel(
            name='Plan',
            fields=[
                ('name', token_limit_django.fields.ExactTextField(max_length=64, primary_key=True, serialize=False)),
                ('markup', token_limit_django.fields.ExactTextField(blank=True, default='', help_text='percent; empty is none', max_length=32)),
            ],
            options={
                'db_table': 'token_limit_plan',
            },
        ),
        migrations.CreateModel(
            name='TopUp',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('tenant_id', token_limit_django.fields.TenantField(max_length=255, verbose_name='tenant')),
                ('frequency', token_limit_django.fields.ExactTextField(max_length=16)),
                ('filter', token_limit_django.fields.ExactTextField(blank=True, default='', max_length=255)),
                ('subject', token_limit_django.fields.TenantField(max_length=255)),
                ('amount', models.BigIntegerField(help_text='nano-dollars')),
                ('at', models.FloatField(help_text='unix seconds')),
                ('expires_at', models.FloatField(help_text='unix seconds', null=True)),
                ('left', models.BigIntegerField(default=0)),
                ('lost', models.BigIntegerField(default=0)),
                ('seen', models.BigIntegerField(default=0)),
            ],
            options={
                'db_table': 'token_limit_top_up',
            },
        ),
        migrations.CreateModel(
            name='UserRollup',
            fields=[
                ('pk', models.CompositePrimaryKey('tenant_id', 'user', 'day', 'feature', blank=True, editable=False, primary_key=True, serialize=False)),
                ('tenant_id', token_limit_django.fields.TenantField(max_length=255)),
                ('user', token_limit_django.fields.ExactTextField(max_length=255)),
                ('day', models.IntegerField(help_text='days since 1970, UTC')),
                ('feature', token_limit_django.fields.ExactTextField(max_length=255)),
                ('calls', models.BigIntegerField(default=0)),
                ('input_tokens', models.BigIntegerField(default=0)),
                ('output_tokens', models.BigIntegerField(default=0)),
                ('cost_nano', models.BigIntegerField(default=0, help_text='nano-dollars')),
                ('unpriced', models.BigIntegerField(default=0)),
            ],
            options={
                'db_table': 'token_limit_user_rollup',
            },
        ),
        migrations.RemoveConstraint(
            model_name='limit',
            name='token_limit_limit_identity',
        ),
        migrations.RemoveField(
            model_name='holditem',
            name='unit',
        ),
        migrations.AddField(
            model_name='hold',
            name='feature',
            field=token_limit_django.fields.ExactTextField(max_length=255, null=True),
        ),
        migrations.AddField(
            model_name='hold',
            name='model',
            field=token_limit_django.fields.ExactTextField(default='', max_length=255),
        ),
        migrations.AddField(
            model_name='hold',
            name='provider',
            field=token_limit_django.fields.ExactTextField(default='', max_length=64),
        ),
        migrations.AddField(
            model_name='hold',
            name='tokens',
            field=models.BigIntegerField(default=0),
        ),
        migrations.AddField(
            model_name='hold',
            name='user',
            field=token_limit_django.fields.ExactTextField(max_length=255, null=True),
        ),
        migrations.AddField(
            model_name='holditem',
            name='shared',
            field=models.BooleanField(default=False, help_text='on the counter of all tenants together'),
        ),
        migrations.AddField(
            model_name='holditem',
            name='subject',
            field=token_limit_django.fields.TenantField(default='', max_length=255),
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='requested_model',
            field=token_limit_django.fields.ExactTextField(max_length=255, null=True),
        ),
        migrations.AddField(
            model_name='limit',
            name='anchor',
            field=token_limit_django.fields.ExactTextField(blank=True, default='', max_length=10),
        ),
        migrations.AddField(
            model_name='limit',
            name='basis',
            field=token_limit_django.fields.ExactTextField(default='charge', max_length=16),
        ),
        migrations.AddField(
            model_name='limit',
            name='name',
            field=token_limit_django.fields.ExactTextField(blank=True, default='', max_length=255),
        ),
        migrations.AddField(
            model_name='limit',
            name='plan',
            field=token_limit_django.fields.ExactTextField(blank=True, default='', max_length=64),
        ),
        migrations.AddField(
            model_name='limit',
            name='timezone',
            field=token_limit_django.fields.ExactTextField(default='UTC', max_length=64),
        ),
        migrations.AddField(
            model_name='limitchange',
            name='note',
            field=token_limit_django.fields.ExactTextField(blank=True, default='', max_length=255),
        ),
        migrations.AddField(
            model_name='limitchange',
            name='plan',
            field=token_limit_django.fields.ExactTextField(blank=True, default='', max_length=64),
        ),
        migrations.AddField(
            model_name='limitchange',
            name='unit',
            field=token_limit_django.fields.ExactTextField(default='usd', max_length=16),
        ),
        migrations.AddField(
            model_name='tenant',
            name='plan',
            field=token_limit_django.fields.ExactTextField(blank=True, max_length=64, null=True),
        ),
        migrations.AddField(
            model_name='tenant',
            name='suspended_at',
            field=models.FloatField(blank=True, help_text='unix seconds; empty for a tenant that may call', null=True),
        ),
        migrations.AlterField(
            model_name='holditem',
            name='amount',
            field=models.BigIntegerField(default=0, help_text="in the limit's unit"),
        ),
        migrations.AlterField(
            model_name='limit',
            name='amount',
            field=models.BigIntegerField(help_text='nano-dollars, tokens or requests'),
        ),
        migrations.AddIndex(
            model_name='ledgerentry',
            index=models.Index(fields=['tenant_id', 'user', 'timestamp'], name='token_limit_ledger_user_time'),
        ),
        migrations.AddIndex(
            model_name='limit',
            index=models.Index(fields=['plan'], name='token_limit_limit_plan'),
        ),
        migrations.AddIndex(
            model_name='rollup',
            index=models.Index(fields=['day'], name='token_limit_rollup_day'),
        ),
        migrations.AddIndex(
            model_name='tenant',
            index=models.Index(fields=['plan'], name='token_limit_tenant_plan'),
        ),
        migrations.AddConstraint(
            model_name='limit',
            constraint=models.UniqueConstraint(fields=('tenant_id', 'plan', 'frequency', 'filter', 'effective_from'), name='token_limit_limit_identity'),
        ),
        migrations.AddIndex(
            model_name='topup',
            index=models.Index(fields=['tenant_id'], name='token_limit_top_up_tenant'),
        ),
        migrations.AddIndex(
            model_name='userrollup',
            index=models.Index(fields=['day'], name='token_limit_user_rollup_day'),
        ),
        migrations.CreateModel(
            name='NewCounter',
            fields=[
                ('pk', models.CompositePrimaryKey('tenant_id', 'limit_id', 'subject', 'window_start', blank=True, editable=False, primary_key=True, serialize=False)),
                ('tenant_id', token_limit_django.fields.TenantField(max_length=255)),
                ('limit_id', models.BigIntegerField()),
                ('subject', token_limit_django.fields.TenantField(help_text='the user of a limit on each user', max_length=255)),
                ('window_start', models.BigIntegerField(help_text='unix seconds')),
                ('window_end', models.BigIntegerField(help_text='unix seconds')),
                ('settled', models.BigIntegerField(default=0, help_text="in the limit's unit")),
                ('held', models.BigIntegerField(default=0, help_text="in the limit's unit")),
                ('extra', models.BigIntegerField(default=0, help_text='what top-ups add')),
                ('extra_until', models.FloatField(help_text='unix seconds, when the next top-up expires', null=True)),
            ],
            options={
                'db_table': 'token_limit_new_counter',
            },
        ),
        migrations.RunSQL(COPY_COUNTERS, migrations.RunSQL.noop),
        migrations.DeleteModel('Counter'),
        migrations.RenameModel('NewCounter', 'Counter'),
        migrations.AlterModelTable('counter', 'token_limit_counter'),
        migrations.RunPython(total_by_user, migrations.RunPython.noop),
    ]
