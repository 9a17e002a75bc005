"""A Celery application of a Django project, as `celery -A tests.process.celery_django worker` runs it."""

from __future__ import annotations

import os

import django
import openai
from celery import Celery
from django.conf import settings
from django.core.management import call_command

from token_limit_core.workers.celery import install

PROVIDER = os.environ["TASKS_PROVIDER"]
PREFIX = {"global_keyprefix": os.environ["TASKS_PREFIX"]}

settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": os.path.join(os.environ["TASKS_FOLDER"], "db.sqlite3"),
        }
    },
    INSTALLED_APPS=["django.contrib.contenttypes", "token_limit_django"],
    TOKEN_LIMIT={"HOSTS": {PROVIDER.partition("//")[2].partition("/")[0]: "openai"}},
    USE_TZ=True,
)
install()
app = Celery("project", broker=os.environ["TASKS_REDIS"], backend=os.environ["TASKS_REDIS"])
app.conf.update(
    broker_transport_options=PREFIX,
    result_backend_transport_options=PREFIX,
    broker_connection_retry_on_startup=True,
)
django.setup()
call_command("migrate", verbosity=0)


@app.task(name="ask")
def ask() -> str | None:
    from token_limit_django.meter import get_meter

    with openai.OpenAI(api_key="test", base_url=PROVIDER, max_retries=0) as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hello"}])
    return get_meter().current_tenant_id


@app.task(name="calls")
def calls(tenants: list[str]) -> list[int]:
    from token_limit_django.meter import get_store

    return [get_store().spend(tenant, 0, 4e9).calls for tenant in tenants]


@app.task(name="refuse")
def refuse(tenant: str) -> None:
    from token_limit_django.meter import get_meter

    get_meter().set_limit(tenant, 0)
