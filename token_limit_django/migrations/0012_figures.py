import token_limit_django.fields
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('token_limit', '0011_labels'),
    ]

    operations = [
        migrations.CreateModel(
            name='Figures',
            fields=[
                ('name', token_limit_django.fields.ExactTextField(max_length=64, primary_key=True, serialize=False)),
                ('body', models.TextField()),
                ('at', models.FloatField(help_text='unix seconds')),
                ('claimed_until', models.FloatField(help_text='unix seconds')),
                ('failure', token_limit_django.fields.ExactTextField(max_length=255)),
            ],
            options={
                'verbose_name_plural': 'figures',
                'db_table': 'token_limit_figures',
            },
        ),
    ]
