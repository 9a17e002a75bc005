"""What a customer and an operator do with the example, over plain HTTP and on the command line."""

from __future__ import annotations

import json
import re

import requests

from demo import token_limit
from shared.serving import Site
from shared.visitor import Visitor, check_foreign_forms, check_once_raised


def walk(site: Site) -> None:
    """Chat until refused, raise the limit, chat again; raises AssertionError where the site does wrong."""
    nobody = requests.get(f"{site.url}/usage/", timeout=30, allow_redirects=False)
    assert nobody.status_code == 303, "somebody who is not signed in was answered"
    alice = Visitor(site.url, "alice")
    print(f"alice signed in; {alice.usage()}")
    check_foreign_forms(alice)
    chats = alice.chat_until_refused()
    documented = requests.get(f"{site.url}/openapi.json", timeout=30).json()["paths"]["/send/"]["post"]["responses"]
    assert {"402", "429"} <= documented.keys(), documented
    print("the refusals are in the OpenAPI document")

    print(f"$ token-limit set acme 0.02\n  {token_limit(site, 'set', 'acme', '0.02').strip()}")
    check_once_raised(alice)
    assert text_of(alice.chat("And once more?"))
    spend = token_limit(site, "usage")
    assert f"in {chats + 2} calls" in spend and "(no tenant)" not in spend, spend
    print(f"$ token-limit usage\n{spend.rstrip()}")
    print("demo-fastapi-check passed")


def text_of(answer: requests.Response) -> str:
    """Put the events of a streamed answer together."""
    return "".join(json.loads(data) for data in re.findall(r"^data: (.*)$", answer.text, re.MULTILINE))
