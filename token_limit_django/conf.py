"""The settings: typed properties of `TOKEN_LIMIT`, read at each access, so that `override_settings` works.

What each setting means and may hold is in core's table, `token_limit_core/config/table.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.conf import settings as django_settings
from django.utils.functional import Promise

from token_limit_core.config.rules import CORE, DJANGO, Setting, check_value, hint_for, is_bool, is_text, load
from token_limit_core.config.table import meter_options, settings_of
from token_limit_core.errors import ConfigurationError
from token_limit_core.stores.contract import Store

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from token_limit_core.limits import Decision


REMOTE = "remote"
"""The `STORE` of a project whose limits and ledger live at the backend `URL`."""

COMMON = settings_of(DJANGO)
SETTINGS: dict[str, Setting] = {
    **COMMON,
    "STORE": COMMON["STORE"]._replace(
        expected="a store URL, a Store, 'remote' for the backend at URL, or None for the project's database",
        doc="A store in place of the project's database, or 'remote' for the backend at `URL`. Django's admin then has "
        "no pages for it.",
    ),
    "UPGRADE_URL": COMMON["UPGRADE_URL"]._replace(
        accepts=lambda value: value is None or isinstance(value, (str, Promise))
    ),
    "SUPPORT_URL": COMMON["SUPPORT_URL"]._replace(
        accepts=lambda value: value is None or isinstance(value, (str, Promise))
    ),
    "DATABASE": Setting(
        is_text,
        "the name of a database alias",
        "'token_limit'",
        "The database alias of our tables. It is added to DATABASES where it is missing.",
        "token_limit",
        (DJANGO,),
    ),
    "EAGER": Setting(
        is_bool, "True or False", "True", "Join the open transaction of the default connection: only for tests.", False,
        (DJANGO,),
    ),
    "NOTICE_EMAILS": Setting(
        lambda value: isinstance(value, (list, tuple)) and all(is_text(one) and "@" in one for one in value),
        "a list of e-mail addresses",
        "['billing@example.com']",
        "The addresses that each notice is sent to: a limit has crossed a threshold.",
        (),
        (DJANGO,),
    ),
    "STORE_THREADS": Setting(
        lambda value: type(value) is int and value > 0,
        "a whole number above 0",
        "4",
        "The most threads, hence connections, that a process adds to keep the database off event loops.",
        4,
        (DJANGO,),
    ),
}  # fmt: skip
"""Every key that `TOKEN_LIMIT` may have."""


class Settings:
    """The values of `TOKEN_LIMIT`, with the defaults of the table.

    Every property raises `ConfigurationError` for a value that its setting does not accept.
    """

    @property
    def ENABLED(self) -> bool:
        """Whether calls are metered at all."""
        value: bool = self.get("ENABLED")
        return value

    @property
    def STORE(self) -> Store | str | None:
        """A store or a store URL in place of the project's database; None is the project's database."""
        store: Store | str | None = self.get("STORE")
        return store

    @property
    def DATABASE(self) -> str:
        """The database alias of our tables."""
        alias: str = self.get("DATABASE")
        return alias

    @property
    def EAGER(self) -> bool:
        """Whether the store joins the transaction of the default database."""
        value: bool = self.get("EAGER")
        return value

    @property
    def NOTICE_EMAILS(self) -> list[str]:
        """The addresses that notices are sent to."""
        return list(self.get("NOTICE_EMAILS"))

    @property
    def STORE_THREADS(self) -> int:
        """The most threads that keep the database off event loops."""
        threads: int = self.get("STORE_THREADS")
        return threads

    @property
    def STORE_TIMEOUT(self) -> float:
        """Seconds to wait for a busy database, or for one that hangs."""
        seconds: float = self.get("STORE_TIMEOUT")
        return seconds

    @property
    def TENANT_RESOLVER(self) -> Callable[[HttpRequest], Any] | None:
        """A callable, sync or async, from the request to its tenant; None is the built-in order."""
        resolver: Callable[[HttpRequest], Any] | None = self.get("TENANT_RESOLVER")
        return resolver

    @property
    def USER_TENANT_ATTRIBUTES(self) -> Sequence[str]:
        """Attributes of `request.user` that may hold its tenant, in the order they are tried."""
        names: Sequence[str] = self.get("USER_TENANT_ATTRIBUTES")
        return names

    @property
    def UPGRADE_URL(self) -> str | None:
        """Where the upgrade response sends people."""
        url: str | Promise | None = self.get("UPGRADE_URL")
        return None if url is None else str(url)  # `reverse_lazy` has no text any earlier

    @property
    def SUPPORT_URL(self) -> str | None:
        """Where people who were refused can ask."""
        url: str | Promise | None = self.get("SUPPORT_URL")
        return None if url is None else str(url)

    @property
    def UPGRADE_TEMPLATE(self) -> str:
        """The template of the upgrade page."""
        name: str = self.get("UPGRADE_TEMPLATE")
        return name

    @property
    def UPGRADE_RESPONSE(self) -> Callable[[HttpRequest, Decision], HttpResponse] | None:
        """A callable that answers a refused request in place of the built-in response."""
        answer: Callable[[HttpRequest, Decision], HttpResponse] | None = self.get("UPGRADE_RESPONSE")
        return answer

    @property
    def PEEK_STREAMS(self) -> bool:
        """Whether every streamed response waits for its first chunk."""
        value: bool = self.get("PEEK_STREAMS")
        return value

    @property
    def RENDER_SWALLOWED_REFUSALS(self) -> bool:
        """Whether the project's own error response gives way to the upgrade response after a refusal."""
        value: bool = self.get("RENDER_SWALLOWED_REFUSALS")
        return value

    @property
    def URL(self) -> str | None:
        """The URL of the backend that takes the events."""
        value: str | None = self.get("URL")
        return value

    @property
    def SPOOL(self) -> str | None:
        """A file that keeps events until the backend has them."""
        value: str | None = self.get("SPOOL")
        return value

    @property
    def PATCHES(self) -> Sequence[str] | None:
        """The SDKs to meter; None is every SDK that is known."""
        patches: Sequence[str] | None = self.get("PATCHES")
        return patches

    def meter_options(self) -> dict[str, Any]:
        """Return what is meant for `MeterConfig`, by field.

        Nothing else is imported: a TENANT_RESOLVER's module may need the project's models, which are not ready
        when the SDKs are hooked. Raises `ConfigurationError` when a callable cannot be imported.
        """
        given = [key for key in self._given() if key in SETTINGS and CORE in SETTINGS[key].where]
        return meter_options({key: self.get(key) for key in given})

    def check(self) -> None:
        """Raise `ConfigurationError` for the first key that is unknown, or whose value or dotted path is wrong."""
        for key in self._given():
            if key not in SETTINGS:
                raise ConfigurationError(f"TOKEN_LIMIT[{key!r}] is not a setting. {hint_for(str(key), SETTINGS)}")
            self.get(key)

    def given(self) -> Any:
        """Return `settings.TOKEN_LIMIT` as it is."""
        return getattr(django_settings, "TOKEN_LIMIT", {})

    def get(self, key: str) -> Any:
        """Return the value of a setting, checked, and imported if it is a dotted path."""
        given, setting = self._given(), SETTINGS[key]
        if key not in given:
            return setting.default
        name = f"TOKEN_LIMIT[{key!r}]"
        check_value(setting, given[key], name, dotted=True)
        return load(given[key], name) if setting.dotted else given[key]

    def _given(self) -> Mapping[str, Any]:
        given = self.given()
        if not isinstance(given, Mapping):
            raise ConfigurationError("TOKEN_LIMIT: invalid value; expected a dict, for example TOKEN_LIMIT = {}")
        return given


settings: Settings = Settings()
