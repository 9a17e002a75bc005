"""The settings: one typed property per key of `TOKEN_LIMIT`, read when asked for, so `override_settings` works."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from django.conf import settings as django_settings
from django.utils.module_loading import import_string

from token_limit_core.errors import ConfigurationError
from token_limit_core.events import LLMEvent

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from token_limit_core.limits import Decision
    from token_limit_core.stores.base import Store


class Settings:
    """What `TOKEN_LIMIT` says; a key that is left out has the default given here."""

    @property
    def ENABLED(self) -> bool:
        """Whether calls are metered at all."""
        return bool(self._get("ENABLED", True))

    @property
    def STORE(self) -> Store | str | None:
        """A store or a store URL in place of the project's database; None is the ORM."""
        store: Store | str | None = self._get("STORE", None)
        return store

    @property
    def DATABASE(self) -> str:
        """The database alias the ORM store works through; added to DATABASES where it is missing."""
        return str(self._get("DATABASE", "token_limit"))

    @property
    def EAGER(self) -> bool:
        """Whether the store joins the transaction of the default database: for tests that run in one."""
        return bool(self._get("EAGER", False))

    @property
    def STORE_THREADS(self) -> int:
        """How many threads, so how many connections, keep the ORM store off event loops."""
        return int(self._get("STORE_THREADS", 4))

    @property
    def HOSTS(self) -> Mapping[str, str]:
        """Provider by host or host:port, on top of the built-in table."""
        hosts: Mapping[str, str] = self._get("HOSTS", {})
        return hosts

    @property
    def PATCHES(self) -> Sequence[str] | None:
        """The SDKs to meter; None is every one that is known."""
        patches: Sequence[str] | None = self._get("PATCHES", None)
        return patches

    @property
    def ON_NO_TENANT(self) -> Literal["allow", "refuse"]:
        """What becomes of a call that nobody is known to pay for."""
        policy: Literal["allow", "refuse"] = self._get("ON_NO_TENANT", "allow")
        return policy

    @property
    def TENANT_RESOLVER(self) -> Callable[[HttpRequest], Any] | None:
        """A callable, sync or async, that names the tenant of a request; None is the built-in order."""
        resolver: Callable[[HttpRequest], Any] | None = self._callable("TENANT_RESOLVER")
        return resolver

    @property
    def USER_TENANT_ATTRIBUTES(self) -> Sequence[str]:
        """Attributes of `request.user` that may hold its tenant, in the order they are tried."""
        names: Sequence[str] = self._get("USER_TENANT_ATTRIBUTES", ())
        return names

    @property
    def UPGRADE_URL(self) -> str | None:
        """Where the upgrade response sends people."""
        url: str | None = self._get("UPGRADE_URL", None)
        return url

    @property
    def UPGRADE_TEMPLATE(self) -> str:
        """The template of the upgrade page."""
        return str(self._get("UPGRADE_TEMPLATE", "token_limit/upgrade.html"))

    @property
    def UPGRADE_RESPONSE(self) -> Callable[[HttpRequest, Decision], HttpResponse] | None:
        """A callable that answers a refused request in place of the built-in response."""
        answer: Callable[[HttpRequest, Decision], HttpResponse] | None = self._callable("UPGRADE_RESPONSE")
        return answer

    @property
    def ON_EVENT(self) -> Callable[[LLMEvent], None] | None:
        """A callable that is given each event right after its capture."""
        hook: Callable[[LLMEvent], None] | None = self._callable("ON_EVENT")
        return hook

    @property
    def DEBUG(self) -> bool:
        """Whether each event is logged."""
        return bool(self._get("DEBUG", False))

    @property
    def RAISE_ON_ERROR(self) -> bool:
        """Whether the library's own faults are raised instead of logged."""
        return bool(self._get("RAISE_ON_ERROR", False))

    def meter_options(self) -> dict[str, Any]:
        """Return what is meant for `MeterConfig`, under its names.

        Raises `ConfigurationError` when ON_EVENT cannot be imported.
        """
        names = ("HOSTS", "PATCHES", "ON_NO_TENANT", "ON_EVENT", "DEBUG", "RAISE_ON_ERROR")
        return {name.lower(): getattr(self, name) for name in names}

    def given(self) -> Any:
        """Return `settings.TOKEN_LIMIT` as it is."""
        return getattr(django_settings, "TOKEN_LIMIT", {})

    def _get(self, key: str, default: Any) -> Any:
        given = self.given()
        return given.get(key, default) if isinstance(given, Mapping) else default  # the checks report what it is

    def _callable(self, key: str) -> Any:
        value = self._get(key, None)
        if isinstance(value, str):
            try:
                value = import_string(value)
            except ImportError as error:
                raise ConfigurationError(f"TOKEN_LIMIT[{key!r}]: {error}") from error
        if value is not None and not callable(value):
            raise ConfigurationError(f"TOKEN_LIMIT[{key!r}]: {self._get(key, None)!r} is not callable")
        return value


KEYS = tuple(name for name in vars(Settings) if name.isupper())
"""Every key `TOKEN_LIMIT` may have."""

settings = Settings()
