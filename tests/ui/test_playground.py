"""The playground against simulated models."""

from __future__ import annotations

import base64
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e

ANSWER = ".message.assistant .prose"


@pytest.fixture(autouse=True)
def fresh(browser: Any, server: Any) -> None:
    browser.visit(server.base)


def say(browser: Any, text: str) -> None:
    browser.fill(".composer-text", text)
    browser.press("Send")


@pytest.mark.parametrize("endpoint", ["Chat completions", "Responses", "Anthropic messages"])
def test_an_answer_comes_over_every_api(browser: Any, endpoint: str) -> None:
    browser.choose("Model", "alpha")
    browser.press("Settings")
    browser.choose("Endpoint", endpoint)
    say(browser, "good morning")
    browser.find(ANSWER, "good morning")
    browser.find(".answer-stats", "tokens")


def test_settings_reach_the_model(browser: Any, server: Any) -> None:
    browser.choose("Model", "alpha")
    browser.press("Settings")
    browser.fill("#system-prompt", "be brief")
    say(browser, "hi")
    browser.find(".answer-stats")
    browser.wait(lambda: not server.get("/api/inflight")["requests"], "the request to end")
    newest = server.get("/api/activity?limit=1")["records"][0]
    capture = server.get(f"/api/captures/{newest['id']}")
    body = base64.b64decode(capture["req_body"]).decode()
    assert '"role":"system","content":"be brief"' in body
    assert '"temperature":0.7' in body


def test_a_running_answer_goes_on_behind_other_pages_and_can_be_stopped(browser: Any) -> None:
    browser.choose("Model", "talker")
    say(browser, "tell me a long story")
    browser.find(".message.assistant", "You said")
    browser.go("logs")
    before = browser.run("return document.querySelector('.message.assistant').textContent.length")
    longer = "return document.querySelector('.message.assistant').textContent.length > arguments[0]"
    browser.wait(lambda: browser.run(longer, before), "the answer to grow")
    browser.go("playground")
    browser.press("Stop")
    browser.find(".message.assistant", "Stopped.")


def test_an_answer_nobody_waits_for_ends_with_the_page(browser: Any, server: Any) -> None:
    browser.choose("Model", "talker")
    say(browser, "tell me a long story")
    browser.find(".message.assistant", "You said")
    assert server.get("/api/inflight")["requests"]
    browser.driver.get("about:blank")
    browser.wait(lambda: not server.get("/api/inflight")["requests"], "the request to end")


def test_what_was_said_survives_a_reload(browser: Any) -> None:
    browser.choose("Model", "alpha")
    say(browser, "remember this")
    browser.find(".answer-stats")
    browser.reload()
    browser.find(ANSWER, "remember this")
    browser.press("New chat")
    browser.find(".empty", "Talk to a model")


LONG = (
    """
Some prose with $x_1^2$ in it.

```python
def f(x):
    return [x for x in range(10)]
```

| name | value |
| --- | --- |
| one | $\\frac{1}{2}$ |

$$\\sum_{i=0}^{n} i^2 = \\frac{n(n+1)(2n+1)}{6}$$
"""
    * 12
)
FROM_END = """
    const view = document.querySelector(".conversation");
    return Math.round(view.scrollHeight - view.clientHeight - view.scrollTop);
"""


def test_the_conversation_follows_its_end_until_the_user_scrolls_up(
    browser: Any, fake: Any
) -> None:
    fake.post("/fake/answer", {"text": LONG})
    browser.visit(fake.base)
    browser.choose("Model", "qwen3-30b-a3b")
    formatted = "return document.querySelectorAll('.prose .katex').length"

    def answered(times: int) -> None:
        say(browser, "hello")
        browser.wait(lambda: browser.run(formatted) == 36 * times, "formulas")
        browser.wait(lambda: browser.run(FROM_END) <= 1, "the end")

    answered(1)
    assert browser.run("return document.querySelector('.conversation').scrollTop") > 500
    browser.run("document.querySelector('.conversation').scrollTop -= 300")
    browser.press("Latest")
    browser.wait(lambda: browser.run(FROM_END) <= 1, "the end")
    browser.gone(".conversation-frame .to-end")
    browser.run("document.querySelector('.conversation').scrollTop = 0")
    browser.button("Latest")
    answered(2)  # sending leads to the end
    browser.reload()
    browser.wait(lambda: browser.run(formatted) == 72, "formulas")
    browser.wait(lambda: browser.run(FROM_END) <= 1, "the end")


def test_edit_and_answer_again(browser: Any) -> None:
    browser.choose("Model", "alpha")
    say(browser, "first words")
    browser.find(ANSWER, "first words")
    browser.press("Regenerate")
    browser.find(".answer-stats")
    browser.press("Edit and send again")
    browser.fill(".message-editor textarea", "other words")
    browser.press("Send again")
    browser.find(ANSWER, "other words")
    assert len(browser.all(".message.user")) == 1


def test_two_models_side_by_side(browser: Any) -> None:
    browser.press("Compare two models")
    browser.choose("Model", "alpha")
    browser.choose("Second model", "sleeper")
    say(browser, "who are you")
    browser.wait(lambda: len(browser.all(".answer-stats")) == 2, "two answers")
    browser.wait(lambda: len(browser.all(ANSWER)) == 2, "their texts")
    left, right = browser.all(ANSWER)
    assert "I am alpha" in left.text
    assert "I am sleeper" in right.text


def test_a_failure_is_shown_in_place_of_the_answer(browser: Any, server: Any) -> None:
    browser.choose("Model", "slow")
    say(browser, "hello")
    browser.find(".message.assistant", "Waiting for the model")
    server.post("/api/models/unload/slow")
    browser.find(".message.assistant .problem", "503")
    assert any("503" in line for line in browser.console())


def test_a_picture(browser: Any) -> None:
    browser.press("Images")
    browser.choose("Model", "alpha")
    browser.choose("Size", "512x512")
    browser.press("Write in a larger field")
    browser.fill("dialog textarea", "a lighthouse")
    browser.press("Done", "dialog")
    assert browser.find("#image-prompt").get_attribute("value") == "a lighthouse"
    browser.press("Generate")
    browser.find(".picture img")


def test_speech(browser: Any) -> None:
    browser.press("Speech")
    browser.choose("Model", "alpha")
    browser.press("Ask the model for its voices")
    browser.fill("#speech-text", "hello there")
    browser.press("Speak")
    browser.find(".player audio")


def test_a_transcript(browser: Any, tmp_path: Path) -> None:
    recording = tmp_path / "hello.wav"
    data = b"\0\0" * 1600
    head = struct.pack("<4sI4s4sIHHIIHH4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, 1, 1,
                       16000, 32000, 2, 16, b"data", len(data))  # fmt: skip
    recording.write_bytes(head + data)
    browser.press("Transcription")
    browser.choose("Model", "alpha")
    picker = "[data-tab=transcription] input[type=file]"
    browser.driver.find_element("css selector", picker).send_keys(str(recording))
    browser.find(".drop", "hello.wav")
    browser.press("Transcribe")
    browser.find(".result h2", "Transcript")


def test_a_file_of_another_kind_is_refused(browser: Any, tmp_path: Path) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("x")
    browser.press("Transcription")
    picker = "[data-tab=transcription] input[type=file]"
    browser.driver.find_element("css selector", picker).send_keys(str(other))
    browser.find(".problem", "neither .mp3 nor .wav")


def test_ranking(browser: Any) -> None:
    browser.press("Rerank")
    browser.choose("Model", "alpha")
    browser.fill("[data-tab=rerank] input", "the sea")
    browser.fill("#rerank-documents", "a mountain\nthe sea is blue\na tree")
    browser.press("Rank")
    browser.wait(lambda: len(browser.all(".ranking li")) == 3, "three places")


def test_without_models_every_tab_says_what_to_do(browser: Any, fake: Any) -> None:
    browser.visit(fake.base)
    try:
        fake.post("/fake/models/none")
        for tab in ("Chat", "Images", "Speech", "Transcription", "Rerank", "Load test"):
            browser.press(tab)
            browser.find("[role=tabpanel] .empty", "Add a model to the configuration file")
    finally:
        fake.post("/fake/models/all")


def test_a_load_test(browser: Any) -> None:
    browser.press("Load test")
    browser.choose("Model", "alpha")
    browser.press("Send 20 requests")
    browser.find(".result", "20 of 20")
    browser.find(".result .histogram")


def test_an_attached_picture_is_sent_and_shown(browser: Any, server: Any, tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        crc = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

    dot = tmp_path / "dot.png"
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0"))
    dot.write_bytes(b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b""))
    browser.choose("Model", "alpha")
    browser.driver.find_element("css selector", ".composer input[type=file]").send_keys(str(dot))
    browser.find(".composer .thumb img")
    say(browser, "what is this")
    browser.find(".answer-stats")
    newest = server.get("/api/activity?limit=1")["records"][0]
    capture = server.get(f"/api/captures/{newest['id']}")
    assert "data:image/png;base64," in base64.b64decode(capture["req_body"]).decode()
