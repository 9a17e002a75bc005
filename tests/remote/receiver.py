"""A backend of ours in this process: the real endpoints over a real store, which can be told to misbehave."""

from __future__ import annotations

import time
from io import BytesIO
from urllib.parse import parse_qsl

from tests.remote.backend import Backend, Handler
from token_limit_core.ingest.endpoints import Incoming, Ingest
from token_limit_core.ingest.keys import PERMISSIONS, make_key
from token_limit_core.stores.contract import Store


class Receiver(Backend):
    """Answers through `Ingest`; `arrivals` has when each event was in the ledger, in unix seconds."""

    def __init__(self, store: Store, ingest: Ingest | None = None) -> None:
        super().__init__()
        self.store = store
        self.ingest = Ingest(store) if ingest is None else ingest
        self.token = key_for(store)
        self.arrivals: dict[str, float] = {}
        self.check_seconds: list[float] = []
        self.usual = answer


def answer(handler: Handler) -> None:
    """Answer as the endpoints do."""
    receiver, began = handler.server, time.time()
    assert isinstance(receiver, Receiver)
    path, _, query = handler.path.partition("?")
    headers = {name.lower(): value for name, value in handler.headers.items()}
    asked = dict(parse_qsl(query, keep_blank_values=True))
    name = path.rpartition("/")[2]
    rendered = receiver.ingest.answer(Incoming(handler.command, name, asked, headers, BytesIO(handler.raw).read))
    now = time.time()
    if name == "events" and rendered.status == 200:
        for event in handler.body()["events"]:
            receiver.arrivals.setdefault(event["event_id"], now)
            receiver.deliveries[event["event_id"]] += 1
    else:
        receiver.check_seconds.append(now - began)
    handler.answer(rendered.status, rendered.body)


def key_for(store: Store) -> str:
    """Make a key that may do everything for every tenant."""
    token, key = make_key("tests", ["*"], permissions=PERMISSIONS, now=time.time())
    store.add_api_key(key)
    return token
