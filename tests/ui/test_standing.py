"""How models, selectors and peers stand, which a real server does not show on demand."""

from typing import Any

import pytest

pytestmark = pytest.mark.e2e


def test_a_selector_says_how_its_targets_stand_and_leads_to_its_requests(
    browser: Any, fake: Any
) -> None:
    browser.visit(fake.base, "models")
    card = "[aria-label='Selector coding']"
    for target, words in {
        "qwen3-coder": "skipped for 0:41, 3 failures",
        "qwen3-30b-a3b": "ready",
        "claude-proxy/sonnet": "remote",
    }.items():
        browser.find(f"{card} tbody tr", target, words)
    browser.click(f"{card} .card-head a", "Requests")
    browser.find(".filter-chip", "selector coding")
    shown = (
        "return [...document.querySelectorAll('[data-request] .model-cell')].map((e) => e.title)"
    )
    browser.wait(lambda: set(browser.run(shown)) == {"qwen3-coder"}, "its requests alone")
    browser.choose("Selector", "All selectors")
    browser.gone(".filter-chip")


@pytest.mark.parametrize("where", ["models", "home"])
def test_a_peer_shows_the_outcome_of_its_last_request(browser: Any, fake: Any, where: str) -> None:
    peer = {"models": "[aria-label='Peer office']", "home": "[data-home-peer=office]"}[where]
    browser.visit(fake.base, where)
    browser.find(peer, "answered")
    fake.set(peer_outcome={"status": 502, "reason": "office: no route to host"})
    browser.find(f"{peer} [data-state=failed]")
    browser.find(peer, "no route to host")


def test_a_load_says_how_much_of_the_files_was_read(browser: Any, fake: Any) -> None:
    read = "40% of 60.0 GiB at 1.1 GiB/s"
    browser.visit(fake.base, "models")
    browser.find("[data-model=gpt-oss-120b] .load-progress", read)
    browser.go("home")
    browser.find("[data-home-model=gpt-oss-120b] .load-progress", read)
    browser.run("location.hash = '#/models/gpt-oss-120b'")
    browser.find("[data-detail=gpt-oss-120b] [aria-label=State] .load-progress", read)
    browser.go("playground")
    browser.choose("Model", "gpt-oss-120b")
    browser.say("hello")
    browser.find(".message.assistant .load-line", read)
    fake.post("/api/models/load/gpt-oss-120b")
    browser.find(".message.assistant .prose", "An answer.")


def test_models_that_can_answer_soonest_are_offered_first(browser: Any, fake: Any) -> None:
    browser.visit(fake.base, "home")
    browser.find("[data-device=gpu0] .device-part", "bge-m3")
    fake.post("/api/models/unload/qwen3-30b-a3b")
    browser.gone("[data-home-model=qwen3-30b-a3b]")
    browser.click("[aria-label=Now] .chooser input")
    # Asleep; fits beside the others; in the way of others, or unknown.
    wanted = ["qwen3-coder", "qwen3-30b-a3b", "hostile", "llama-3.3-70b", "whisper-large"]
    names = "[aria-label=Now] .option-text"
    browser.wait(lambda: browser.texts(names) == wanted, f"{wanted}")
