"""What a customer and a support person do with the example, over plain HTTP."""

from __future__ import annotations

import re

import requests

MOST_CHATS = 200


def walk(url: str) -> None:
    """Chat until refused, raise the limit in admin, chat again; raises AssertionError where the site does wrong."""
    alice = sign_in(url, "/login/", "alice")
    print(f"alice signed in; {usage_line(alice, url)}")

    chats = 0
    while (answer := chat(alice, url, f"Question {chats + 1}: what does a limit do?")).status_code == 200:
        chats += 1
        assert answer.text, "the streamed answer is empty"
        assert chats < MOST_CHATS, "the limit never refused"
    assert chats, f"the first chat was answered with {answer.status_code}"
    assert answer.status_code == 402, answer.status_code
    problem = answer.json()
    assert answer.headers["Content-Type"] == "application/problem+json"
    print(f"{chats} chats were answered, then: {answer.status_code} {problem['title']} - {problem['detail']}")
    print(f"  spent ${problem['spent_usd']} of ${problem['limit_usd']}, resets at {problem['resets_at']}")

    page = post(alice, f"{url}/", {"question": "One more?"}, accept="text/html")
    assert page.status_code == 402 and "/plans/" in page.text, page.status_code
    print("without JavaScript the upgrade page is shown, with its link to the plans")

    support = sign_in(url, "/admin/login/", "support")
    raise_limit(support, url, "acme", "0.02")
    print("support raised Acme's limit to $0.02 in admin")

    answer = chat(alice, url, "Am I back?")
    assert answer.status_code == 200, answer.status_code
    print(f"alice chats again; {usage_line(alice, url)}")
    bob = sign_in(url, "/login/", "bob")
    assert "$0.00 of" in usage_line(bob, url), "bob was billed for alice"
    print(f"bob, of the other customer, was billed for nothing: {usage_line(bob, url)}")
    print("demo-check passed")


def sign_in(url: str, path: str, username: str) -> requests.Session:
    """Sign a user in and return the session."""
    session = requests.Session()
    session.get(url + path, timeout=30)
    form = {"username": username, "password": "demo", "next": "/"}
    response = post(session, url + path, form, accept="text/html")
    assert response.ok and "sessionid" in session.cookies, f"{username} could not sign in"
    return session


def post(session: requests.Session, url: str, form: dict[str, str], accept: str) -> requests.Response:
    """Post a form with its CSRF token."""
    data = {**form, "csrfmiddlewaretoken": session.cookies.get("csrftoken", "")}
    return session.post(url, data=data, headers={"Accept": accept, "Referer": url}, timeout=60)


def chat(session: requests.Session, url: str, question: str) -> requests.Response:
    """Ask as the page's script does."""
    return post(session, f"{url}/send/", {"question": question}, accept="application/problem+json")


def usage_line(session: requests.Session, url: str) -> str:
    """Read the usage line of the chat page."""
    found = re.search(r"<span>(.*?)</span>", session.get(f"{url}/usage/", timeout=30).text)
    assert found, "the usage line is missing"
    return found[1]


def raise_limit(session: requests.Session, url: str, tenant: str, amount: str) -> None:
    """Change a tenant's limit in admin, through its form."""
    found = session.get(f"{url}/admin/token_limit/limit/", params={"q": tenant}, timeout=30).text
    links = re.findall(r'href="(/admin/token_limit/limit/\d+/change/[^"]*)"', found)
    assert links, "the limit is not listed in admin"
    page = session.get(url + links[0], timeout=30).text
    form = {match[1]: match[2] for match in re.finditer(r'<input[^>]*?name="([^"_][^"]*)"[^>]*?value="([^"]*)"', page)}
    for name, body in re.findall(r'<select[^>]*?name="([^"]+)"[^>]*>(.*?)</select>', page, re.DOTALL):
        chosen = re.search(r'<option value="([^"]*)" selected', body)
        if chosen:
            form[name] = chosen[1]
    answer = post(session, url + links[0], {**form, "limit_usd": amount, "_save": "Save"}, accept="text/html")
    assert answer.ok and "errornote" not in answer.text, "admin refused the new limit"
