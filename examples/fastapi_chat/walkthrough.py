"""What a customer and an operator do with the example, over plain HTTP and on the command line."""

from __future__ import annotations

import json
import re

import requests

from demo import Site

MOST_CHATS = 200


def walk(site: Site) -> None:
    """Chat until refused, raise the limit, chat again; raises AssertionError where the site does wrong."""
    nobody = requests.post(f"{site.url}/send/", {"question": "Who pays?"}, timeout=30, allow_redirects=False)
    assert nobody.status_code == 303, "somebody who is not signed in was answered"
    alice = sign_in(site.url, "alice")
    print(f"alice signed in; {usage_line(alice, site.url)}")

    chats = 0
    while (answer := chat(alice, site.url, f"Question {chats + 1}: what does a limit do?")).status_code == 200:
        chats += 1
        assert text_of(answer), "the streamed answer is empty"
        assert chats < MOST_CHATS, "the limit never refused"
    assert chats, f"the first chat was answered with {answer.status_code}"
    assert answer.status_code == 402, answer.status_code
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    print(f"{chats} chats were answered, then: {answer.status_code} {problem['title']} - {problem['detail']}")
    print(f"  spent ${problem['spent_usd']} of ${problem['limit_usd']}, resets at {problem['resets_at']}")

    page = alice.post(f"{site.url}/", {"question": "One more?"}, headers={"Accept": "text/html"}, timeout=60)
    assert page.status_code == 402 and "/plans/" in page.text, page.status_code
    print("without JavaScript the upgrade page is shown, with its link to the plans")
    documented = requests.get(f"{site.url}/openapi.json", timeout=30).json()["paths"]["/send/"]["post"]["responses"]
    assert {"402", "429", "503"} <= documented.keys(), documented
    print("the refusals are in the OpenAPI document")

    print(f"$ token-limit set acme 0.02\n  {site.token_limit('set', 'acme', '0.02').strip()}")
    answer = chat(alice, site.url, "Am I back?")
    assert answer.status_code == 200, answer.status_code
    assert text_of(answer)
    print(f"alice chats again; {usage_line(alice, site.url)}")
    bob = sign_in(site.url, "bob")
    assert "$0.00 of" in usage_line(bob, site.url), "bob was billed for alice"
    print(f"bob, of the other customer, was billed for nothing: {usage_line(bob, site.url)}")
    spend = site.token_limit("usage")
    assert f"in {chats + 1} calls" in spend and "(no tenant)" not in spend, spend
    print(f"$ token-limit usage\n{spend.rstrip()}")
    print("demo-fastapi-check passed")


def sign_in(url: str, username: str) -> requests.Session:
    """Sign a user in and return the session."""
    session = requests.Session()
    response = session.post(f"{url}/login/", {"username": username, "password": "demo"}, timeout=30)
    assert response.ok and "session" in session.cookies, f"{username} could not sign in"
    return session


def chat(session: requests.Session, url: str, question: str) -> requests.Response:
    """Ask as the page's script does."""
    headers = {"Accept": "application/problem+json"}
    return session.post(f"{url}/send/", {"question": question}, headers=headers, timeout=60)


def text_of(answer: requests.Response) -> str:
    """Put the events of a streamed answer together."""
    return "".join(json.loads(data) for data in re.findall(r"^data: (.*)$", answer.text, re.MULTILINE))


def usage_line(session: requests.Session, url: str) -> str:
    """Read the usage line of the chat page."""
    found = re.search(r"<span>(.*?)</span>", session.get(f"{url}/usage/", timeout=30).text)
    assert found, "the usage line is missing"
    return found[1]
