"""The Activity page and the capture viewer."""

from typing import Any

import gevent
import pytest

from tests.ui.servers import until

pytestmark = pytest.mark.e2e

FINISHED = "[aria-label='Finished requests']"


def recorded(server: Any, text: str) -> int:
    """The number of the request that said *text*, once it is recorded."""
    server.ask("alpha", text)
    until(lambda: text in server.sent())
    return int(server.get("/api/activity?limit=1")["records"][0]["id"])


def test_a_request_appears_as_it_ends_and_is_sent_again_to_another_model(
    browser: Any, server: Any
) -> None:
    browser.visit(server.base, "activity")
    newest = recorded(server, "appear")
    browser.click(f"tr[data-request='{newest}'] .col-model", "alpha")
    browser.find(".request-details", "first token", "POST /v1/chat/completions")
    browser.press(f"View capture {newest + 1}")
    browser.find("dialog", "appear")
    browser.choose("Replay against", "beta")
    browser.press("Send again", "dialog")
    browser.find("section[aria-label='Now, beta']", "I am beta")
    browser.find("section[aria-label='Before, alpha']", "I am alpha")
    browser.button("Send again", "dialog")
    browser.press("Close", "dialog")
    browser.gone("dialog")


def test_requests_in_flight_say_what_they_wait_for_and_can_be_ended(
    browser: Any, server: Any
) -> None:
    server.post("/api/models/unload")
    browser.visit(server.base, "activity")
    browser.find(".inflight", "No request is in flight.")
    height = browser.read(".inflight", of="offsetHeight")

    def ask() -> None:
        with pytest.raises(OSError, match="HTTP Error"):
            server.ask("slow")

    asking = [gevent.spawn(ask) for _ in range(3)]
    browser.find("tr[data-inflight]", "loading")
    browser.find("tr[data-inflight]", "2nd in line")
    assert browser.read(".inflight", of="offsetHeight") == height, "nothing below moves"
    browser.click("tr[data-inflight]:nth-child(2) .danger")
    browser.find("dialog h2", "Cancel this request?")
    browser.find("dialog", "127.0.0.1 · slow · /v1/chat/completions · loading for")
    browser.press("Cancel request", "dialog")
    browser.count("tr[data-inflight]", 2)
    browser.press("Cancel several")
    browser.press("Cancel all 2 requests for slow")
    browser.press("Cancel 2 requests", "dialog")
    gevent.joinall(asking, raise_error=True)
    browser.gone("tr[data-inflight]")
    server.post("/api/models/unload")


def test_the_list_rests_while_it_is_read(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.find(f"{FINISHED} .card-head", "42,193 requests")
    browser.press("Details of request 258")
    browser.find(".request-details", "7f3a-257")
    fake.post("/fake/finish")
    fake.post("/fake/finish")
    browser.find(f"{FINISHED} .tools", "2 new")
    assert browser.read("tr[data-request]", of="request") == "259"
    browser.reload()
    browser.find(".request-details", "7f3a-257")  # the address names it
    browser.hover(f"{FINISHED} thead")
    browser.press("Details of request 258")
    fake.post("/fake/finish")
    browser.press("Show", FINISHED)
    browser.find("tr[data-request='262']")


def test_the_buttons_of_each_request_stay_in_view_and_a_phone_shows_cards(
    browser: Any, fake: Any
) -> None:
    browser.visit(fake.base, "activity")
    browser.press("Columns")
    for name in ("Path", "Queued", "Load", "Response size", "Request id"):
        browser.click(".menu-list label", name)
    browser.press("Columns")
    browser.reload()
    browser.find("th", "Response size")
    browser.size(1280, 720)
    inside = """
        const wrap = document.querySelector(".requests-wrap");
        wrap.scrollTop = 400;
        const box = wrap.getBoundingClientRect();
        const [button] = [...document.querySelectorAll("tr[data-request] .row-tools")].slice(20)
          .map((each) => each.getBoundingClientRect());
        const head = wrap.querySelector("thead th").getBoundingClientRect();
        return wrap.scrollWidth > wrap.clientWidth && button.right <= innerWidth
          && Math.abs(head.top - box.top) < 2;
    """
    browser.becomes(inside, True)
    browser.size(390, 844)
    browser.click("li.request-card [aria-expanded]")
    browser.find("li.request-card .request-details", "first token")
    browser.fits()
    assert browser.axe() == []


def test_filters_sorting_pages_and_distributions(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.choose("Outcome", "Failed")
    rows = "return [...document.querySelectorAll('tr[data-request]')].map((each) => each.innerText)"
    failed = lambda: all("502" in each for each in browser.run(rows)) and browser.run(rows)  # noqa: E731
    browser.wait(failed, "failed requests only")
    browser.choose("Outcome", "Any outcome")
    for order in ("descending", "ascending"):
        browser.press("Duration")
        browser.find(f"th[aria-sort={order}]", "Duration")
    browser.press("Time")
    browser.find("tr[data-request='259']")
    browser.press("Older")
    browser.find("tr[data-request='209']")
    browser.press("Newer")
    browser.find("tr[data-request='259']")
    browser.press("Statistics")
    browser.count(".histogram", 6)
    browser.find("[aria-label=Statistics]", " of 42,193, since ")
    assert browser.axe() == []


def test_a_capture_that_is_gone_is_explained(browser: Any, server: Any) -> None:
    newest = recorded(server, "to be dropped")
    browser.visit(server.base, "activity")
    browser.run("""
        const real = window.fetch;
        window.fetch = (path, more) => real(String(path).replace("captures/", "captures/99"), more);
    """)
    browser.press(f"View capture {newest + 1}")
    browser.find("dialog .problem", "dropped to make room")
    browser.complains(of="404")
