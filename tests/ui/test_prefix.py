"""The interface below a path of a site that nginx serves, on a port of its own."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.proxies import needs, nginx, standing
from tests.fakes.ports import free_port
from tests.ui import servers

pytestmark = [pytest.mark.e2e, needs(nginx)]
PREFIX = "/site/llm/"


@pytest.fixture
def below(browser: Any, server: servers.Server, tmp_path: Any) -> Iterator[str]:
    """The address of *server* below a prefix."""
    port = free_port()
    command = nginx(tmp_path, port, int(server.base.rpartition(":")[2]), PREFIX)
    with standing(command, tmp_path, port):
        yield f"http://127.0.0.1:{port}{PREFIX}"
        browser.leave()  # or its feed would break off


def requested(browser: Any) -> set[str]:
    """The addresses of everything the page has fetched."""
    return set(browser.run("return performance.getEntriesByType('resource').map((e) => e.name)"))


def test_all_of_it_works_below_a_prefix(browser: Any, server: servers.Server, below: str) -> None:
    browser.visit(below.rstrip("/"), "playground")
    browser.driver.get(below)  # redirected to the interface
    browser.wait(lambda: browser.driver.current_url.startswith(f"{below}ui/"), "the redirect")
    browser.go("playground")
    browser.choose("Model", "alpha")
    browser.say("hello")
    browser.find(".message.assistant .prose", "hello")
    assert server.states()["alpha"] == "ready"

    browser.driver.get(f"{below}ui/models")  # without the hash, as people type it
    browser.wait(lambda: browser.driver.current_url.endswith("/ui/#/models"), "the page")
    browser.find(f"a[href='{below}upstream/alpha/']")
    browser.press("Unload alpha")
    browser.wait(lambda: server.states().get("alpha") is None, "the model to stop")
    browser.find("tr, li, article", "stopped")  # told by an event

    assert requested(browser)
    assert not [each for each in requested(browser) if not each.startswith(below)]
