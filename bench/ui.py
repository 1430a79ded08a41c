"""Measures what an open page of the web UI costs its browser, and what a reconnect transfers.

    bench/ui.py [--seconds S] [--rate R] [--models N] [--pages activity,models,...]

One llmsnap with N models of the simulator, R requests a second to one of them, and Chromium with
one page after the other: the share of a core that the page's main thread used, its longest task,
how often it computed styles and layouts (which other load of the machine changes little), and the
bytes of a reconnect. First the same without requests.
"""

import llmsnap._monkey  # noqa: F401, I001 - first, as in the product

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gevent

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.ui import servers
from tests.ui.browser import Browser

PAGES = "home,models,activity,timeline,performance,logs"
SETTLE_S = 3
WATCH = """
    window.longest = 0;
    new PerformanceObserver((list) => {
      window.longest = Math.max(window.longest, ...list.getEntries().map((each) => each.duration));
    }).observe({ type: "longtask" });
"""


def config(models: int) -> str:
    """A configuration of one model that is asked and others that are not."""
    command = f"{sys.executable} -m llmsnap.simulator --host 127.0.0.1 --port ${{PORT}}"
    others = "".join(f"  model-{n:03}: {{cmd: '{command}', ttl: 600}}\n" for n in range(models - 1))
    return f"logLevel: warn\nmodels:\n  asked: {{cmd: '{command} --tokens 8', ttl: 600}}\n{others}"


def ask_for_ever(server: servers.Server, rate: float) -> None:
    """Send *rate* requests a second until killed."""
    while True:
        gevent.spawn(server.ask, "asked")
        gevent.sleep(1 / rate)


def cost(browser: Browser, seconds: float) -> str:
    """Return what the main thread did: CPU, the longest task, style recalculations, layouts."""
    browser.run(WATCH)
    before, began = metrics(browser), time.monotonic()
    gevent.sleep(seconds)
    after, passed = metrics(browser), time.monotonic() - began
    each_s = {name: (after[name] - before[name]) / passed for name in after}
    return (
        f"{each_s['TaskDuration']:6.1%} of a core  "
        f"longest task {browser.run('return window.longest'):4.0f} ms  "
        f"styles {each_s['RecalcStyleCount']:4.1f}/s  layouts {each_s['LayoutCount']:4.1f}/s"
    )


def metrics(browser: Browser) -> dict[str, float]:
    """Return the counters of the page; durations are seconds of CPU of its main thread."""
    found = browser.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return {each["name"]: each["value"] for each in found}


def received_bytes(browser: Browser, *, again: bool) -> int:
    """Return the bytes that a page receives in two seconds, in which it connects *again* or not."""
    browser.driver.get_log("performance")
    if again:
        browser.run("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    gevent.sleep(2)
    received = 0
    for entry in browser.driver.get_log("performance"):
        message: dict[str, Any] = json.loads(entry["message"])["message"]
        if message["method"] == "Network.dataReceived":
            received += message["params"]["encodedDataLength"]
        if message["method"] == "Network.webSocketFrameReceived":
            received += len(message["params"]["response"]["payloadData"])
    return received


def measure(browser: Browser, server: servers.Server, pages: list[str], seconds: float) -> None:
    """Print a line for each page."""
    for page in pages:
        browser.visit(server.base, page)
        browser.driver.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})
        browser.driver.execute_cdp_cmd("Network.enable", {})
        gevent.sleep(SETTLE_S)
        did = cost(browser, seconds)
        size = received_bytes(browser, again=True) - received_bytes(browser, again=False)
        print(f"{page:12} {did}  reconnect {size / 1000:6.1f} kB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=50)
    parser.add_argument("--models", type=int, default=200)
    parser.add_argument("--pages", default=PAGES)
    options = parser.parse_args()
    pages = options.pages.split(",")
    with tempfile.TemporaryDirectory() as name:
        server = servers.serving(Path(name), config(options.models))
        browser = Browser(network_log=True)
        try:
            server.start()
            print(f"{options.models} models, idle")
            measure(browser, server, pages, options.seconds)
            asking = gevent.spawn(ask_for_ever, server, options.rate)
            gevent.sleep(SETTLE_S)
            print(f"{options.models} models, {options.rate:.0f} requests/s")
            measure(browser, server, pages, options.seconds)
            asking.kill()
        finally:
            browser.close()
            server.stop()


if __name__ == "__main__":
    main()
