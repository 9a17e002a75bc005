"""What a customer and a support person do with the example, over plain HTTP."""

from __future__ import annotations

import html
import re

from shared.serving import Site
from shared.visitor import Visitor, check_foreign_forms, check_once_raised


def walk(site: Site) -> None:
    """Chat until refused, raise the limit in admin, chat again; raises AssertionError where the site does wrong."""
    alice = Visitor(site.url, "alice")
    print(f"alice signed in; {alice.usage()}")
    check_foreign_forms(alice)
    alice.chat_until_refused()

    raise_limit(Visitor(site.url, "support", "/admin/login/"), "acme", "0.02")
    print("support raised Acme's limit to $0.02 in admin")
    check_once_raised(alice)
    print("demo-check passed")


def raise_limit(support: Visitor, tenant: str, amount: str) -> None:
    """Change a tenant's limit in admin, through its form."""
    pages = "/admin/token_limit/overview"
    links = re.findall(r'href="([^"]*/limit\?tenant=[^"]*id=\d+)"', support.get(f"{pages}/tenant", id=tenant))
    assert links, "the limit is not on the tenant's page"
    answer = support.post(f"{pages}/limit", {"amount": amount}, page=html.unescape(links[0]))
    assert answer.ok and "Saved." in answer.text, "admin refused the new limit"
