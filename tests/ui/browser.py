"""A person at the interface: finds things by what they are called, waits until they are there."""

import gzip
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gevent
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

PATIENCE_S = 40
LOOK_AGAIN_S = 0.02
HOVER_AGAIN_S = 3
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
    const [css, texts, name] = arguments;
    const plain = (text) => text.replace(/\\s+/g, " ");
    const visible = (each) => {
      if (!each.checkVisibility({ visibilityProperty: true, opacityProperty: true })) return false;
      const { width, height } = each.getBoundingClientRect();
      return width > 0 && height > 0;
    };
    const says = (each) => [texts].flat().every(
      (one) => plain(each.innerText).includes(plain(one)));
    const called = (each) => !each.disabled
      && (each.innerText.trim() === name || each.getAttribute("aria-label") === name);
    const found = [...document.querySelectorAll(css)].filter((each) => visible(each)
      && (!texts.length || says(each)) && (!name || called(each)));
"""
FOUND = f"{VISIBLE} return found;"
# Within the page, so that nothing moves, covers or replaces it between the look and the click.
CLICK = f"""{VISIBLE}
    const each = name ? found.at(-1) : found[0];
    if (!each) return false;
    const hit = ["nearest", "center"].map((block) => {{
      each.scrollIntoView({{ block, inline: "nearest" }});
      const [{{ left, top, width, height }}] = each.getClientRects();
      return document.elementFromPoint(left + width / 2, top + height / 2);
    }}).find((one) => each.contains(one));
    if (!hit) return false;  // something is in front of it
    const send = (Kind, type) => hit.dispatchEvent(new Kind(type,
      {{ bubbles: true, cancelable: true, composed: true, view: window, pointerType: "mouse" }}));
    send(PointerEvent, "pointerdown");
    if (send(MouseEvent, "mousedown")) {{
      const focus = hit.closest("a[href], button, input, select, textarea, summary, [tabindex]");
      if (focus) focus.focus({{ preventScroll: true }});
      else document.activeElement?.blur();
    }}
    send(PointerEvent, "pointerup");
    send(MouseEvent, "mouseup");
    send(MouseEvent, "click");
    return true;
"""
MIDDLE = """
    const each = document.querySelector(arguments[0]);
    each.scrollIntoView({ block: "nearest" });
    const { left, top, width, height } = each.getBoundingClientRect();
    return [left + width / 2, top + height / 2];
"""


class Patient:
    """Who waits for facts of a page."""

    refusals: type[Exception] = WebDriverException

    def run(self, script: str, *arguments: Any) -> Any:
        """Run JavaScript in the page and return what it returns."""
        raise NotImplementedError

    def wait(
        self, fact: Callable[[], Any], what: str = "it", patience_s: float = PATIENCE_S
    ) -> Any:
        """Wait until *fact* is true and return it; what is refused counts as not yet."""
        pause_s, deadline = LOOK_AGAIN_S, time.monotonic() + patience_s
        refusal = None
        while time.monotonic() < deadline:
            try:
                if found := fact():
                    return found
                refusal = None
            except self.refusals as error:
                refusal = error
            gevent.sleep(pause_s)
            pause_s = min(1.2 * pause_s, 5 * LOOK_AGAIN_S)  # what looks cost is missed elsewhere
        text = self.run("return document.body.innerText")
        raise AssertionError(f"waited for {what}; the page says:\n{text[:1500]}") from refusal


class Browser(Patient):
    """One headless Chromium with one page."""

    def __init__(self) -> None:
        self._profile = tempfile.mkdtemp(prefix="llmsnap-chromium-")
        options = webdriver.ChromeOptions()
        options.binary_location = chromium() or ""
        for flag in [*FLAGS.split(), f"--user-data-dir={self._profile}"]:
            options.add_argument(flag)
        options.add_argument("--host-resolver-rules=MAP *.example 127.0.0.1")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.page_load_strategy = "eager"  # what a test needs of a page, it waits for
        driver = shutil.which("chromedriver")
        self.driver = webdriver.Chrome(options=options, service=Service(driver))
        self.driver.set_script_timeout(PATIENCE_S)
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
        self._opened += 1  # another address, or only the part behind # would change
        # Cleared by the page itself, first of all: what the last page kept as it went may be late.
        with self.each_page("localStorage.clear()"):
            self.driver.get(f"{base}/ui/?{self._opened}#/{page}")
            self.find(ready)

    @contextmanager
    def each_page(self, script: str) -> Iterator[None]:
        """Have each page that is loaded run *script* first of all."""
        made = self.driver.execute_cdp_cmd(
            "Page.addScriptToEvaluateOnNewDocument", {"source": script}
        )
        try:
            yield
        finally:
            self.driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", made)

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

    def module(self, path: str, body: str, *given: Any) -> Any:
        """What *body* returns of the exports, *its*, of a module, and of *given*."""
        script = f"""
            const [path, given, done] = arguments;
            const own = document.querySelector("script[type=module]").src;
            import(own.replace("app.js", path)).then(async (its) => {{ {body} }}).then(
              done, (error) => done(error.message));
        """
        return self.driver.execute_async_script(script, path, given)

    def all(self, css: str, *texts: str, name: str = "") -> list[WebElement]:
        """Everything visible that matches, contains *texts*, and is enabled and called *name*."""
        found: list[WebElement] = self.run(FOUND, css, texts, name)
        return found

    def find(self, css: str, *texts: str) -> WebElement:
        """Wait for something visible that matches and contains *texts*, spaced in any way."""
        found = self.wait(lambda: self.all(css, *texts), f"{css} with {texts}")
        return found[0]  # type: ignore[no-any-return]

    def gone(self, css: str, *texts: str) -> None:
        """Wait until nothing visible matches."""
        self.wait(lambda: not self.all(css, *texts), f"{css} to go")

    def count(self, css: str, wanted: int) -> None:
        """Wait until so many visible elements match."""
        self.wait(lambda: len(self.all(css)) == wanted, f"{wanted} of {css}")

    def becomes(self, script: str, wanted: Any, *arguments: Any) -> None:
        """Wait until *script* returns *wanted*."""
        self.wait(lambda: self.run(script, *arguments) == wanted, f"{script} to be {wanted!r}")

    def read(self, css: str, *texts: str, of: str = "innerText") -> str:
        """Wait for something visible, and return its text, or another attribute *of* it."""
        script = f"""{VISIBLE} const of = arguments[3];
            return found.map((one) => one[of] ?? one.dataset[of] ?? one.getAttribute(of));"""
        found = self.wait(lambda: self.run(script, css, texts, "", of), f"{css} with {texts}")
        return str(found[0])

    def texts(self, css: str) -> list[str]:
        """The texts of everything visible that matches, as they are now."""
        found: list[str] = self.run(
            f"{VISIBLE} return found.map((one) => one.innerText);", css, [], ""
        )
        return found

    def click(self, css: str, *texts: str) -> None:
        """Wait for something visible that nothing covers, and click on it."""
        self.wait(lambda: self.run(CLICK, css, texts, ""), f"{css} with {texts} to be clicked on")

    def button(self, name: str, within: str = "") -> WebElement:
        """Wait for an enabled button with exactly this text or label."""
        found = self.wait(lambda: self.all(f"{within} button", name=name), f"button {name!r}")
        return found[-1]  # type: ignore[no-any-return]

    def press(self, name: str, within: str = "") -> None:
        """Press a button."""
        self.wait(lambda: self.run(CLICK, f"{within} button", [], name), f"button {name!r}")

    def hover(self, css: str, *tip: str) -> None:
        """Move the pointer to something, until there is a tooltip that contains *tip*."""
        moved_at = 0.0

        def look() -> bool:
            nonlocal moved_at
            on_it = self.run("return document.querySelector(arguments[0]).matches(':hover')", css)
            if not on_it or time.monotonic() - moved_at > HOVER_AGAIN_S:
                self._point(0, 0)
                self._point(*self.run(MIDDLE, css))
                moved_at = time.monotonic()
            return bool(self.all("[role=tooltip]", *tip)) if tip else bool(on_it)

        self.wait(look, f"the tip of {css} with {tip}")

    def _point(self, x: float, y: float) -> None:
        where = {"type": "mouseMoved", "x": x, "y": y}
        self.driver.execute_cdp_cmd("Input.dispatchMouseEvent", where)

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

    def fill(self, css: str, text: str) -> None:
        """Type *text* in place of what the field holds."""

        def type_in() -> bool:
            field = self.find(css)
            if not field.is_enabled():
                return False
            field.send_keys(Keys.CONTROL, "a")
            field.send_keys(Keys.NULL, text)
            return True

        self.wait(type_in, f"{css} to take text")

    def enter(self, label: str, text: str) -> None:
        """Type *text* into the field that has a label with these words."""
        self.click(".field label", label)
        self.becomes("return document.activeElement.matches('input, textarea')", True)
        self.keys(text)

    def say(self, text: str) -> None:
        """Send *text* to the model of the chat."""
        self.fill(".composer-text", text)
        self.press("Send")

    def attach(self, css: str, file: Path) -> None:
        """Choose *file* in the file field within *css*, which may be hidden."""
        field = f"{css} input[type=file]"
        pick = lambda: self.driver.find_element("css selector", field).send_keys(str(file)) is None  # noqa: E731
        self.wait(pick, field)

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

    def complains(self, of: str) -> None:
        """Wait until the console complains of this, and accept what else it says."""
        self.wait(lambda: any(of in line for line in self.console()), f"a complaint of {of}")

    def leave(self) -> None:
        """Leave the page, which asks no more, and forget what the console said."""
        self.driver.get("about:blank")
        self.console()

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
        found: list[str] = json.loads(self.driver.execute_async_script(script, rules))
        return found

    def fits(self, *sizes: tuple[int, int]) -> None:
        """Wait until the page is no wider than the window, and than windows of these *sizes*."""
        wide = "return document.documentElement.scrollWidth > innerWidth + 1"
        self.becomes(wide, False)
        for size in sizes:
            self.size(*size)
            self.becomes(wide, False)
