"""Sign-in: a key opens the pages that it may use, and nothing of it stays in the browser."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ui import servers

pytestmark = pytest.mark.e2e

KEYS = """apiKeys:
  - {key: adminkey01234, name: boss, admin: true}
  - {key: guestkey01234, name: kid, admin: false}
"""


@pytest.fixture
def keyed(browser: Any, tmp_path: Path) -> Iterator[servers.Server]:
    server = servers.real(tmp_path)
    server.configure(server.config.read_text() + KEYS)
    with server:
        yield server
        browser.leave()  # the requests that found the session ended


def enter(browser: Any, key: str) -> None:
    browser.fill("#api-key", key)
    browser.press("Sign in")


def test_a_key_opens_the_pages_that_it_may_use(browser: Any, keyed: Any) -> None:
    browser.open(keyed.base, "models", ready="#api-key")
    assert browser.axe() == []
    assert not browser.all(".side")
    enter(browser, "wrong")
    browser.find(".problem", "This key is not valid")
    browser.complains(of="401")

    enter(browser, "guestkey01234")
    browser.find("[data-page=models] .empty", "The key 'kid' can use the Playground only. Sign out")
    assert browser.texts(".nav a") == ["Playground"]
    browser.find(".connection", "Limited key")
    assert browser.axe() == []
    browser.go("playground")
    browser.choose("Model", "alpha")
    browser.say("good morning")
    browser.find(".message.assistant .prose", "good morning")

    browser.press("Sign out")
    enter(browser, "adminkey01234")
    browser.find(".account", "boss")
    browser.find(".connection", "Live")
    browser.go("models")
    browser.press("Unload alpha")
    browser.find("[data-model=alpha] [data-state=stopped]")
    assert "key01234" not in browser.run("return JSON.stringify(localStorage) + document.cookie")

    keyed.configure(keyed.config.read_text().replace("adminkey01234", "anotherkey01234"))
    browser.find("#api-key")
