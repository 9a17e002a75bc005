"""The database router: our tables use our alias, and other tables do not."""

from __future__ import annotations

from typing import Any

from django.conf import settings as django_settings
from django.db import connections, router
from django.db.models import Model

from .databases import APP_LABEL, store_alias, tables_alias

ROUTER = "token_limit_django.routers.TokenLimitRouter"


class TokenLimitRouter:
    """Routes our models; `add_router` puts it first in DATABASE_ROUTERS."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """Read our models through our alias."""
        return store_alias() if model._meta.app_label == APP_LABEL else None

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """Write our models through our alias."""
        return self.db_for_read(model, **hints)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Create our tables in one database only, and no other tables on an alias that only we use.

        With a schema per tenant (django-tenants), the project's routers choose the schemas.
        """
        if app_label == APP_LABEL and db == tables_alias():
            return None if hasattr(connections[db], "schema_name") else True
        if app_label == APP_LABEL:
            return False
        return False if db != "default" and db == store_alias() else None


def add_router() -> None:
    """Put our router in front of the project's."""
    if ROUTER not in django_settings.DATABASE_ROUTERS:
        django_settings.DATABASE_ROUTERS = [ROUTER, *django_settings.DATABASE_ROUTERS]
        router.routers.insert(0, TokenLimitRouter())
