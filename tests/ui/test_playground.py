"""The playground against simulated models."""

import base64
import wave
from pathlib import Path
from typing import Any

import gevent
import pytest

from tests.ui.servers import until

pytestmark = pytest.mark.e2e

ANSWER = ".message.assistant .prose"
DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg=="
)
"""A picture of one pixel."""


@pytest.fixture(autouse=True)
def fresh(request: pytest.FixtureRequest, browser: Any) -> None:
    kind = "fake" if "fake" in request.fixturenames else "server"
    browser.visit(request.getfixturevalue(kind).base)


def last_body(fake: Any) -> Any:
    return fake.get("/fake/bodies")[-1]


def test_an_answer_comes_over_every_api(browser: Any) -> None:
    browser.choose("Model", "alpha")
    browser.press("Settings")
    for endpoint in ("Chat completions", "Responses", "Anthropic messages"):
        browser.choose("Endpoint", endpoint)
        browser.say(f"good morning, {endpoint}")
        browser.find(ANSWER, endpoint)
        browser.find(".answer-stats", "tokens")
        browser.press("New chat")
        browser.find(".empty", "Talk to a model")


def test_a_running_answer_goes_on_behind_other_pages_and_can_be_stopped(browser: Any) -> None:
    browser.choose("Model", "talker")
    browser.say("tell me a long story")
    browser.find(".message.assistant", "You said")
    browser.go("logs")
    before = browser.run("return document.querySelector('.message.assistant').textContent.length")
    longer = "return document.querySelector('.message.assistant').textContent.length > arguments[0]"
    browser.becomes(longer, True, before)
    browser.go("playground")
    browser.press("Stop")
    browser.find(".message.assistant", "Stopped.")


def test_an_answer_nobody_waits_for_ends_with_the_page(browser: Any, server: Any) -> None:
    browser.choose("Model", "talker")
    browser.say("tell me a long story")
    browser.find(".message.assistant", "You said")
    assert server.get("/api/inflight")["requests"]
    browser.driver.get("about:blank")
    browser.wait(lambda: not server.get("/api/inflight")["requests"], "the request to end")


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
    fake.set(answer=LONG)
    browser.choose("Model", "qwen3-30b-a3b")
    formatted = "return document.querySelectorAll('.prose .katex').length"

    def at_end(formulas: int) -> None:
        browser.becomes(formatted, formulas)
        browser.button("Regenerate")
        browser.wait(lambda: browser.run(FROM_END) <= 1, "the end")

    browser.say("hello")
    at_end(36)
    assert browser.run("return document.querySelector('.conversation').scrollTop") > 500
    browser.run("document.querySelector('.conversation').scrollTop -= 300")
    browser.press("Latest")
    at_end(36)
    browser.gone(".conversation-frame .to-end")
    browser.run("document.querySelector('.conversation').scrollTop = 0")
    browser.button("Latest")
    browser.say("hello")  # leads to the end
    at_end(72)
    browser.reload()
    at_end(72)


@pytest.fixture
def chat(browser: Any, fake: Any) -> Any:
    """A chat with a model whose next answer is made of given frames."""
    browser.choose("Model", "qwen3-30b-a3b")

    def answer(*deltas: dict[str, Any], finish: str = "") -> None:
        fake.set(frames=choices(*deltas, finish=finish))
        browser.say("go on")

    return answer


def choices(*deltas: dict[str, Any], finish: str = "") -> list[Any]:
    """The frames of a stream that ends with *finish*, or breaks off."""
    last = [{"choices": [{"delta": {}, "finish_reason": finish}]}] if finish else []
    return [*({"choices": [{"delta": delta}]} for delta in deltas), *last]


def call(index: int, name: str, *pieces: str) -> list[dict[str, Any]]:
    first = {"index": index, "id": f"call_{index}", "function": {"name": name, "arguments": ""}}
    more = [{"index": index, "function": {"arguments": piece}} for piece in pieces]
    return [{"tool_calls": [each]} for each in (first, *more)]


def test_tool_calls_are_shown_and_can_be_answered(browser: Any, fake: Any, chat: Any) -> None:
    calls = call(0, "weather", '{"city": ', '"Oslo"}') + call(1, "time", "{}")
    chat(*calls, finish="tool_calls")
    browser.find(".tool-call", "weather", '"city": "Oslo"')
    browser.fill("[aria-label='Result of weather']", "rain")
    browser.fill("[aria-label='Result of time']", "noon")
    assert browser.axe() == []
    browser.press("Send results")
    browser.count(".message.assistant", 2)
    sent = last_body(fake)["messages"][-3:]
    assert [each["function"]["name"] for each in sent[0]["tool_calls"]] == ["weather", "time"]
    assert sent[1:] == [
        {"role": "tool", "tool_call_id": "call_0", "content": "rain"},
        {"role": "tool", "tool_call_id": "call_1", "content": "noon"},
    ]
    browser.find(".message.tool", "rain")
    browser.reload()
    browser.find(".message.tool", "noon")


def test_calls_without_a_result_are_not_sent(browser: Any, fake: Any, chat: Any) -> None:
    chat({"content": "Let me see."}, *call(0, "weather", "{}"), finish="tool_calls")
    browser.find(".tool-call", "weather")
    chat({"content": "fine"}, finish="stop")
    browser.find(ANSWER, "fine")
    assert "tool_calls" not in last_body(fake)["messages"][1]


def test_only_what_is_set_is_sent_and_roles_alternate_after_an_error(
    browser: Any, fake: Any, chat: Any
) -> None:
    chat({"content": "Hi."}, finish="stop")
    browser.find(".answer-model", "qwen3-30b-a3b")
    usual = {"model", "messages", "stream", "stream_options"}
    assert last_body(fake).keys() == usual
    fake.set(frames=[{"error": {"message": "too hot"}}])
    browser.say("first try")
    browser.find(".message.assistant .problem", "too hot")
    browser.press("Settings")
    browser.fill("#system-prompt", "be brief")
    for name, value in {"Seed": "7", "Min p": "0.05"}.items():
        browser.enter(name, value)
    browser.fill("#stop", "END")
    browser.fill("#schema", '{"type": "object"')
    browser.find(".chat-settings", "This is not JSON")
    browser.fill("#schema", '{"type": "object"}')
    browser.say("second try")
    browser.count(ANSWER, 2)
    body = last_body(fake)
    assert [(each["role"], each["content"]) for each in body["messages"]] == [
        ("system", "be brief"),
        ("user", "go on"),
        ("assistant", "Hi."),
        ("user", "first try\n\nsecond try"),
    ]
    assert (body["seed"], body["min_p"], body["stop"]) == (7, 0.05, ["END"])
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


def test_conversations_are_kept_found_branched_and_brought_back(
    browser: Any, fake: Any, chat: Any
) -> None:
    chat({"content": "About **whales**."}, finish="stop")
    browser.find(f"{ANSWER} strong", "whales")
    browser.press("Edit and send again")
    browser.becomes("return document.activeElement.selectionStart", len("go on"))
    browser.press("Cancel")
    browser.press("New chat")
    browser.say("of other things")
    browser.button("Regenerate")
    browser.reload()
    browser.press("Conversations")
    browser.count(".conversation-list li", 2)
    assert browser.axe() == []
    browser.fill("dialog input", "WHALES")
    browser.count(".conversation-list li", 1)
    browser.click(".conversation-list button", "go on")
    browser.find(ANSWER, "whales")
    browser.press("Branch from here")
    browser.press("Conversations")
    browser.count(".conversation-list li", 3)
    browser.press("Delete of other things")
    browser.count(".conversation-list li", 2)
    browser.press("Close", "dialog")
    browser.press("Undo")
    browser.find(".bubble", "of other things")


def test_thinking_in_tags_is_folded(browser: Any, fake: Any, chat: Any) -> None:
    chat(
        {"content": "<th"},
        {"content": "ink>\nLet me"},
        {"content": " see.</think>\n\nForty-two."},
        finish="stop",
    )
    browser.button("Regenerate")
    assert browser.read(ANSWER) == "Forty-two."
    browser.click(".message.assistant summary", "Reasoning")
    browser.find(".message.assistant details", "Let me see.")
    chat({"content": "ok"}, finish="stop")
    browser.find(ANSWER, "ok")
    assert last_body(fake)["messages"][1]["content"] == "Forty-two."


def test_an_answer_that_was_cut_says_so(browser: Any, fake: Any, chat: Any) -> None:
    chat({"content": "It was a dark and"}, finish="length")
    browser.find(".incomplete", "Stopped at max tokens")
    browser.press("Continue")
    browser.find(".message.user", "Continue")
    chat({"content": "stormy"})
    browser.find(".incomplete", "The connection closed")
    browser.click(".incomplete a", "View its log")
    browser.find("[data-page=models] .log-line", "qwen3-30b-a3b")


def event(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, **more}


ARGUMENTS = '{"a":1}'
CALL = {"type": "function", "id": "call_0", "function": {"name": "f", "arguments": ARGUMENTS}}
ITEM = event("function_call", call_id="call_0", name="f")
USE = event("tool_use", id="call_0", name="f")
CUT = {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
PIECE = event("input_json_delta", partial_json=ARGUMENTS)
RESULT = event("tool_result", tool_use_id="call_0", content="one")
DIALECTS: dict[str, tuple[list[Any], list[Any]]] = {
    "chat": (
        choices({"content": "Hi"}, *call(0, "f", '{"a":', "1}"), finish="length"),
        [
            {"role": "assistant", "content": "Hi", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "call_0", "content": "one"},
        ],
    ),
    "responses": (
        [
            event("response.output_text.delta", delta="Hi"),
            event("response.output_item.added", output_index=0, item={**ITEM, "arguments": ""}),
            event("response.function_call_arguments.delta", output_index=0, delta=ARGUMENTS),
            event("response.incomplete", response=CUT),
        ],
        [
            {"role": "assistant", "content": [event("output_text", text="Hi")]},
            {**ITEM, "arguments": ARGUMENTS},
            event("function_call_output", call_id="call_0", output="one"),
        ],
    ),
    "messages": (
        [
            event("content_block_delta", index=1, delta=event("text_delta", text="Hi")),
            event("content_block_start", index=0, content_block={**USE, "input": {}}),
            event("content_block_delta", index=0, delta=PIECE),
            event("message_delta", delta={"stop_reason": "max_tokens"}),
        ],
        [
            {
                "role": "assistant",
                "content": [event("text", text="Hi"), {**USE, "input": {"a": 1}}],
            },
            {"role": "user", "content": [RESULT]},
        ],
    ),
}


@pytest.mark.parametrize("dialect", list(DIALECTS))
def test_each_api_streams_tool_calls_and_takes_their_results(browser: Any, dialect: str) -> None:
    script = """
        const dialect = its.DIALECTS[given[0]];
        const frames = given[1].map((each) => ({ data: JSON.stringify(each) }));
        const whole = its.assemble(dialect, frames);
        const finish = given[1].map((each) => dialect.delta(each).finish).at(-1);
        const answer = { role: "assistant", text: whole.text, toolCalls: whole.toolCalls };
        const result = { role: "tool", text: "one", toolCallId: "call_0" };
        const body = dialect.body({ model: "m", messages: [answer, result] });
        return [finish, body.messages ?? body.input];
    """
    stream, sent = DIALECTS[dialect]
    assert browser.module("chat/dialects.js", script, dialect, stream) == ["length", sent]


def test_edit_and_answer_again(browser: Any) -> None:
    browser.choose("Model", "alpha")
    browser.say("first words")
    browser.find(ANSWER, "first words")
    browser.press("Regenerate")
    browser.find(".answer-stats")
    browser.press("Edit and send again")
    browser.fill(".message-editor textarea", "other words")
    browser.press("Send again")
    browser.find(ANSWER, "other words")
    browser.count(".message.user", 1)


def test_two_models_side_by_side(browser: Any) -> None:
    browser.press("Compare two models")
    browser.choose("Model", "alpha")
    browser.choose("Second model", "sleeper")
    browser.say("who are you")
    browser.count(".answer-stats", 2)
    browser.count(ANSWER, 2)
    left, right = browser.texts(ANSWER)
    assert "I am alpha" in left
    assert "I am sleeper" in right


def test_a_waiting_message_says_what_it_waits_for(browser: Any, server: Any) -> None:
    def ask(model: str) -> None:
        with pytest.raises(OSError, match=r"HTTP Error|refused|reset"):
            server.ask(model)

    server.post("/api/models/unload")
    asking = [gevent.spawn(ask, "talker")]
    until(lambda: server.states().get("talker") == "ready")
    asking.append(gevent.spawn(ask, "slow"))
    until(lambda: len(server.get("/api/inflight")["requests"]) == 2)
    browser.choose("Model", "slow")
    browser.say("hello")
    browser.find(".message.assistant .load-line", "2nd in line · talker is serving 1 request for")
    server.post("/api/models/unload/talker")
    asking[0].get()
    browser.find(".message.assistant .load-line", "loading for")
    browser.click(".load-line a", "View log")
    browser.find("[data-detail=slow] .log-panel")
    server.post("/api/models/unload/slow")
    browser.go("playground")
    browser.find(".message.assistant .problem", "503")
    browser.gone(".load-line")
    asking[1].get()
    browser.complains(of="503")


def test_a_picture(browser: Any) -> None:
    browser.press("Images")
    browser.choose("Model", "alpha")
    browser.choose("Size", "512x512")
    browser.press("Write in a larger field")
    browser.fill("dialog textarea", "a lighthouse")
    browser.press("Done", "dialog")
    browser.becomes("return document.querySelector('#image-prompt').value", "a lighthouse")
    browser.press("Generate")
    browser.find(".picture img")
    browser.find(".result", "Took ")
    assert "tab=images" in browser.run("return location.hash")
    browser.click(".result a", "Requests of alpha")
    browser.find(".filter-chip", "alpha")


def test_speech(browser: Any) -> None:
    browser.press("Speech")
    browser.choose("Model", "alpha")
    browser.press("Ask the model for its voices")
    browser.fill("#speech-text", "hello there")
    browser.press("Speak")
    browser.find(".player audio")


def test_a_file_or_a_recording_is_transcribed(browser: Any, tmp_path: Path) -> None:
    recording = tmp_path / "hello.wav"
    with wave.open(str(recording), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(bytes(3200))
    browser.press("Transcription")
    browser.choose("Model", "alpha")
    picker = "[data-tab=transcription]"
    other = tmp_path / "notes.txt"
    other.write_text("x")
    browser.attach(picker, other)
    browser.find(".problem", "is not an audio file")
    browser.attach(picker, recording)
    browser.find(".drop", "hello.wav")
    browser.press("Transcribe")
    browser.find(".result h2", "Transcript")
    browser.press("Record")
    browser.press("Stop recording")
    browser.find(".drop", "recording.webm")
    browser.press("Transcribe")
    browser.find(".result h2", "Transcript")


def test_without_models_every_tab_says_what_to_do(browser: Any, fake: Any) -> None:
    fake.post("/fake/models/none")
    for tab in ("Chat", "Images", "Speech", "Transcription", "Rerank", "Load test"):
        browser.press(tab)
        browser.find("[role=tabpanel] .empty", "Add a model to the configuration file")


def test_ranking_and_a_load_test(browser: Any) -> None:
    browser.press("Rerank")
    browser.choose("Model", "alpha")
    browser.fill("[data-tab=rerank] input:not([role=combobox])", "the sea")
    browser.fill("#rerank-documents", "a mountain\nthe sea is blue\na tree")
    browser.press("Rank")
    browser.count(".ranking li", 3)
    browser.press("Load test")
    browser.choose("Model", "alpha")
    browser.press("Send 20 requests")
    browser.find(".result", "20 of 20")
    browser.find(".result .histogram")


def test_an_attached_picture_is_sent_and_shown(browser: Any, server: Any, tmp_path: Path) -> None:
    dot = tmp_path / "dot.png"
    dot.write_bytes(base64.b64decode(DOT))
    browser.choose("Model", "alpha")
    browser.attach(".composer", dot)
    browser.find(".composer .thumb img")
    browser.say("what is this")
    until(lambda: "data:image/png;base64," in server.sent())
