"""The one table of settings: for `MeterConfig`, for every framework, for the checks and for the documentation."""

from __future__ import annotations

from typing import Any

from ..runtime.clock import system_time
from ..stores.contract import Store
from ..stores.records import HOLD_SECONDS
from . import rules
from .rules import CORE, DJANGO, EVERYWHERE, FLASK, FRAMEWORKS, Setting

LONGEST_LEASE = 60


def _bool(doc: str, where: tuple[str, ...] = EVERYWHERE, default: bool = False) -> Setting:
    return Setting(rules.is_bool, "True or False", "True", doc, default, where)


def _seconds(default: float, example: str, doc: str, where: tuple[str, ...] = EVERYWHERE) -> Setting:
    return Setting(rules.are_positive_seconds, "seconds above 0, up to 31,622,400", example, doc, default, where)


def _choice(default: str, others: tuple[str, ...], doc: str, where: tuple[str, ...] = EVERYWHERE) -> Setting:
    names = (default, *others)
    *most, last = map(repr, names)
    return Setting(rules.is_one_of(*names), f"{', '.join(most)} or {last}", repr(others[0]), doc, default, where)


def _hook(example: str, doc: str, where: tuple[str, ...] = EVERYWHERE) -> Setting:
    return Setting(rules.is_callable_or_none, "a callable or None", example, doc, None, where, dotted=True)


def _url(example: str, doc: str, expected: str = "a URL or None") -> Setting:
    return Setting(rules.is_text_or_none, expected, example, doc, secret=True)  # it may have a password in it


SETTINGS: dict[str, Setting] = {
    # -- what is metered --
    "ENABLED": _bool("Meter at all.", (DJANGO, FLASK), default=True),
    "PATCHES": Setting(
        lambda value: value is None or rules.are_names(value),
        "a list of names of SDKs, or None for all",
        "['openai']",
        "The SDKs to meter. None is every SDK that is known.",
    ),
    "HOSTS": Setting(
        rules.are_hosts,
        "a dict from host, host:port or host/path, without scheme, to provider",
        "{'127.0.0.1:8010': 'openai'}",
        "The provider by host, host:port or host/path, for gateways and local endpoints, on top of the built-in table. "
        "`'free'` is a host whose models cost nothing.",
        {},
    ),
    "PRICES": Setting(
        rules.are_prices,
        "a dict from model to another model's name, 'free', or amounts in US dollars",
        "{'my-deployment': 'gpt-4o', 'my-model': {'input': 0.3, 'output': 1.2}}",
        "Prices of your own, which win over the price list: a model, or provider/model, is priced as another model of "
        "the list, for nothing, or at US dollars for a million tokens (`input`, `cached_input`, `output`, ...).",
        {},
    ),
    "MARKUP": _hook(
        "'project.billing.charge'",
        "A callable that gets each event and returns what its tenant is billed, in US dollars. None, of it or for the "
        "setting, leaves that to the markup of the tenant or its plan.",
    ),
    "ON_UNGUARDED": _choice(
        "warn",
        ("refuse", "ignore"),
        "What to do with a call that is neither metered nor known to be free: warn once per path, refuse it with "
        "`UnguardedCall` before any traffic, or only count it.",
    ),
    "ON_UNPRICED": _choice(
        "assume",
        ("refuse", "free"),
        "What to do with a call whose price is not known: bill it by the price of the same model elsewhere, else of "
        "its provider's dearest text model, else by `FALLBACK_PRICE`; refuse it with 402; or record it without a cost.",
    ),
    "FALLBACK_PRICE": Setting(
        rules.are_two_amounts,
        "US dollars for a million tokens of input, and of output",
        "(5, 25)",
        "The price that is assumed where the price list has nothing alike, in US dollars for a million tokens of input "
        "and of output.",
        (5, 25),
    ),
    "CAPTURE_CONTENT": _bool(
        "Keep the prefix and suffix of fill-in-the-middle calls on their events. By default their lengths are kept."
    ),
    # -- who pays --
    "TENANT_RESOLVER": _hook(
        "'project.billing.tenant_of'",
        "A callable, sync or async, from the request to its tenant or None. It replaces the built-in order.",
        FRAMEWORKS,
    ),
    "USER_TENANT_ATTRIBUTES": Setting(
        rules.are_names,
        "a list of attributes of the user",
        "['organization']",
        "Attributes of the signed-in user that may hold the tenant, in the order they are tried. An object counts by "
        "its primary key.",
        (),
        FRAMEWORKS,
    ),
    "ON_NO_TENANT": Setting(
        rules.is_payer,
        "'allow' or 'refuse', or the id of a tenant to bill",
        "'refuse'",
        "What to do with a call that has no tenant: bill it to the tenant `''`, which can be given limits like any "
        "other, refuse it, or bill it to the tenant that is named here.",
        "allow",
    ),
    "PROPAGATE_THREADS": _bool(
        "Let the tenant follow work into threads and thread pools.",
        default=True,
    ),
    "DEFAULT_LIMIT_USD": Setting(
        rules.is_amount_or_none,
        "US dollars a calendar month from 0 to 10^9, or None for no limit",
        "25",
        "The monthly limit in US dollars that a tenant starts with at its first call.",
    ),
    "DEFAULT_PLAN": Setting(
        rules.is_plan_or_none,
        "the name of a plan, a callable from a tenant to one, or None",
        "'free'",
        "The plan of a tenant that was never assigned one: its name, or a callable from the tenant's id to it or None.",
    ),
    "ON_OVERRUN": _choice(
        "finish",
        ("cut",),
        "What to do with a stream that uses a limit up while it runs: let it finish, or end it early as if it had "
        "reached its `max_tokens`, and then raise the refusal.",
    ),
    "BUSY_WAIT": Setting(
        rules.are_seconds,
        "seconds from 0 to 31,622,400",
        "10",
        "Seconds that a call may wait for calls in flight which hold what is left of a limit. 0 refuses it at once.",
        0.0,
    ),
    "LEASE_SECONDS": Setting(
        lambda value: rules.are_seconds(value) and value <= LONGEST_LEASE,
        f"seconds from 0 to {LONGEST_LEASE}",
        "5",
        "Seconds that a process may admit a hot tenant's calls from a slice of what is left, without asking the store. "
        "A change of a limit holds that much later. 0 asks the store about each call.",
        0.0,
    ),
    # -- the store --
    "STORE": Setting(
        lambda value: rules.is_text_or_none(value) or isinstance(value, Store),
        "a store URL, a Store, or None for the default",
        "'sqlite:////var/lib/app/token_limit.db'",
        "Where limits and ledger live. None is the project's database in Django, the remote backend if `URL` is given, "
        "and else the file token_limit.db.",
        secret=True,
    ),
    "ON_STORE_ERROR": _choice(
        "allow",
        ("refuse",),
        "What to do with a call while the store does not answer: let it out, marked `unverified`, as long as something "
        "of the tenant's `OUTAGE_ALLOWANCE_USD` is left, or refuse it. Both refuse with 503.",
    ),
    "OUTAGE_ALLOWANCE_USD": Setting(
        lambda value: value is not None and rules.is_amount_or_none(value),
        "US dollars from 0 to 10^9",
        "5",
        "What the calls of one tenant in one process may cost in US dollars while the store does not answer.",
        1,
    ),
    "STORE_TIMEOUT": _seconds(
        5.0,
        "5",
        "Seconds to wait for a store that is busy, or whose connection hangs. Then it counts as one that does not "
        "answer.",
    ),
    "JOURNAL": Setting(
        rules.is_text_or_none,
        "the path of a file or None",
        "'/var/lib/app/token_limit.journal'",
        "The file that keeps settled calls until the store takes them. None is a file beside the store's, and for a "
        "database server one in a directory of the user's below the temporary directory.",
    ),
    "HOLD_SECONDS": _seconds(HOLD_SECONDS, "900", "Seconds after which the hold of a call that never ended expires."),
    "CLOCK": Setting(
        callable,
        "a callable that returns unix seconds",
        "'project.clock.now'",
        "The clock, in unix seconds, for limits, windows and events.",
        system_time,
        dotted=True,
    ),
    # -- a remote backend --
    "URL": _url(
        "'https://limits.example.com/token-limit/events'",
        "The URL of a remote backend that takes the events.",
    ),
    "THRESHOLDS_URL": _url("'https://limits.example.com/thresholds'", "Where limits are set. None is beside `URL`."),
    "CHECK_URL": _url(
        "'https://limits.example.com/check-tenant-limit'", "Where limits are checked. None is beside `URL`."
    ),
    "API_KEY": Setting(
        rules.is_header_value_or_none,
        "the key of the backend, or None, as printable ASCII without spaces or line ends around it",
        "'tl_...'",
        "The API key of the backend.",
        secret=True,
    ),
    "SPOOL": _url(
        "'/var/lib/app/token_limit_spool.db'",
        "A file that keeps events until the backend has them.",
        "the path of a file or None",
    ),
    "FLUSH_INTERVAL": _seconds(5.0, "5", "Seconds to wait for a batch to fill before sending it."),
    "MAX_BATCH_SIZE": Setting(
        rules.is_number_of_events, "a whole number from 1 to 10^9", "50", "The most events of one batch.", 50
    ),
    "MAX_QUEUE_SIZE": Setting(
        rules.is_number_of_events, "a whole number from 1 to 10^9", "1000", "The most events that wait in memory.", 1000
    ),
    "LIMIT_CHECK_CACHE_TTL": Setting(
        rules.are_seconds,
        "seconds from 0 to 31,622,400",
        "5",
        "Seconds for which the backend's answer about a tenant is used again. 0 asks before every call.",
        5.0,
    ),
    "ON_FLUSH_ERROR": _hook(
        "'project.billing.on_flush_error'", "A callable that gets the error of each failed delivery."
    ),
    # -- refusals in web applications --
    "UPGRADE_URL": Setting(
        lambda value: value is None or isinstance(value, str),
        "a URL or a path",
        "'/billing/'",
        "Where the upgrade response sends people: a URL, or a path with the prefix of the application.",
        where=FRAMEWORKS,
    ),
    "SUPPORT_URL": Setting(
        lambda value: value is None or isinstance(value, str),
        "a URL, a path or a mailto: address",
        "'mailto:help@example.com'",
        "Where people who were refused can ask: linked on the upgrade page and on the usage page.",
        where=FRAMEWORKS,
    ),
    "UPGRADE_TEMPLATE": Setting(
        rules.is_text,
        "the name of a template",
        "'billing/upgrade.html'",
        "The template of the upgrade page.",
        "token_limit/upgrade.html",
        (DJANGO, FLASK),
    ),
    "UPGRADE_RESPONSE": _hook(
        "'project.billing.upgrade_response'",
        "A callable from the request and the decision to a response. It replaces the upgrade response.",
        FRAMEWORKS,
    ),
    "PEEK_STREAMS": _bool(
        "Hold every streamed response back until its first chunk, so that a refusal before it is still a 402.",
        FRAMEWORKS,
    ),
    "RENDER_SWALLOWED_REFUSALS": _bool(
        "Send the upgrade response in place of an error response of the application, where a call of the same request "
        "was refused.",
        FRAMEWORKS,
    ),
    # -- notices --
    "THRESHOLDS": Setting(
        rules.are_percents,
        "a list of whole percents from 1 to 1000",
        "[80, 100]",
        "The percents of a limit that make a notice, each once a window.",
        (50, 80, 100),
    ),
    "ON_THRESHOLD": _hook(
        "'project.billing.on_threshold'", "A callable that gets each notice: a limit has crossed a threshold."
    ),
    "WEBHOOK_URL": Setting(
        rules.is_http_url_or_none,
        "an http(s) URL or None",
        "'https://example.com/hooks/token-limit'",
        "Where notices are posted as JSON, at least once, with a signature.",
        secret=True,
    ),
    "WEBHOOK_SECRET": _url("'whsec_...'", "The secret that webhooks are signed with.", "a text or None"),
    # -- development --
    "ON_EVENT": _hook("'project.billing.on_event'", "A callable that gets each event right after its capture."),
    "ON_REFUSAL": _hook(
        "'project.billing.on_refusal'", "A callable that gets the decision and the request of each refused call."
    ),
    "DEBUG": _bool("Log each event at level INFO on the logger `token_limit`."),
    "RAISE_ON_ERROR": _bool(
        "Raise the library's own faults instead of logging them. Holds for the whole process, until it ends."
    ),
}
"""Every setting by its upper-case name, which Django and Flask use; `MeterConfig` and Starlette use lower case."""

METER_SETTINGS: dict[str, Setting] = {key.lower(): one for key, one in SETTINGS.items() if CORE in one.where}
"""The settings that are fields of `MeterConfig`, by field."""


def settings_of(package: str) -> dict[str, Setting]:
    """Return the settings of a framework's package, by upper-case name."""
    return {key: one for key, one in SETTINGS.items() if package in one.where}


def meter_options(given: dict[str, Any]) -> dict[str, Any]:
    """Return those of a framework's settings that are meant for `MeterConfig`, by field, the store left out."""
    return {key.lower(): value for key, value in given.items() if key.lower() in METER_SETTINGS and key != "STORE"}
