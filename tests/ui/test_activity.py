"""The Activity page and the capture viewer."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

pytestmark = pytest.mark.e2e

FIRST = "tr[data-request]"


def test_a_request_appears_as_it_ends_with_where_its_time_went(browser: Any, server: Any) -> None:
    browser.visit(server.base, "activity")
    server.ask("alpha", "appear")
    newest = server.get("/api/activity?limit=1")["records"][0]["id"]
    row = browser.find(f"tr[data-request='{newest}']", "alpha")
    row.find_element("css selector", ".col-model").click()
    browser.find(".request-details", "first token")
    browser.find(".request-details", "POST /v1/chat/completions")


def test_a_request_in_flight_is_on_top_and_can_be_ended(browser: Any, server: Any) -> None:
    browser.visit(server.base, "activity")

    def ask() -> None:
        with pytest.raises(OSError, match="HTTP Error"):
            server.ask("slow")

    asking = gevent.spawn(ask)
    row = browser.find("tr[data-inflight]", "slow")
    row.find_element("css selector", "button").click()
    browser.find("dialog", "Cancel this request?")
    browser.press("Cancel request", "dialog")
    asking.get(timeout=20)
    browser.gone("tr[data-inflight]")


def test_view_and_replay_against_another_model(browser: Any, server: Any) -> None:
    server.ask("alpha", "replay me")
    newest = server.get("/api/activity?limit=1")["records"][0]["id"]
    browser.visit(server.base, "activity")
    browser.press(f"View capture {newest + 1}")
    browser.find("dialog", "replay me")
    browser.choose("Replay against", "beta")
    browser.press("Send again", "dialog")
    browser.find("section[aria-label='Now, beta']", "I am beta")
    browser.find("section[aria-label='Before, alpha']", "I am alpha")
    browser.wait(lambda: browser.button("Send again", "dialog"), "the answer to end")
    browser.press("Close", "dialog")
    browser.gone("dialog")


def test_filters_sorting_and_pages(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.choose("Outcome", "Failed")
    browser.wait(
        lambda: all("502" in row.text for row in browser.all(FIRST)) and browser.all(FIRST),
        "failed requests only",
    )
    browser.choose("Outcome", "Any outcome")
    browser.press("Duration")
    browser.find("th[aria-sort=descending]", "Duration")
    browser.press("Duration")
    browser.find("th[aria-sort=ascending]", "Duration")
    browser.press("ID")
    browser.find("tr[data-request='259']")
    browser.press("Older")
    browser.find("tr[data-request='209']")
    browser.press("Newer")
    browser.find("tr[data-request='259']")


def test_columns_are_chosen_and_remembered(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.press("Columns")
    browser.find(".menu-list label", "Path").click()
    browser.find("th", "Path")
    browser.reload()
    browser.find("th", "Path")


def test_distributions(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.press("Statistics")
    browser.wait(lambda: len(browser.all(".histogram")) == 6, "six histograms")
    assert browser.axe() == []


def test_the_capture_viewer_is_accessible(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.press("View capture 260")
    browser.find(".capture")
    assert browser.axe() == []


def test_a_capture_that_is_gone_is_explained(browser: Any, server: Any) -> None:
    server.ask("alpha")
    newest = server.get("/api/activity?limit=1")["records"][0]["id"]
    browser.visit(server.base, "activity")
    browser.run("""
        const real = window.fetch;
        window.fetch = (path, more) => real(String(path).replace("captures/", "captures/99"), more);
    """)
    browser.press(f"View capture {newest + 1}")
    browser.find("dialog .problem", "dropped to make room")
    assert any("404" in line for line in browser.console())
