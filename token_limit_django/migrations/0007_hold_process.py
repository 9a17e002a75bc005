import token_limit_django.fields
from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('token_limit', '0006_refusal'),
    ]

    operations = [
        migrations.AddField(
            model_name='hold',
            name='process',
            field=token_limit_django.fields.ExactTextField(default='', max_length=255),
        ),
    ]
