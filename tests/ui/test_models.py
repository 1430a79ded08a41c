"""The Models page against the real command: every control does what it says to the server."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e


@pytest.fixture(autouse=True)
def fresh(browser: Any, server: Any) -> None:
    server.post("/api/models/unload")
    browser.visit(server.base, "models")
    browser.find("[data-model=alpha]")


def shows(browser: Any, model: str, state: str) -> None:
    browser.find(f"[data-model={model}] [data-state={state}]")


def test_a_swap_is_seen_live_and_explained(browser: Any, server: Any) -> None:
    server.ask("alpha")
    shows(browser, "alpha", "ready")
    server.ask("beta")
    shows(browser, "beta", "ready")
    shows(browser, "alpha", "stopped")
    browser.click("[data-model=beta] a.name")
    browser.find("[aria-label=State]", "beta was loaded for a request, evicting alpha")


def test_load_sleep_wake_and_unload(browser: Any, server: Any) -> None:
    browser.press("Load sleeper")
    browser.press("Sleep sleeper")
    shows(browser, "sleeper", "asleep")
    assert server.states() == {"sleeper": "asleep"}
    browser.press("Wake sleeper")
    shows(browser, "sleeper", "ready")
    browser.press("Unload sleeper")
    shows(browser, "sleeper", "stopped")
    assert server.states() == {}
    browser.press("Log of sleeper")
    browser.find(".log-line", "sleeper")


def test_a_load_can_be_cancelled(browser: Any, server: Any) -> None:
    browser.press("Load slow")
    shows(browser, "slow", "starting")
    browser.press("Cancel slow")
    shows(browser, "slow", "stopped")
    assert server.states() == {}


def test_a_failed_load_stays_visible_until_one_succeeds(
    browser: Any, server: Any, folder: Path
) -> None:
    browser.press("Load broken")
    browser.find(".toast.bad", "Loading failed: broken: ended with exit code 3")
    shows(browser, "broken", "failed")
    card = browser.read("[data-model=broken] .failure", "Out of memory", "cudaMalloc failed")
    assert "ago" in card or "now" in card
    browser.find("nav .count", "1 failed")
    assert browser.axe() == []
    browser.reload()
    shows(browser, "broken", "failed")
    browser.press("View log", "[data-model=broken]")
    browser.find(".log-line", "cudaMalloc failed")
    browser.find(".level-error .log-text", "out of memory")
    browser.go("timeline")
    browser.find(".lane-name [data-state=failed]")
    browser.go("models")
    (folder / "mended").touch()
    try:
        browser.press("Retry broken")
        shows(browser, "broken", "ready")
        browser.gone(".failure")
        browser.gone("nav .count.bad")
    finally:
        (folder / "mended").unlink()


def test_unload_all_asks_first(browser: Any, server: Any) -> None:
    server.ask("alpha")
    server.ask("beta")
    browser.press("Unload all")
    browser.find("dialog h2", "Unload all models?")
    browser.press("Cancel", "dialog")
    assert server.states() != {}
    browser.press("Unload all")
    browser.press("Unload all", "dialog")
    browser.wait(lambda: server.states() == {}, "no model to be loaded")
    browser.find(".toast", "All models are unloaded")


def test_the_list_has_groups_with_their_rules_is_searched_and_hides_what_is_unlisted(
    browser: Any,
) -> None:
    browser.find("section[aria-label='Group always-there']", "embed", "stays")
    browser.press("Hide unlisted models")
    browser.gone("[data-model=embed]")
    browser.reload()
    browser.find("[data-model=alpha] .name", "alpha")
    browser.gone("[data-model=embed]")
    browser.press("Show unlisted models")
    browser.find("[data-model=embed]")
    browser.press("Name")
    browser.find("[data-model=alpha] .name", "Alpha")
    browser.fill(".search input", "sleep")
    browser.gone("[data-model=alpha]")
    browser.find("[data-model=sleeper]")
    browser.fill(".search input", "zzz")
    browser.find(".empty", "No model matches")


def test_the_page_of_a_model_says_all_of_it(browser: Any, server: Any) -> None:
    browser.click("[data-model=alpha] a.name")
    detail = "[data-detail=alpha]"
    browser.find(f"{detail} h1", "alpha")
    assert browser.all(f"{detail} a[target=_blank]") == [], "a request would load the model"
    browser.press("Load alpha", detail)
    browser.find(f"{detail} [data-state=ready]")
    assert browser.read(f"{detail} a[target=_blank]", of="href") == f"{server.base}/upstream/alpha/"
    browser.find(f"{detail} [aria-label=State]", "alpha was loaded manually")
    server.ask("alpha", "for its page")
    browser.find(f"{detail} [aria-label=Requests] tr[data-request]")
    browser.find(f"{detail} .log-line", "alpha")
    browser.find(f"{detail} [aria-label=Settings]", "llmsnap.simulator")
    browser.choose("Program", "OpenAI SDK")
    browser.find(f"{detail} .code-block", 'model="alpha"')
    assert browser.axe() == []
    browser.press("Unload alpha", detail)
    browser.find(f"{detail} [data-state=stopped]")
    browser.click("a[aria-label='All models']")
    browser.find("[data-model=alpha]")
    browser.run("location.hash = '#/models/none-such'")
    browser.find(".empty", "No model of this name")


def test_what_cannot_be_done_is_said(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "models/bge-reranker")
    browser.find("[aria-label=Settings]", "2 prompts, 3,172 tokens, 24.4 MiB")
    browser.visit(fake.base, "models")
    browser.press("Unload bge-reranker")
    browser.find(".toast.bad", "cmdStop ran into its time limit")
    browser.complains(of="502")
