"""What a customer and a support person do with the example, over plain HTTP."""

from __future__ import annotations

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
    found = support.get("/admin/token_limit/limit/", q=tenant)
    links = re.findall(r'href="(/admin/token_limit/limit/\d+/change/)', found)
    assert links, "the limit is not listed in admin"
    page = support.get(links[0])
    form = {match[1]: match[2] for match in re.finditer(r'<input[^>]*?name="([^"_][^"]*)"[^>]*?value="([^"]*)"', page)}
    for name, body in re.findall(r'<select[^>]*?name="([^"]+)"[^>]*>(.*?)</select>', page, re.DOTALL):
        chosen = re.search(r'<option value="([^"]*)" selected', body)
        if chosen:
            form[name] = chosen[1]
    answer = support.post(links[0], {**form, "limit_usd": amount, "_save": "Save"}, page=links[0])
    assert answer.ok and "errornote" not in answer.text, "admin refused the new limit"
