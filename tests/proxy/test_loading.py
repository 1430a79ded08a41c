"""What the client of a stream gets while its model loads."""

import gzip
import json
import random
import re
from typing import Any

import gevent
import pytest

from llmsnap.errors import Aborted, ChildExited, ClientGone, ServerEnded, UpstreamBroke
from llmsnap.http.sse import SseParser
from llmsnap.http.unstreamed import events_of
from llmsnap.proxy import loading
from llmsnap.proxy.loading import LOADING_MESSAGES, CommentFrames, LoadingStateFrames, WaitState
from llmsnap.proxy.stream import error_event
from tests.fakes.calls import FakeQueue
from tests.proxy.fakes import FakeContext, FakeExchange

CHAT = "/v1/chat/completions"


class Shown:
    """Frames that say when they were asked for."""

    every_s = 0.01

    def first(self) -> bytes:
        return b"first "

    def tick(self, now: WaitState) -> bytes:
        return b"place %d " % now.position

    def end(self, waited_s: float, error) -> bytes:
        return b"failed " if error else b"done "


class World:
    """A stream whose model is granted by the test; with *path* it has comments, and real errors."""

    def __init__(self, *pieces: bytes, path: str = "", encoding: str = "", **facts: Any) -> None:
        self.queue, self.context = FakeQueue(grants=False), FakeContext(path or CHAT)
        self.ticket = self.queue.request("a")
        self.exchange = FakeExchange(*pieces, **facts)
        if encoding:
            self.exchange.headers.append(("Content-Encoding", encoding))
        self.error: Exception | None = None
        self.silences: list[Exception | None] = []
        asks = self.queue.position, self.queue.lacks_memory, lambda _: ""
        waiting = loading.ModelWait(self.ticket, *asks, self.another, self.send)
        words = error_event(self.context.request) if path else in_words
        frames = CommentFrames(1) if path else Shown()
        self.stream = loading.LoadingStream(self.context, waiting, frames, self.wait_head, words)

    def send(self, lease) -> bool:
        self.context.exchange = self.exchange
        if self.error is not None:
            raise self.error
        return not self.silences

    def another(self, error):
        if not isinstance(error, ServerEnded):
            raise error
        return self.queue.request("a")

    def wait_head(self) -> bool:
        error = self.silences.pop(0)
        if error is not None:
            raise error
        return not self.silences

    def granted(self) -> bytes:
        """What comes once the model is granted."""
        self.queue.grant()
        return self.rest()

    def rest(self) -> bytes:
        """What comes until the end, or until the connection is broken."""
        said = b""
        try:
            for piece in self.stream:
                said += piece
        except Aborted:
            said += b"ABORTED"
        return said

    def ended(self) -> tuple[int, str]:
        """The status, and the error with which the request ended."""
        self.stream.close()
        (end,) = self.context.ends
        assert end is None or end.status == self.context.status
        return self.context.status, str(end or "")


def in_words(error, sent: bytes) -> bytes:
    return b"<%b>" % str(error).encode()


def test_frames_until_the_model_is_ready_and_then_its_answer() -> None:
    world = World(b"one ", b"two", kind="Text/Event-Stream")
    said = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    head = world.stream.answer()
    assert dict(head.headers) == {"Content-Type": "text/event-stream", **said}
    assert head.status == 200
    assert [next(world.stream) for _ in range(3)] == [b"first ", b"place 1 ", b"place 1 "]
    assert world.granted() == b"done one two"
    assert world.ended() == (0, "")


def test_a_load_that_fails_is_delivered_and_ends_the_stream() -> None:
    world = World()
    next(world.stream)
    world.queue.refuse(ChildExited("exit code 3"))
    assert world.rest() == b"failed <exit code 3>"
    assert world.ended() == (502, "exit code 3")


CONTEXT = {
    "code": 400,
    "message": "the request exceeds the available context size",
    "type": "exceed_context_size_error",
    "n_prompt_tokens": 9000,
    "n_ctx": 4096,
}
ROUTES = {CHAT: "", "/v1/completions": "", "/infill": "", "/v1/messages": "error"}
ROUTES["/v1/responses"] = "error"


def spoken(world: World) -> list[tuple[str, Any]]:
    """The names and documents of the events told to the client of *world* that is granted."""
    frames = SseParser().feed(world.granted())
    return [(frame.event, json.loads(frame.data)) for frame in frames if frame.data != "[DONE]"]


@pytest.mark.parametrize(("status", "ended"), [(200, 502), (400, 400)])
def test_the_error_object_of_the_upstream_goes_on_as_it_is(status: int, ended: int, caplog) -> None:
    for path, name in ROUTES.items():
        world = World(json.dumps({"error": CONTEXT}).encode(), path=path, status=status, kind="x")
        ((event, document),) = spoken(world)
        assert event == name
        assert document["error"] == CONTEXT
        match path:
            case "/v1/messages":
                assert document == {"type": "error", "error": CONTEXT}
            case "/v1/responses":
                assert (document["type"], document["sequence_number"]) == ("error", 0)
                assert (document["code"], document["message"]) == ("400", CONTEXT["message"])
            case _:
                assert document == {"error": CONTEXT}
        found, why = world.ended()
        assert found == ended, path
        assert "context" not in caplog.text + why


OTHER_ANSWERS = [
    (503, b'{"error": "Loading"}', ": Loading"),
    (422, b'{"detail": ["secret"]}', ': {"detail": ["secret"]}'),
    (500, b"<html>secret", ": <html>secret"),
    (502, b"", ""),
    (302, b"secret", ": secret"),
    (200, b'["secret"]', ' without events: ["secret"]'),
    (204, b"", " without events"),
    (500, b"[" * 100_000, ": " + "[" * loading.MAX_ERROR_CHARS),
]


def test_any_other_refusal_is_delivered_to_the_client_alone(caplog) -> None:
    for status, body, said in OTHER_ANSWERS:
        caplog.clear()
        world = World(body, path=CHAT, status=status, kind="x")
        answered = f"the model answered {status}"
        ((_, document),) = spoken(world)
        assert document["error"]["message"] == answered + said
        ended, why = world.ended()
        assert ended == (status if status >= 400 else 502)
        for text in (caplog.text, why):
            assert answered in text
            assert "secret" not in text
            assert "[[" not in text


def test_an_answer_in_one_piece_becomes_events() -> None:
    for path in ROUTES:
        answer = {"choices": [{"text": "whole"}], "content": "whole", "output": []}
        answer |= {"content": []} if path == "/v1/messages" else {}
        body = json.dumps(answer).encode()
        world = World(body[:9], body[9:], path=path, kind="application/json")
        expected = b": waiting for the model\n" + b"".join(events_of(answer, path))
        assert world.granted() == expected, path
        assert world.ended() == (0, "")
        assert world.context.observer.seen == body


VLLM = {"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}


def test_older_servers_are_understood() -> None:
    ((_, document),) = spoken(World(json.dumps(VLLM).encode(), path=CHAT, status=400, kind="x"))
    assert document == {"error": VLLM}, "vLLM's error was the document"
    events = World(b"data: 1\n\n", path=CHAT, kind="x").granted()
    assert events.endswith(b"\ndata: 1\n\n"), "events of another content type are events"


@pytest.mark.parametrize("body", [b'{"choices":[{"text":"whole"}]}', b"data: 1\n\ndata: 2\n\n"])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_what_is_encoded_nevertheless_is_decoded(body: bytes, kind: str) -> None:
    zipped = gzip.compress(body)
    world = World(zipped[:15], zipped[15:], path="/v1/completions", kind=kind, encoding="gzip")
    plain = body if kind != "application/json" or body[:1] == b"d" else b"data: " + body + b"\n\n"
    assert world.granted().startswith(b": waiting for the model\n" + plain)


def test_what_cannot_be_decoded_is_an_error() -> None:
    world = World(b"not gzip at all", encoding="gzip")
    assert b"<the model's answer cannot be decoded: " in world.granted()


def test_a_whole_answer_has_a_limit(monkeypatch) -> None:
    monkeypatch.setattr(loading, "MAX_WHOLE_BYTES", 1 << 20)
    ((_, document),) = spoken(World(b" " * (1 << 20) + b"{}", path=CHAT, kind="x"))
    assert "more than 1 MiB in one piece" in document["error"]["message"]


def test_a_model_that_cannot_be_reached_after_all() -> None:
    world = World()
    world.error = UpstreamBroke("broke")
    assert world.granted() == b"first done <broke>"


def test_while_the_model_is_silent_there_are_comments() -> None:
    world = World(b"data: 1\n\n")
    world.silences = [None, None, None]
    said = re.sub(rb"\d+ s", b"N s", world.granted())
    waits = b": waiting for the model\n: waiting for N s\n: waiting for N s\n"
    assert said == b"first done " + waits + b"data: 1\n\n"


def test_a_model_that_dies_in_its_silence_is_waited_for_again() -> None:
    world = World(b"data: 1\n\n")
    world.silences = [None, ServerEnded("gone"), None]
    world.queue.grant()
    world.queue.grants = True
    said = world.rest()
    assert said.count(b"first ") == said.count(b"done ") == 2
    assert said.endswith(b"data: 1\n\n")
    assert len(world.queue.tickets) == 2


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("granted", [False, True])
def test_a_client_that_leaves_while_it_waits_gives_up_its_place(begun, granted) -> None:
    world = World()
    if begun:
        next(world.stream)
    if granted:
        world.queue.grant()
    assert world.ended() == (499, "the client left")
    assert world.queue.cancelled == ([] if granted else [world.ticket])
    assert len(world.queue.returned) == granted


def test_a_client_that_leaves_at_the_end_of_the_wait_leaves_no_lease() -> None:
    world = World()
    next(world.stream)
    world.queue.grant()
    while next(world.stream) != b"done ":
        pass
    world.stream.close()
    assert world.context.lease is not None, "the context gives it back"


def test_an_interrupted_wait_says_nothing_to_nobody() -> None:
    world = World()
    next(world.stream)
    reader = gevent.Greenlet(world.rest)
    reader.start()
    world.queue.refuse(ClientGone("the client left"))
    assert reader.get().endswith(b"ABORTED")
    assert b"<" not in reader.value


def test_comments_are_what_clients_skip() -> None:
    comments = CommentFrames(0.01)
    third = WaitState(20.0, 3)
    for said in (comments.first(), comments.tick(WaitState(10.2)), comments.tick(third)):
        assert said.startswith(b": ")
        assert said.endswith(b"\n")
        assert said.count(b"\n") == 1, "a blank line would be an event to some clients"
    assert b"place 3" in comments.tick(third)
    assert b"memory" in comments.tick(WaitState(20.0, 3, lacks_memory=True))
    assert b"7 % loaded" in comments.tick(WaitState(20.0, 3, loaded="7 % loaded"))
    assert comments.end(1.0, None) == comments.end(1.0, ChildExited("x")) == b""


def test_a_client_that_leaves_at_the_last_frame_has_its_answer() -> None:
    world = World(b"data: [DONE]\n\n", b"not read any more")
    world.queue.grant()
    while next(world.stream) != b"data: [DONE]\n\n":
        pass
    assert world.ended() == (0, "")


@pytest.fixture
def state() -> LoadingStateFrames:
    return LoadingStateFrames("llama", "r-1", random.Random(7))


def deltas(frames: bytes) -> list[dict]:
    assert frames.endswith(b"\n\n")
    chunks = [json.loads(line[6:]) for line in frames.split(b"\n\n") if line]
    for chunk in chunks:
        assert chunk["object"] == "chat.completion.chunk"
        assert (chunk["id"], chunk["model"]) == ("chatcmpl-r-1", "llama")
    return [chunk["choices"][0]["delta"] for chunk in chunks]


def text(frames: bytes) -> str:
    return "".join(delta["reasoning_content"] for delta in deltas(frames))


def test_dots_until_a_message_is_due_and_dots_again(state) -> None:
    shown = [text(state.tick(WaitState(float(second)))) for second in range(1, 40)]
    messages = [one.strip() for one in shown if one != "."]
    assert 4 <= len(messages) <= 8
    assert set(messages) <= set(LOADING_MESSAGES)
    assert len(set(messages)) == len(messages), "none comes twice in a row"
    assert shown[0] == "."


def test_the_place_in_the_queue_is_shown_when_it_changes(state) -> None:
    assert text(state.tick(WaitState(1.0, 3))) == "\nplace 3 in the queue\n"
    assert text(state.tick(WaitState(1.0, 3))) == "."
    assert text(state.tick(WaitState(1.0, 2))) == "\nplace 2 in the queue\n"
    assert text(state.tick(WaitState(1.0, 1))) == ".", "the first has no position to show"


def test_a_wait_for_memory_is_said_once(state) -> None:
    said = "\nwaiting until there is memory for the model\n"
    lacks = [True, True, False, True]
    shown = [text(state.tick(WaitState(1.0, lacks_memory=each))) for each in lacks]
    assert shown == [said, ".", ".", said]


def test_how_much_is_loaded_takes_the_place_of_messages_where_it_is_known(state) -> None:
    assert text(state.tick(WaitState(6.0))).strip() in LOADING_MESSAGES
    states = [WaitState(20.0 + n, loaded=f"{n // 2} % loaded") for n in range(9)]
    shown = [text(state.tick(each)) for each in states]
    assert "".join(shown) == "\n0 % loaded\n..\n1 % loaded\n..\n3 % loaded\n.."


def test_it_begins_with_a_title_and_ends_with_how_long_it_took_or_what_went_wrong(state) -> None:
    assert deltas(state.first())[0]["role"] == "assistant"
    assert "llmsnap loading model: llama\n" in text(state.first())
    assert "Done! (1.50s)" in text(state.end(1.5, None))
    failed = text(state.end(1.5, ChildExited("exit code 3")))
    assert "Model failed to load: exit code 3" in failed
    assert "Done" not in failed
