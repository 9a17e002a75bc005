"""What a customer does with an example, over plain HTTP; AssertionError where the site does wrong."""

from __future__ import annotations

import re

import requests

MOST_CHATS = 200


class Visitor:
    """A person with a browser of their own, who signs in and fills in the forms that the pages have."""

    def __init__(self, url: str, username: str, path: str = "/login/") -> None:
        self.url = url
        self.session = requests.Session()
        self._hidden: dict[str, dict[str, str]] = {}
        answer = self.post(path, {"username": username, "password": "demo"}, page=path)
        assert answer.ok and not answer.url.endswith(path), f"{username} could not sign in"

    def get(self, path: str, **params: str) -> str:
        """Open a page."""
        return self.session.get(self.url + path, params=params, timeout=30).text

    def post(
        self, path: str, form: dict[str, str], *, page: str = "/", accept: str = "text/html", stream: bool = False
    ) -> requests.Response:
        """Send a page's form, with the hidden fields that it has."""
        if page not in self._hidden:
            self._hidden[page] = dict(re.findall(r'<input type="hidden" name="(.+?)" value="(.*?)"', self.get(page)))
        headers = {"Accept": accept, "Referer": self.url + page}
        data = {**self._hidden[page], **form}
        return self.session.post(self.url + path, data=data, headers=headers, stream=stream, timeout=60)

    def chat(self, question: str, *, stream: bool = False) -> requests.Response:
        """Ask as the page's script does."""
        return self.post("/send/", {"question": question}, accept="application/problem+json", stream=stream)

    def usage(self) -> str:
        """Read the usage line of the chat page."""
        found = re.search(r"<span>(.*?)</span>", self.get("/usage/"))
        assert found, "the usage line is missing"
        return found[1]

    def chat_until_refused(self) -> int:
        """Ask until the limit is reached, with JavaScript and without; return how many chats were answered."""
        chats = 0
        while (answer := self.chat(f"Question {chats + 1}: what does a limit do?")).status_code == 200:
            chats += 1
            assert answer.text, "the streamed answer is empty"
            assert chats < MOST_CHATS, "the limit never refused"
        assert chats, f"the first chat was answered with {answer.status_code}"
        assert answer.status_code == 402, answer.status_code
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        print(f"{chats} chats were answered, then: {answer.status_code} {problem['title']} - {problem['detail']}")
        print(f"  spent ${problem['spent_usd']} of ${problem['limit_usd']}, resets at {problem['resets_at']}")

        page = self.post("/", {"question": "One more?"})
        assert page.status_code == 402 and "/plans/" in page.text, page.status_code
        print("without JavaScript the upgrade page is shown, with its link to the plans")
        return chats


def check_foreign_forms(alice: Visitor) -> None:
    """See that forms of another site, which does not know the hidden fields, are not taken."""
    for path, form in (("/login/", {"username": "bob", "password": "demo"}), ("/send/", {"question": "Who pays?"})):
        answer = alice.session.post(alice.url + path, form, timeout=30)
        assert answer.status_code in (400, 403), f"{path} took a form of another site: {answer.status_code}"
    print("forms that other sites send are refused")


def check_once_raised(alice: Visitor) -> None:
    """Go on after the limit was raised, and see that the other customer has paid for nothing."""
    answer = alice.chat("Am I back?")
    assert answer.status_code == 200, answer.status_code
    assert answer.text, "the streamed answer is empty"
    print(f"alice chats again; {alice.usage()}")
    bob = Visitor(alice.url, "bob")
    assert "$0.00 of" in bob.usage(), "bob was billed for alice"
    print(f"bob, of the other customer, was billed for nothing: {bob.usage()}")
