"""What lives: logs under a flood, the timeline, charts, the configuration, the connection."""

import re
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver.common.keys import Keys

from tests.ui import servers

pytestmark = pytest.mark.e2e


def test_a_flood_of_lines_leaves_few_in_the_document(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "logs")
    browser.find(".log-line", "task 599")
    for start in range(0, 60_000, 6_000):
        lines = "".join(f"line {number}\n" for number in range(start, start + 6_000))
        fake.post("/fake/log", lines.encode())
    browser.find(".log-line", "line 59999")
    assert browser.run("return document.querySelectorAll('.log-line').length") < 300


def test_lines_of_all_models_say_who_wrote_them_when_and_lead_on(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "logs?view=upstream")
    line = browser.read(".log-line", "task 599")
    assert re.match(r"\d\d:\d\d:\d\d\s+(bge-m3|gpt-oss\s?-120b)\s", line)
    browser.choose("Log of", "bge-m3")
    browser.wait(lambda: set(browser.texts(".log-source")) == {"bge-m3"}, "one model's lines")
    browser.choose("Log of", "All models")
    fake.post("/fake/log", b"loading 10%\rloading 50%\rloaded\nERROR: no such tensor\n"
              b"0.01.234.567 W srv init: no slots\n")  # fmt: skip
    browser.find(".level-warn .log-text", "no slots")
    browser.find(".level-error .log-text", "no such tensor")
    assert "loading 10%" not in browser.read(".log")
    browser.press("Filter lines")
    browser.choose("Levels", "Errors")
    browser.count(".log-line", 1)
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
    assert browser.read(".log-line", "request 399").startswith("2026-"), "no time twice"
    own = 'INFO 127.0.0.1 "POST /api/models/load/a HTTP/1.1" 200 request_id=ui-1\n'
    asked = "INFO 127.0.0.1 POST /v1/chat/completions 200 request_id=7f3a-3\n"
    fake.post("/fake/log?source=proxy", (own + asked).encode())
    browser.click(".log-line a", "request_id=7f3a-3")
    browser.find("[aria-label='Linked request'] .request-details", "7f3a-3")
    browser.go("logs")
    assert browser.all(".log-line", "/api/models/load") == []
    browser.press("Filter lines", "[aria-label=llmsnap]")
    browser.click("label.check", "Requests of this interface")
    browser.find(".log-line", "/api/models/load")


def test_lines_are_filtered_wrapped_and_sized(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "logs")
    browser.press("llmsnap", ".page-head")
    browser.press("Filter lines")
    browser.fill(".log-filter input", "request 39[0-4] ")
    browser.count(".log-line", 5)
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
    browser.find(".log-line", "task 599")
    browser.run("document.querySelector('.log').scrollTop = 0")
    browser.button("Latest")
    fake.post("/fake/log", b"new\n")
    browser.find(".log-line", "task 0 ")
    browser.press("Latest")
    browser.find(".log-line", "new")


REQUEST, BAR = 20, 33  # heights within a lane
HEAD_OF_TIP = ".tip .row, .tip > b"
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


def tip(browser: Any, said: str, *place: Any) -> bool:
    """Point at a place of the timeline; whether a tip shows that says this."""
    browser.run(POINT, *place)
    return bool(browser.all(".tip", said))


def test_the_timeline_tells_what_is_under_the_pointer(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "timeline")
    browser.press("1 h")
    browser.find("section[aria-label=Swaps]", ", evicting ")
    browser.wait(
        lambda: tip(browser, "ready", "bge-reranker", 0.6, BAR, "pointermove", "mouse"), "a tip"
    )
    browser.run("document.querySelector('.lane-canvas canvas').focus()")
    for _ in range(2):
        said = browser.read(HEAD_OF_TIP)
        browser.keys(Keys.ARROW_UP)
        browser.wait(lambda said=said: browser.read(HEAD_OF_TIP) != said, "another tip")
    browser.keys(Keys.ENTER)
    browser.find("dialog h2")
    browser.press("Close", "dialog")
    browser.run("document.querySelector('.lane-canvas canvas').focus()")
    browser.keys(" ")
    browser.press("Jump to now")
    browser.button("Live")


def test_the_timeline_shows_requests_in_flight_and_leads_to_their_details(
    browser: Any, fake: Any
) -> None:
    browser.visit(fake.base, "timeline?span=0.5")
    browser.find(".figure", "3 in flight now")
    browser.find(".lane-name", "1 in flight")
    browser.find(".lane-foot button", "without activity")
    assert not browser.all(".lane-name", "whisper-large")
    browser.press("Show 3 models without activity")
    browser.find(".lane-name", "whisper-large")
    place = ["gpt-oss-120b", 0.95, REQUEST]  # a moment ago: the axis ends shortly after now
    touch = [*place, "pointerdown pointerup", "touch"]
    browser.wait(lambda: tip(browser, "qwen3-coder is serving 1 request", *touch), "a tip")

    def opened() -> bool:
        browser.run(POINT, *place, "pointermove pointerdown pointerup", "mouse")
        return bool(browser.all("dialog", "Request in flight"))

    browser.wait(opened, "its details")
    assert browser.axe() == []
    browser.press("Cancel request", "dialog")
    browser.find("dialog.small", "gpt-oss-120b · /v1/chat/completions · loading for")
    browser.press("Keep running", "dialog.small")
    browser.press("Close", "dialog")
    browser.press("7 d")
    browser.becomes("return location.hash.includes('span=10080')", True)
    browser.reload()
    browser.find("button[aria-pressed=true]", "7 d")


def test_a_browser_whose_clock_is_wrong_goes_by_that_of_the_server(
    browser: Any, server: Any
) -> None:
    server.ask("alpha")
    with browser.each_page("const real = Date.now; Date.now = () => real() + 600000;"):
        browser.visit(server.base, "activity")
        newest = lambda: browser.read("td.col-time")  # noqa: E731
        browser.wait(lambda: re.fullmatch(r"now|\d+ s ago", newest()), "its time")
        browser.go("timeline")
        browser.find(".lane-name", "alpha")
        loading = lambda: browser.read(".figure", "time loading")  # noqa: E731
        browser.wait(lambda: not loading().startswith("0 ms"), "the load to be within the span")
        browser.go("performance")
        browser.find(".chart h2", "Memory")


def test_a_rejected_edit_is_explained_and_a_good_one_is_loaded(browser: Any, server: Any) -> None:
    browser.visit(server.base, "config")
    browser.find(".card", "A reload would change nothing")
    browser.go("models")
    with server.configured(server.config.read_text().replace("ttl: 600", "ttl: soon", 1)):
        browser.find(".toast.bad", "The file has 1 error and was not loaded.")
        browser.find("nav .count.bad", "1 error")
        browser.press("Show", ".toast.bad")
        browser.find(".problem", "and was not loaded")
        browser.find(".config-text .line.bad", "ttl: soon")
    browser.find(".toast.ok", "Configuration reloaded")
    browser.gone("nav .count.bad")
    browser.find(".card", "A reload would change nothing")
    browser.gone(".problem")


def test_what_changes_during_a_read_is_read_again(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "home")
    script = """
        const [runs, ends] = [[], []];
        const read = its.singleFlight((of) => new Promise((end) => {
          runs.push(of);
          ends.push(end);
        }));
        const [first, second, third] = [read("a"), read("b"), read("c")];
        ends[0]();
        await first;
        await new Promise((done) => setTimeout(done));
        ends[1]();
        await Promise.all([second, third]);
        return runs;
    """
    assert browser.module("shared/api.js", script) == ["a", "c"]


@pytest.mark.parametrize(("late_ms", "took_ms", "skew_s"), [(5000, 6000, 0), (600_000, 100, -600)])
def test_a_slow_answer_is_no_wrong_clock(
    browser: Any, fake: Any, late_ms: int, took_ms: int, skew_s: int
) -> None:
    browser.visit(fake.base, "home")
    script = """
        const [late, took] = given;
        its.noteServerDate(new Date(Date.now() - late).toUTCString(), Date.now() - took);
        return Math.round((its.serverNow() - Date.now()) / 10000) * 10;
    """
    assert browser.module("shared/timing.js", script, late_ms, took_ms) == skew_s


def test_the_page_comes_back_when_the_server_does(browser: Any, tmp_path: Path) -> None:
    server = servers.real(tmp_path)
    server.start()
    try:
        browser.visit(server.base, "models")
        browser.find("[data-model=alpha]")
        server.stop()
        browser.find(".connection", "Disconnected")
        browser.find(".banner", "Connection lost")
        browser.wait(lambda: browser.driver.title.startswith(("🔴", "🟡")), "the title to say so")
        server.start()
        browser.find(".connection", "Live")
        browser.gone(".banner")
        browser.press("Load alpha")
        browser.find("[data-model=alpha] [data-state=ready]")
    finally:
        server.stop()
    browser.leave()  # refused connections were the point


def test_a_page_that_is_not_shown_does_not_change(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "activity")
    browser.find("[data-inflight]")
    browser.find("tr[data-request]")
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
    fake.set(sockets=False)
    browser.visit(fake.base, "models")
    assert [line for line in browser.console() if "WebSocket" not in line] == []
    browser.press("Unload bge-m3")
    browser.find("[data-model=bge-m3] [data-state=stopped]")
    browser.leave()
