"""What a customer and an operator do with the example, over plain HTTP and on the command line."""

from __future__ import annotations

from shared.serving import Site
from shared.visitor import Visitor, check_foreign_forms, check_once_raised


def walk(site: Site) -> None:
    """Chat until refused, raise the limit, chat again; raises AssertionError where the site does wrong."""
    alice = Visitor(site.url, "alice")
    print(f"alice signed in; {alice.usage()}")
    check_foreign_forms(alice)
    chats = alice.chat_until_refused()

    print(f"$ flask token-limit set acme 0.02\n  {flask(site, 'set', 'acme', '0.02').strip()}")
    check_once_raised(alice)
    spend = flask(site, "usage")
    assert f"in {chats + 1} calls" in spend and "(no tenant)" not in spend, spend
    print(f"$ flask token-limit usage\n{spend.rstrip()}")
    print("demo-flask-check passed")


def flask(site: Site, *args: str) -> str:
    """Run `flask token-limit` and return what it says."""
    return site.run("-m", "flask", "token-limit", *args)
