"""What lives: logs under a flood, the timeline, charts, the configuration, the connection."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.ui import servers

pytestmark = pytest.mark.e2e

PEER = """peers:
  box:
    proxy: http://127.0.0.1:9
    apiKey: hushhush
    models: [far]
"""


def test_a_flood_of_lines_leaves_few_in_the_document_and_the_page_alive(
    browser: Any, fake: Any
) -> None:
    browser.visit(fake.base, "logs")
    for start in range(0, 60_000, 6_000):
        lines = "".join(f"line {number}\n" for number in range(start, start + 6_000))
        fake.post("/fake/log", lines.encode())
    browser.find(".log-line", "line 59999")
    assert len(browser.driver.find_elements("css selector", ".log-line")) < 300
    frame = """
        const [done, at] = [arguments[0], performance.now()];
        requestAnimationFrame(() => done(performance.now() - at));
    """
    assert browser.driver.execute_async_script(frame) < 2000


def test_lines_of_all_models_say_who_wrote_them_when_and_lead_on(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "logs?view=upstream")
    line = browser.find(".log-line", "task 599")
    assert line.find_element("css selector", ".log-source").get_attribute("title") in {
        "bge-m3",
        "gpt-oss-120b",
    }
    assert line.find_element("css selector", ".log-at").text[2] == ":"
    browser.choose("Log of", "bge-m3")
    sources = "[...document.querySelectorAll('.log-source')].map((each) => each.textContent)"
    browser.wait(lambda: set(browser.run(f"return {sources}")) == {"bge-m3"}, "one model's lines")
    browser.choose("Log of", "All models")
    fake.post("/fake/log", b"loading 10%\rloading 50%\rloaded\nERROR: no such tensor\n"
              b"0.01.234.567 W srv init: no slots\n")  # fmt: skip
    browser.find(".level-warn .log-text", "no slots")
    browser.find(".level-error .log-text", "no such tensor")
    assert "loading 10%" not in browser.find(".log").text
    browser.press("Filter lines")
    browser.choose("Levels", "Errors")
    browser.wait(lambda: len(browser.all(".log-line")) == 1, "errors only")
    browser.choose("Levels", "All levels")
    browser.fill("[aria-label='Find in these lines']", "task 59[0-9]")
    browser.find(".log-filter", "10 of 10")
    browser.press("Next match")
    browser.find(".log-line.current", "task 590 ")
    browser.press("Previous match")
    browser.find(".log-line.current mark", "task 599")
    assert browser.axe() == []


def test_a_line_leads_to_its_request_and_those_of_the_interface_are_left_out(
    browser: Any, fake: Any
) -> None:
    browser.visit(fake.base, "logs?view=proxy")
    assert browser.find(".log-line", "request 399").text.startswith("2026-"), "no time twice"
    own = 'INFO 127.0.0.1 "POST /api/models/load/a HTTP/1.1" 200 request_id=ui-1\n'
    asked = "INFO 127.0.0.1 POST /v1/chat/completions 200 request_id=7f3a-3\n"
    fake.post("/fake/log?source=proxy", (own + asked).encode())
    browser.find(".log-line a", "request_id=7f3a-3").click()
    browser.find("[aria-label='Linked request'] .request-details", "7f3a-3")
    browser.go("logs")
    assert browser.all(".log-line", "/api/models/load") == []
    browser.press("Filter lines", "[aria-label=llmsnap]")
    browser.find("label.check", "Requests of this interface").click()
    browser.find(".log-line", "/api/models/load")


def test_lines_are_filtered_wrapped_and_sized(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "logs")
    browser.press("llmsnap", ".page-head")
    browser.press("Filter lines")
    browser.fill(".log-filter input", "request 39[0-4] ")
    browser.wait(lambda: len(browser.all(".log-line")) == 5, "five lines")
    browser.fill(".log-filter input", "(")
    browser.find(".log-filter", "all lines are shown")
    browser.press("Filter lines")
    browser.press("Wrap long lines")
    browser.find(".log.wrap")
    browser.press("Text size: normal")
    browser.button("Text size: tiny")


def test_scrolling_up_stops_following_and_latest_starts_it_again(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "logs")
    browser.press("Models", ".page-head")
    browser.find(".log-line")
    browser.run("document.querySelector('.log').scrollTop = 0")
    browser.button("Latest")
    fake.post("/fake/log", b"new\n")
    browser.find(".log-line", "task 0 ")
    browser.press("Latest")
    browser.find(".log-line", "new")


REQUEST, BAR = 20, 33  # heights within a lane
POINT = """
    const [lane, x, y, events, type] = arguments;
    const names = [...document.querySelectorAll(".lane-name a")].map((each) => each.title);
    const canvas = document.querySelector(".lane-canvas canvas");
    const box = canvas.getBoundingClientRect();
    const clientY = box.top + 26 + 52 * names.indexOf(lane) + y;
    canvas.setPointerCapture = () => {};
    for (const event of events.split(" ")) canvas.dispatchEvent(new PointerEvent(event,
      { clientX: box.left + box.width * x, clientY, pointerType: type, bubbles: true }));
"""


def tip(browser: Any, *place: Any) -> bool:
    """Point at a place of the timeline; whether a tip shows."""
    browser.run(POINT, *place)
    return bool(browser.all(".tip"))


def test_the_timeline_tells_what_is_under_the_pointer(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "timeline")
    browser.press("1 h")
    browser.find("section[aria-label=Swaps]", ", evicting ")
    canvas = browser.find(".lane-canvas canvas")
    browser.wait(lambda: tip(browser, "bge-reranker", 0.6, BAR, "pointermove", "mouse"), "a tip")
    assert "ready" in browser.find(".tip").text
    canvas.send_keys(Keys.ARROW_UP)
    newest = browser.find(".tip").text
    canvas.send_keys(Keys.ARROW_UP)
    browser.wait(lambda: browser.find(".tip").text != newest, "the one before")
    canvas.send_keys(Keys.ENTER)
    browser.find("dialog h2")
    browser.press("Close", "dialog")
    canvas.send_keys(" ")
    browser.button("Jump to now")
    browser.press("Jump to now")
    browser.button("Live")


def test_the_timeline_shows_requests_in_flight_and_leads_to_their_details(
    browser: Any, fake: Any
) -> None:
    browser.visit(fake.base, "timeline?span=0.5")
    browser.find(".figure", "3\nin flight now")
    browser.find(".lane-name", "1 in flight")
    browser.find(".lane-foot button", "without activity")
    assert not browser.all(".lane-name", "whisper-large")
    browser.press("Show 3 models without activity")
    browser.find(".lane-name", "whisper-large")
    place = ["gpt-oss-120b", 0.95, REQUEST]  # a moment ago: the axis ends shortly after now
    touch = [*place, "pointerdown pointerup", "touch"]
    browser.wait(lambda: tip(browser, *touch), "a tip after a tap")
    assert "qwen3-coder is serving 1 request" in browser.find(".tip").text
    browser.run(POINT, *place, "pointermove pointerdown pointerup", "mouse")
    browser.find("dialog", "Request in flight")
    assert browser.axe() == []
    browser.press("Cancel request", "dialog")
    browser.find("dialog.small", "gpt-oss-120b · /v1/chat/completions · loading for")
    browser.press("Keep running", "dialog.small")
    browser.press("Close", "dialog")
    browser.press("7 d")
    browser.wait(lambda: "span=10080" in browser.run("return location.hash"), "the span")
    browser.reload()
    browser.find("button[aria-pressed=true]", "7 d")


def test_a_browser_whose_clock_is_wrong_goes_by_that_of_the_server(
    browser: Any, server: Any
) -> None:
    late = "const real = Date.now; Date.now = () => real() + 600000;"
    script = browser.driver.execute_cdp_cmd(
        "Page.addScriptToEvaluateOnNewDocument", {"source": late}
    )
    try:
        server.ask("alpha")
        browser.visit(server.base, "activity")
        just_now = lambda: re.fullmatch(r"now|\d+ s ago", browser.all(".col-time")[0].text)  # noqa: E731
        browser.wait(just_now, "its time")
        browser.go("timeline")
        browser.wait(lambda: browser.all(".lane-name", "alpha"), "the lane of the loaded model")
        loading = lambda: browser.find(".figure", "time loading").text  # noqa: E731
        browser.wait(lambda: not loading().startswith("0 ms"), "the load to be within the span")
        browser.go("performance")
        browser.find(".chart h2", "Memory")
    finally:
        browser.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_a_rejected_edit_is_explained_and_a_good_one_is_loaded(
    browser: Any, server: Any, folder: Path
) -> None:
    file = folder / "config.yaml"
    good = file.read_text()
    browser.visit(server.base, "config")
    browser.find(".card", "A reload would change nothing")
    try:
        browser.go("models")
        file.write_text(good.replace("ttl: 600", "ttl: soon", 1))
        browser.find(".toast.bad", "The file has 1 error and was not loaded.")
        browser.find("nav .count.bad", "1 error")
        browser.press("Show", ".toast.bad")
        browser.find(".problem", "and was not loaded")
        browser.find(".config-text .line.bad", "ttl: soon")
        file.write_text(good)
        browser.find(".toast.ok", "Configuration reloaded")
        browser.gone("nav .count.bad")
        browser.find(".card", "A reload would change nothing")
    finally:
        file.write_text(good)
    browser.gone(".problem")


def test_secrets_of_the_file_are_masked(browser: Any, server: Any, folder: Path) -> None:
    file = folder / "config.yaml"
    good = file.read_text()
    try:
        file.write_text(good + PEER)
        browser.visit(server.base, "config")
        browser.find(".config-text", "apiKey: [REDACTED]")
        assert "hushhush" not in browser.driver.page_source
    finally:
        file.write_text(good)


def test_the_page_comes_back_when_the_server_does(browser: Any, folder: Path) -> None:
    own = folder / "restarted"
    own.mkdir()
    server = servers.real(own)
    server.start()
    try:
        browser.visit(server.base, "models")
        browser.find("[data-model=alpha]")
        server.stop()
        browser.find(".connection", "Disconnected")
        browser.find(".banner", "Connection lost")
        assert browser.driver.title.startswith("🔴")
        server.start()
        browser.find(".connection", "Live")
        browser.gone(".banner")
        browser.press("Load alpha")
        browser.find("[data-model=alpha] [data-state=ready]")
    finally:
        server.stop()
    browser.driver.get("about:blank")  # no page asks any more
    browser.console()  # refused connections were the point


def test_a_page_that_is_not_shown_does_not_change(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.find("[data-inflight]")
    browser.go("models")
    browser.find("[data-model] .model-state")
    browser.run("""
        window.changes = { activity: 0, models: 0 };
        for (const page of Object.keys(changes)) {
          new MutationObserver((list) => { changes[page] += list.length; }).observe(
            document.querySelector(`[data-page=${page}]`),
            { subtree: true, childList: true, characterData: true });
        }
    """)
    browser.wait(lambda: browser.run("return changes.models") > 2, "the seconds of the page shown")
    assert browser.run("return changes.activity") == 0


def test_more_tabs_are_live_than_a_browser_opens_connections(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "home")
    first = browser.driver.current_window_handle
    try:
        for _ in range(6):
            browser.driver.switch_to.new_window("tab")
            browser.driver.get(f"{fake.base}/ui/")
            browser.find("main .page h1")
            browser.wait(lambda: browser.connected, "a live connection")
    finally:
        for handle in browser.driver.window_handles:
            if handle != first:
                browser.driver.switch_to.window(handle)
                browser.driver.close()
        browser.driver.switch_to.window(first)


def test_events_arrive_where_a_proxy_lets_no_websocket_through(browser: Any, fake: Any) -> None:
    fake.post("/fake/sockets/off")
    try:
        browser.visit(fake.base, "models")
        assert [line for line in browser.console() if "WebSocket" not in line] == []
        browser.press("Unload bge-m3")
        browser.find("[data-model=bge-m3] [data-state=stopped]")
    finally:
        fake.post("/fake/sockets/on")
        browser.driver.get("about:blank")
