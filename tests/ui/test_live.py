"""What lives: logs under a flood, the timeline, charts, the configuration, the connection."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

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


def test_the_timeline_tells_what_is_under_the_pointer(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "timeline")
    browser.press("1 h")
    browser.find("section[aria-label=Swaps]", ", evicting ")
    canvas = browser.find(".lane-canvas canvas")
    browser.run(
        """
        const box = arguments[0].getBoundingClientRect();
        for (const x of [0.5, 0.6, 0.7]) {
          arguments[0].dispatchEvent(new PointerEvent("pointermove",
            { clientX: box.left + box.width * x, clientY: box.top + 111, bubbles: true }));
        }
        """,
        canvas,
    )
    browser.find(".tip", "ready")
    canvas.send_keys(" ")
    browser.button("Jump to now")
    browser.press("Jump to now")
    browser.button("Live")


def test_charts_are_drawn(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "performance")
    browser.wait(lambda: len(browser.all(".chart canvas")) == 10, "ten charts")
    browser.find(".chart-legend", "qwen3-30b-a3b")


def test_charts_of_the_real_machine(browser: Any, server: Any) -> None:
    browser.visit(server.base, "performance")
    browser.find(".chart h2", "Memory")


def test_a_rejected_edit_is_explained_and_a_good_one_is_loaded(
    browser: Any, server: Any, folder: Path
) -> None:
    file = folder / "config.yaml"
    good = file.read_text()
    browser.visit(server.base, "config")
    browser.find(".card", "A reload would change nothing")
    try:
        file.write_text(good.replace("ttl: 600", "ttl: soon", 1))
        browser.find(".problem", "and was not loaded")
        browser.find(".config-text .line.bad", "ttl: soon")
        file.write_text(good)
        browser.press("Check again")
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
        for _ in range(7):
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
