"""Switches the app on: checks, database alias, SDK hooks. Starts no thread and touches no database."""

from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TokenLimitConfig(AppConfig):
    """The app's entry in INSTALLED_APPS."""

    name = "token_limit_django"
    label = "token_limit"
    verbose_name = "Token limits"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Hook everything up."""
        from . import databases

        databases.add_alias()
        databases.add_router()
        post_migrate.connect(databases.migrate_along, sender=self, dispatch_uid="token_limit_django.migrate_along")
