"""Switches the app on: checks, database alias, SDK hooks. Starts no thread and touches no database."""

from __future__ import annotations

import contextlib
from types import ModuleType

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.db.models.signals import post_migrate

from token_limit_core.errors import ConfigurationError

from . import labels, ninja


class TokenLimitConfig(AppConfig):
    """The app's entry in INSTALLED_APPS."""

    name = "token_limit_django"
    label = "token_limit"
    verbose_name: str = labels.label("Token limits")
    default_auto_field: str = "django.db.models.BigAutoField"

    def __init__(self, app_name: str, app_module: ModuleType) -> None:
        super().__init__(app_name, app_module)
        ninja.install()  # before any module of the project makes a NinjaAPI

    def ready(self) -> None:
        """Hook everything up."""
        from . import checks, databases, routers
        from .meter import install

        register(checks.check_settings, self.label)
        register(checks.check_deployment, self.label, deploy=True)
        register(checks.check_database, Tags.database)
        register(checks.list_sdks, self.label, deploy=True)
        post_migrate.connect(databases.migrate_along, sender=self, dispatch_uid="token_limit_django.migrate_along")
        with contextlib.suppress(ConfigurationError):  # the system checks and the middleware say what is wrong
            databases.add_alias()
            routers.add_router()
            install()
