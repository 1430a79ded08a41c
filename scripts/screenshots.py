"""Takes screenshots of every page of the UI, light and dark, into docs/images/.

``python scripts/screenshots.py`` needs Debian's chromium and chromium-driver and the dev extra. The
screenshots show the fixed data of ``tests/ui/fake_api.py``, so that they are reproducible.
"""

# ruff: noqa: T201 - a command that talks to a person

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.ui import browser as browsing  # noqa: E402 - the path comes first
from tests.ui import servers  # noqa: E402

Act = Callable[[browsing.Browser], object]
SETTLE_S = 1.2
"""Until fonts, charts and formatted text are in place."""


def _chat(browser: browsing.Browser) -> None:
    browser.choose("Model", "qwen3-30b-a3b")
    browser.fill(".composer-text", "How does a swap keep both models' clients happy?")
    browser.press("Send")
    browser.find(".message.assistant .message-tools")


def _capture(browser: browsing.Browser) -> None:
    browser.press("View capture 260")
    browser.find(".capture .prose")


def _timeline(browser: browsing.Browser) -> None:
    browser.press("1 h")
    browser.find("section[aria-label=Swaps]")


def _memory(browser: browsing.Browser) -> None:
    browser.find(".device-bar")


def _why(browser: browsing.Browser) -> None:
    _timeline(browser)
    browser.find("section[aria-label=Swaps] .why").click()
    browser.find("dialog .sentences")


def _statistics(browser: browsing.Browser) -> None:
    browser.press("Statistics")
    browser.find(".histogram")


SCENES: dict[str, tuple[str, Act | None]] = {
    "home": ("home", _memory),
    "playground": ("playground", _chat),
    "models": ("models", _memory),
    "memory": ("models", _memory),
    "why": ("timeline", _why),
    "activity": ("activity", None),
    "statistics": ("activity", _statistics),
    "capture": ("activity", _capture),
    "timeline": ("timeline", _timeline),
    "logs": ("logs", None),
    "performance": ("performance", None),
    "hardware": ("hardware", None),
    "config": ("config", None),
}
PARTS = {"memory": ".models-devices", "why": "dialog"}
"""Scenes of which one part of the page is shown."""
SIZES = {"": (1440, 900), "-phone": (375, 812)}
PHONE_SCENES = frozenset({"home", "models", "playground", "activity", "timeline"})
ANSWER = """\
When a request needs a model that is not loaded, the scheduler **shuts the gate** of those in its \
way, lets their requests end, and only then swaps:

1. requests in flight finish, none is cut off
2. the old model sleeps or stops
3. the new one loads and serves *everyone* who waited

The wait is bounded by $\\min(S, h) + \\sum_i (2 S_i + d_i)$.

```yaml
groups:
  large:
    swap: true   # one at a time
```
"""


def take(folder: Path, only: set[str]) -> None:
    """Take the named screenshots, all if none is named, into *folder*."""
    folder.mkdir(parents=True, exist_ok=True)
    server = servers.fake(Path(tempfile.mkdtemp(prefix="llmsnap-screenshots-")), "--tame")
    server.start()
    browser = browsing.Browser()
    try:
        server.set(answer=ANSWER)
        for name, (page, act) in SCENES.items():
            for ending, size in SIZES.items():
                if (only and name not in only) or (ending and name not in PHONE_SCENES):
                    continue
                browser.visit(server.base, page)
                browser.size(*size)
                if act is not None:
                    act(browser)
                _take_both(browser, folder / f"{name}{ending}", PARTS.get(name, ""))
    finally:
        browser.close()
        server.stop()


def _take_both(browser: browsing.Browser, path: Path, part: str) -> None:
    """Take what is shown, or the *part* of it that this selects, in both themes."""
    for theme in ("light", "dark"):
        browser.theme(theme)
        time.sleep(SETTLE_S)  # noqa: TID251 - pictures have no event to wait for
        target = path.with_name(f"{path.name}-{theme}.png")
        if part:
            browser.find(part).screenshot(str(target))
        else:
            browser.driver.save_screenshot(str(target))
        print(target.relative_to(ROOT) if target.is_relative_to(ROOT) else target)


def main() -> int:
    """Take the screenshots; return 1 without a browser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--into", type=Path, default=ROOT / "docs" / "images")
    parser.add_argument("scenes", nargs="*", metavar="scene")
    arguments = parser.parse_args()
    why = browsing.missing()
    if why:
        print(why, file=sys.stderr)
        return 1
    take(arguments.into, set(arguments.scenes))
    return 0


if __name__ == "__main__":
    sys.exit(main())
