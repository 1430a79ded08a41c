"""A person at the interface: finds things by what they are called, waits until they are there."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

PATIENCE_S = 20
LOOK_AGAIN_S = 0.02
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync --hide-scrollbars "
    "--lang=en --force-color-profile=srgb "
    "--use-fake-device-for-media-stream --use-fake-ui-for-media-stream"
)
AXE = Path(__file__).parent / "vendor" / "axe.js.gz"


def missing() -> str:
    """Why there can be no browser here; empty when there can."""
    wanted = {"chromium": chromium(), "chromedriver": shutil.which("chromedriver")}
    lacking = [name for name, found in wanted.items() if not found]
    return f"no {' and no '.join(lacking)} on this machine" if lacking else ""


def chromium() -> str | None:
    """Debian's Chromium, or the browser that CHROMIUM names."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium")


# One question to the browser per look: to ask about each element takes seconds on long pages.
VISIBLE = """
    const [css, text, name] = arguments;
    const visible = (each) => {
      if (!each.checkVisibility({ visibilityProperty: true, opacityProperty: true })) return false;
      const { width, height } = each.getBoundingClientRect();
      return width > 0 && height > 0;
    };
    const called = (each) => !each.disabled
      && (each.innerText.trim() === name || each.getAttribute("aria-label") === name);
    return [...document.querySelectorAll(css)].filter((each) => visible(each)
      && (!text || each.innerText.includes(text)) && (!name || called(each)));
"""


class Browser:
    """One headless Chromium with one page."""

    def __init__(self, *, network_log: bool = False) -> None:
        self._profile = tempfile.mkdtemp(prefix="llmsnap-chromium-")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium() or ""
        for flag in [*FLAGS.split(), f"--user-data-dir={self._profile}"]:
            options.add_argument(flag)
        options.add_argument("--host-resolver-rules=MAP *.example 127.0.0.1")
        logs = {"browser": "ALL", **({"performance": "ALL"} if network_log else {})}
        options.set_capability("goog:loggingPrefs", logs)
        options.page_load_strategy = "eager"  # what a test needs of a page, it waits for
        driver = shutil.which("chromedriver")
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.base = ""
        self._opened = 0

    def close(self) -> None:
        """End it and forget its profile."""
        self.driver.quit()
        shutil.rmtree(self._profile, ignore_errors=True)

    # --- where it looks

    def visit(self, base: str, page: str = "playground") -> None:
        """Come to *page* as if for the first time, and wait until it is live."""
        self.open(base, page)
        self.wait(lambda: self.connected, "a live connection")

    def open(self, base: str, page: str, ready: str = "main .page h1") -> None:
        """Load *page* with nothing remembered, nothing in the console, until *ready* is shown."""
        self.console()
        self.base = base
        self.size(1440, 900)
        self.theme("light")
        # Cleared by the page itself, first of all: what the last page kept as it went may be late.
        forget = self.driver.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": "localStorage.clear()"}
        )
        self._opened += 1  # another address, or only the part behind # would change
        self.driver.get(f"{base}/ui/?{self._opened}#/{page}")
        self.find(ready)
        self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", forget)

    def go(self, page: str) -> None:
        """Follow the link to another page."""
        self.run("location.hash = arguments[0]", f"#/{page}")
        self.find(f"[data-page={page}] h1")

    def reload(self) -> None:
        """Load the page again; what it remembered stays."""
        self.driver.refresh()
        self.find("main .page h1")

    def size(self, width: int, height: int, *, touch: bool = False) -> None:
        """Make the window as wide and high as this; *touch*: of a device with no finer pointer."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})

    def theme(self, name: str) -> None:
        """Prefer light or dark, as a system setting."""
        features = [
            {"name": "prefers-color-scheme", "value": name},
            {"name": "prefers-reduced-motion", "value": "reduce"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    @property
    def connected(self) -> bool:
        """Whether the page says that it is live."""
        return bool(self.run("return document.title.startsWith('🟢')"))

    # --- finding and doing

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return what it returns."""
        return self.driver.execute_script(script, *arguments)

    def wait(
        self, fact: Callable[[], Any], what: str = "it", patience_s: float = PATIENCE_S
    ) -> Any:
        """Wait until *fact* is true and return it; an element that just went counts as not yet."""

        pause_s, deadline = LOOK_AGAIN_S, time.monotonic() + patience_s
        while time.monotonic() < deadline:
            with suppress(StaleElementReferenceException):
                if found := fact():
                    return found
            gevent.sleep(pause_s)
            pause_s = min(1.2 * pause_s, 5 * LOOK_AGAIN_S)  # what looks cost is missed elsewhere
        text = self.run("return document.body.innerText")
        raise AssertionError(f"waited for {what}; the page says:\n{text[:1500]}")

    def all(self, css: str, text: str = "", name: str = "") -> list[WebElement]:
        """Everything visible that matches, contains *text*, and is enabled and called *name*."""
        found: list[WebElement] = self.run(VISIBLE, css, text, name)
        return found

    def find(self, css: str, text: str = "") -> WebElement:
        """Wait for something visible that matches and contains *text*."""
        found = self.wait(lambda: self.all(css, text), f"{css} with {text!r}")
        return found[0]  # type: ignore[no-any-return]

    def gone(self, css: str) -> None:
        """Wait until nothing visible matches."""
        self.wait(lambda: not self.all(css), f"{css} to go")

    def button(self, name: str, within: str = "") -> WebElement:
        """Wait for an enabled button with exactly this text or label."""
        found = self.wait(lambda: self.all(f"{within} button", name=name), f"button {name!r}")
        return found[-1]  # type: ignore[no-any-return]

    def press(self, name: str, within: str = "") -> None:
        """Press a button."""
        self.wait(lambda: self.button(name, within).click() is None, f"pressing {name!r}")

    def choose(self, label: str, text: str) -> None:
        """Choose the option *text* in the select or the search field with this label."""
        script = """
            const label = [...document.querySelectorAll("label")].find((each) =>
              each.textContent === arguments[0] && each.offsetParent);
            const select = label && document.getElementById(label.htmlFor);
            if (select?.getAttribute("role") === "combobox") {
              const typed = (value) => {
                select.value = value;
                select.dispatchEvent(new Event("input", { bubbles: true }));
              };
              const found = [...select.parentElement.querySelectorAll(".option-text")]
                .find((each) => each.textContent === arguments[1]);
              if (!select.disabled && !found) typed(arguments[1]);
              found?.click();
              return Boolean(found);
            }
            const option = select && [...select.options].find((each) => each.text === arguments[1]);
            if (!option) return false;
            select.value = option.value;
            select.dispatchEvent(new Event("change", { bubbles: true }));
            return true;
        """
        self.wait(lambda: self.run(script, label, text), f"option {text!r} of {label!r}")

    def fill(self, css: str, text: str) -> WebElement:
        """Type *text* in place of what the field holds."""
        field = self.find(css)
        self.wait(field.is_enabled, f"{css} to take text")
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(Keys.NULL, text)
        return field

    def keys(self, *keys: str) -> None:
        """Type *keys* wherever the focus is."""
        ActionChains(self.driver).send_keys(*keys).perform()

    def control(self, key: str) -> None:
        """Press *key* with Ctrl."""
        chain = ActionChains(self.driver).key_down(Keys.CONTROL).send_keys(key)
        chain.key_up(Keys.CONTROL).perform()

    # --- judging

    def console(self) -> list[str]:
        """Warnings and errors the console has shown since the last call."""
        entries = self.driver.get_log("browser")
        return [e["message"] for e in entries if e["level"] in {"SEVERE", "WARNING"}]

    def axe(self, *rules: str) -> list[str]:
        """Serious and critical findings of axe-core on the page, by all rules or by these."""
        if not self.run("return Boolean(window.axe)"):
            self.run(gzip.decompress(AXE.read_bytes()).decode())
        script = """
            const [rules, done] = arguments;
            const only = rules.length ? { runOnly: { type: "rule", values: rules } } : {};
            only.preload = false;  // of sheets and sounds, which no serious rule reads
            const bad = (each) => ["serious", "critical"].includes(each.impact);
            const told = (each) => `${each.id}: ${each.nodes.slice(0, 3).map((node) =>
              `${node.html.slice(0, 160)} ${node.failureSummary ?? ""}`).join(" | ")}`;
            axe.run(document, { resultTypes: ["violations"], ...only }).then((found) =>
              done(JSON.stringify(found.violations.filter(bad).map(told))));
        """
        self.driver.set_script_timeout(PATIENCE_S)
        found: list[str] = json.loads(self.driver.execute_async_script(script, rules))
        return found

    def overflows(self) -> bool:
        """Whether the page is wider than the window."""
        return bool(self.run("return document.documentElement.scrollWidth > innerWidth + 1"))
