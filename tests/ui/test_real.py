"""The interface in front of a real llama-server, where one is installed."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.harness import real_model
from tests.ui import servers

pytestmark = pytest.mark.e2e
LOAD_S = 100
"""A busy machine loads a model in this time, and answers."""


@pytest.fixture
def llama(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    with servers.demo(tmp_path_factory.mktemp("llama"), real_model()) as server:
        yield server
        browser.leave()  # no page asks any more


def answered(browser: Any, css: str, text: str = "", name: str = "") -> None:
    browser.wait(lambda: browser.all(css, text, name=name), f"{css} with {text or name!r}", LOAD_S)


def test_chat_capture_replay_and_comparison_with_a_real_model(
    browser: Any, llama: servers.Server
) -> None:
    browser.visit(llama.base)
    browser.choose("Model", "gemma")
    browser.press("Settings")
    browser.enter("Max tokens", "8")
    browser.say("What is the capital of France?")
    answered(browser, ".answer-stats", " token")  # no speed: it may say "Paris", and no more
    said = browser.read(".message.assistant .prose")
    assert said
    browser.go("activity")
    browser.press("Details of request 1")
    browser.find(".request-details", "answered, streamed")
    browser.press("View capture 1")
    browser.find("[aria-label=Request]", "capital of France")
    browser.find("[aria-label=Answer] .prose", said.split()[0])
    browser.choose("Replay against", "gemma-story")
    browser.press("Send again", "dialog")
    # The other model's text may be empty: it can begin with what the first one's request stops at.
    answered(browser, "section[aria-label='Now, gemma-story']", "tokens/s")
    answered(browser, "dialog button", name="Send again")
    assert llama.states() == {"gemma-story": "ready"}
    browser.press("Close", "dialog")

    browser.go("playground")
    browser.press("New chat")
    browser.press("Compare two models")
    browser.choose("Model", "gemma-story")
    browser.choose("Second model", "gemma")
    browser.say("Name three animals.")
    # One of them may be empty, and so without a speed: it can begin with what ends an answer.
    two = lambda: len(browser.all(".answer-stats")) == 2  # noqa: E731
    browser.wait(two, "two answers", LOAD_S)
