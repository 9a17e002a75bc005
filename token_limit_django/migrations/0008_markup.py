"""What tenants are billed, beside what providers take."""

from typing import Any

import token_limit_django.fields
from django.db import migrations, models


def charge_the_cost(apps: Any, schema_editor: Any) -> None:
    """Set the charge in the totals: without a markup it is the cost."""
    alias = schema_editor.connection.alias
    for name in ("Rollup", "UserRollup"):
        rows = apps.get_model("token_limit", name).objects.using(alias)
        rows.update(charge_nano=models.F("cost_nano"))


class Migration(migrations.Migration):

    dependencies = [
        ('token_limit', '0007_hold_process'),
    ]

    operations = [
        migrations.AddField(
            model_name='tenant',
            name='markup',
            field=token_limit_django.fields.ExactTextField(blank=True, help_text='percent; empty is that of the plan', max_length=32, null=True),
        ),
        migrations.AddField(
            model_name='hold',
            name='charge',
            field=models.BigIntegerField(help_text='nano-dollars; empty is the amount', null=True),
        ),
        migrations.AddField(
            model_name='ledgerentry',
            name='charge_nano',
            field=models.BigIntegerField(help_text='nano-dollars; empty is the cost', null=True, verbose_name='charge'),
        ),
        migrations.AddField(
            model_name='rollup',
            name='charge_nano',
            field=models.BigIntegerField(default=0, help_text='nano-dollars'),
        ),
        migrations.AddField(
            model_name='userrollup',
            name='charge_nano',
            field=models.BigIntegerField(default=0, help_text='nano-dollars'),
        ),
        migrations.RunPython(charge_the_cost, migrations.RunPython.noop, elidable=True),
    ]
