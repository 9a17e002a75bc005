"""django-tenants, with its own package on PostgreSQL: one schema for each tenant, and our tables in the public one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support import environment, postgres_database
from token_limit_core.testing import FakeProvider

MODELS = """
from django.db import models
from django_tenants.models import DomainMixin, TenantMixin

class Client(TenantMixin):
    name = models.CharField(max_length=100)
    auto_create_schema = True

class Domain(DomainMixin):
    pass
"""
SITE = """
import json, sys
import django
from django.conf import settings

place, provider = json.loads(sys.argv[1]), sys.argv[2]
shared = ["django_tenants", "customers", "django.contrib.contenttypes", "token_limit_django"]
settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={"default": {"ENGINE": "django_tenants.postgresql_backend", **place}},
    DATABASE_ROUTERS=("django_tenants.routers.TenantSyncRouter",),
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    INSTALLED_APPS=shared,
    MIDDLEWARE=[
        "django_tenants.middleware.main.TenantMainMiddleware",
        "token_limit_django.middleware.TokenLimitMiddleware",
    ],
    ROOT_URLCONF=__name__,
    SECRET_KEY="for tests only",
    SHARED_APPS=shared,
    TENANT_APPS=["django.contrib.contenttypes"],
    TENANT_DOMAIN_MODEL="customers.Domain",
    TENANT_MODEL="customers.Client",
    TOKEN_LIMIT={
        "HOSTS": {provider.split("/")[2]: "openai"}, "TENANT_RESOLVER": lambda request: request.tenant.schema_name,
    },
)
django.setup()

import openai
from django.core.management import call_command
from django.db import connection, connections
from django.http import HttpResponse
from django.test import Client as Browser
from django.urls import path


def ask(request):
    with openai.OpenAI(api_key="test", base_url=provider, max_retries=0) as client:
        client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Why?"}])
    return HttpResponse(connection.schema_name)


urlpatterns = [path("ask/", ask)]
call_command("makemigrations", "customers", verbosity=0)
call_command("migrate_schemas", "--shared", verbosity=0)
from customers.models import Client, Domain
from token_limit_django.meter import get_meter

for name in ("acme", "globex"):
    Domain.objects.create(domain=f"{name}.example.com", tenant=Client.objects.create(schema_name=name, name=name))
call_command("migrate_schemas", verbosity=0)
get_meter().set_limit("globex", 0)
browser = Browser()
answers = [browser.get("/ask/", headers={"host": f"{name}.example.com"}) for name in ("acme", "globex", "acme")]
spent = {name: get_meter().store.spend(name, 0, 4e9).calls for name in ("acme", "globex")}
print(json.dumps([[answer.status_code for answer in answers], answers[0].content.decode(), spent]))
get_meter().close()
connections.close_all()
"""


@pytest.fixture
def database() -> Iterator[dict[str, Any]]:
    """Create an empty database, and give the place of it in Django's words."""
    with postgres_database() as (_, place):
        yield place


def test_the_tables_of_the_suite_are_in_the_public_schema_only(database: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "customers" / "migrations").mkdir(parents=True)
    (tmp_path / "customers" / "__init__.py").touch()
    (tmp_path / "customers" / "migrations" / "__init__.py").touch()
    (tmp_path / "customers" / "models.py").write_text(MODELS)
    (tmp_path / "site_.py").write_text(SITE)
    with FakeProvider() as provider:
        command = [sys.executable, "site_.py", json.dumps(database), provider.base_url]
        run = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stderr[-2000:]
    statuses, schema, spent = json.loads(run.stdout.splitlines()[-1])
    assert (statuses, schema, spent) == ([200, 402, 200], "acme", {"acme": 2, "globex": 0})
    place = {key.lower(): value for key, value in database.items() if key in ("HOST", "PORT", "USER", "PASSWORD")}
    with psycopg.connect(**place, dbname=database["NAME"]) as connection:
        query = "SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name LIKE 'token_limit%'"
        assert connection.execute(query).fetchall() == [("public",)]
