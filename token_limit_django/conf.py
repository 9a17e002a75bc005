"""The settings: one typed property per key of `TOKEN_LIMIT`, read when asked for, so `override_settings` works."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from django.conf import settings as django_settings
from django.utils.functional import Promise

from token_limit_core import MeterConfig
from token_limit_core.config import BOOL, METER_KEYS, Rule, check_value, is_text, load
from token_limit_core.config import RULES as COMMON
from token_limit_core.errors import ConfigurationError
from token_limit_core.events import LLMEvent
from token_limit_core.money import Money
from token_limit_core.stores.contract import Store

if TYPE_CHECKING:
    from django.http import HttpRequest, HttpResponse

    from token_limit_core.limits import Decision


REMOTE = "remote"
"""The `STORE` of a project that keeps no limits and no ledger of its own."""

RULES = {
    **COMMON,
    "STORE": COMMON["STORE"]._replace(
        wanted="a store URL such as 'sqlite:////var/lib/app/token_limit.db', a Store, 'remote' for the backend at URL, "
        "or None for the project's database"
    ),
    "UPGRADE_URL": COMMON["UPGRADE_URL"]._replace(
        accepts=lambda value: value is None or isinstance(value, (str, Promise))
    ),
    "DATABASE": Rule(is_text, "the name of a database alias, such as 'token_limit'"),
    "EAGER": BOOL,
    "STORE_THREADS": Rule(lambda value: type(value) is int and value > 0, "a whole number above 0"),
}
"""Every key `TOKEN_LIMIT` may have."""


class Settings:
    """What `TOKEN_LIMIT` says; a key that is left out has the default given here.

    Every property raises `ConfigurationError` for a value of the wrong type.
    """

    @property
    def ENABLED(self) -> bool:
        """Whether calls are metered at all."""
        value: bool = self._get("ENABLED", True)
        return value

    @property
    def STORE(self) -> Store | str | None:
        """A store or a store URL in place of the project's database; None is the ORM."""
        store: Store | str | None = self._get("STORE", None)
        return store

    @property
    def DATABASE(self) -> str:
        """The database alias the ORM store works through; added to DATABASES where it is missing."""
        alias: str = self._get("DATABASE", "token_limit")
        return alias

    @property
    def EAGER(self) -> bool:
        """Whether the store joins the transaction of the default database: for tests that run in one."""
        value: bool = self._get("EAGER", False)
        return value

    @property
    def STORE_THREADS(self) -> int:
        """How many threads, so how many connections, keep the ORM store off event loops."""
        threads: int = self._get("STORE_THREADS", 4)
        return threads

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
    def DEFAULT_LIMIT_USD(self) -> Money | None:
        """The monthly limit that a tenant starts with; None is no limit."""
        amount: Money | None = self._get("DEFAULT_LIMIT_USD", None)
        return amount

    @property
    def ON_NO_TENANT(self) -> Literal["allow", "refuse"]:
        """What becomes of a call that nobody is known to pay for."""
        policy: Literal["allow", "refuse"] = self._get("ON_NO_TENANT", "allow")
        return policy

    @property
    def ON_UNGUARDED(self) -> Literal["warn", "refuse", "ignore"]:
        """What becomes of a billable request that no guard knows."""
        policy: Literal["warn", "refuse", "ignore"] = self._get("ON_UNGUARDED", "warn")
        return policy

    @property
    def CAPTURE_CONTENT(self) -> bool:
        """Whether the prefix and suffix of fill-in-the-middle calls are kept; else their lengths are."""
        value: bool = self._get("CAPTURE_CONTENT", False)
        return value

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
        url: str | Promise | None = self._get("UPGRADE_URL", None)
        return None if url is None else str(url)  # `reverse_lazy` cannot be asked any earlier

    @property
    def UPGRADE_TEMPLATE(self) -> str:
        """The template of the upgrade page."""
        name: str = self._get("UPGRADE_TEMPLATE", "token_limit/upgrade.html")
        return name

    @property
    def UPGRADE_RESPONSE(self) -> Callable[[HttpRequest, Decision], HttpResponse] | None:
        """A callable that answers a refused request in place of the built-in response."""
        answer: Callable[[HttpRequest, Decision], HttpResponse] | None = self._callable("UPGRADE_RESPONSE")
        return answer

    @property
    def PEEK_STREAMS(self) -> bool:
        """Whether every streamed response waits for its first chunk, so that a refusal before it is still a 402."""
        value: bool = self._get("PEEK_STREAMS", False)
        return value

    @property
    def ON_EVENT(self) -> Callable[[LLMEvent], None] | None:
        """A callable that is given each event right after its capture."""
        hook: Callable[[LLMEvent], None] | None = self._callable("ON_EVENT")
        return hook

    @property
    def DEBUG(self) -> bool:
        """Whether each event is logged."""
        value: bool = self._get("DEBUG", False)
        return value

    @property
    def RAISE_ON_ERROR(self) -> bool:
        """Whether the library's own faults are raised instead of logged."""
        value: bool = self._get("RAISE_ON_ERROR", False)
        return value

    @property
    def URL(self) -> str | None:
        """Where events are sent: copies of them, or all there is with STORE = 'remote'."""
        value: str | None = self._get("URL", None)
        return value

    @property
    def THRESHOLDS_URL(self) -> str | None:
        """Where limits are set at the backend; None is beside URL."""
        value: str | None = self._get("THRESHOLDS_URL", None)
        return value

    @property
    def CHECK_URL(self) -> str | None:
        """Where the backend is asked for a tenant's limit; None is beside URL."""
        value: str | None = self._get("CHECK_URL", None)
        return value

    @property
    def API_KEY(self) -> str | None:
        """The key for the backend."""
        value: str | None = self._get("API_KEY", None)
        return value

    @property
    def SPOOL(self) -> str | None:
        """A file that keeps events until the backend has them; only with STORE = 'remote'."""
        value: str | None = self._get("SPOOL", None)
        return value

    @property
    def FLUSH_INTERVAL(self) -> float:
        """How many seconds an event waits for company."""
        value: float = self._get("FLUSH_INTERVAL", MeterConfig.flush_interval)
        return value

    @property
    def MAX_BATCH_SIZE(self) -> int:
        """How many events travel together."""
        value: int = self._get("MAX_BATCH_SIZE", MeterConfig.max_batch_size)
        return value

    @property
    def MAX_QUEUE_SIZE(self) -> int:
        """How many events wait in memory."""
        value: int = self._get("MAX_QUEUE_SIZE", MeterConfig.max_queue_size)
        return value

    @property
    def LIMIT_CHECK_CACHE_TTL(self) -> float:
        """How many seconds the backend's answer about a tenant holds."""
        value: float = self._get("LIMIT_CHECK_CACHE_TTL", MeterConfig.limit_check_cache_ttl)
        return value

    @property
    def ON_FLUSH_ERROR(self) -> Callable[[Exception], None] | None:
        """A callable that is given each delivery that the backend refused."""
        hook: Callable[[Exception], None] | None = self._callable("ON_FLUSH_ERROR")
        return hook

    def meter_options(self) -> dict[str, Any]:
        """Return what is meant for `MeterConfig`, under its names.

        Raises `ConfigurationError` when a hook cannot be imported.
        """
        return {key.lower(): getattr(self, key) for key in METER_KEYS}

    def given(self) -> Any:
        """Return `settings.TOKEN_LIMIT` as it is."""
        return getattr(django_settings, "TOKEN_LIMIT", {})

    def _get(self, key: str, default: Any) -> Any:
        given = self.given()
        if not isinstance(given, Mapping):
            raise ConfigurationError("TOKEN_LIMIT is not a dict; write TOKEN_LIMIT = {...}")
        if key not in given:
            return default
        check_value(RULES[key], given[key], f"TOKEN_LIMIT[{key!r}]")
        return given[key]

    def _callable(self, key: str) -> Any:
        return load(self._get(key, None), f"TOKEN_LIMIT[{key!r}]")


settings = Settings()
