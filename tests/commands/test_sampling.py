from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from gevent import pywsgi
from gevent.pool import Pool

from llmsnap.commands.client import Client
from llmsnap.commands.sampling import Sample, Spread, chat, spread, take
from llmsnap.errors import NoServer, NoSuchModel
from tests.commands.conftest import Running

CHAT = chat("m", "hi", 5)


def frame(**members: object) -> bytes:
    return b"data: " + json.dumps(members).encode() + b"\n\n"


def piece(**delta: object) -> bytes:
    return frame(choices=[{"delta": delta}])


DONE = b"data: [DONE]\n\n"
USAGE = frame(choices=[], usage={"completion_tokens": 7})


@pytest.fixture
def says() -> Iterator[dict]:
    """A server that answers every chat with these pieces."""
    told: dict = {"pieces": [], "headers": [], "status": "200 OK"}

    def application(environ, start_response):
        told["asked"] = json.loads(environ["wsgi.input"].read())
        start_response(told["status"], told["headers"])
        return iter(told["pieces"])

    server = pywsgi.WSGIServer(("127.0.0.1", 0), application, log=None, spawn=Pool())
    server.start()
    told["client"] = Client(f"http://127.0.0.1:{server.server_port}")
    yield told
    server.stop(1)


class Clock:
    """Goes on by a second with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_a_good_answer_is_timed_and_counted(says: dict) -> None:
    says["pieces"] = [piece(role="assistant"), piece(content="a"), piece(content="b"), USAGE, DONE]
    says["headers"] = [("X-Queue-Ms", "250"), ("X-Load-Ms", "1000")]
    sample = take(says["client"], CHAT, Clock())
    assert sample == Sample(1.0, 2.0, 7, True, 1.25, "")
    assert sample.tokens_per_s == 6.0
    assert says["asked"]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("delta", [{"reasoning_content": "hm"}, {"tool_calls": [{"index": 0}]}])
def test_thoughts_and_calls_of_tools_are_tokens_too(says: dict, delta: dict) -> None:
    says["pieces"] = [piece(**delta), DONE]
    sample = take(says["client"], CHAT)
    assert sample.first_token_s is not None
    assert (sample.tokens, sample.is_counted, sample.error) == (1, False, "")


def test_frames_that_are_no_part_of_a_chat_are_passed_over(says: dict) -> None:
    says["pieces"] = [b": loading\n\n", b"data: 5\n\n", b"data: {\n\n", piece(content="a"), DONE]
    assert take(says["client"], CHAT).error == ""


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([piece(content="a")], "the answer ended before it was complete"),
        ([piece(content="a"), frame(error={"message": "out of memory"})], "out of memory"),
    ],
)
def test_an_answer_that_is_not_whole_is_a_failure(says: dict, pieces: list, error: str) -> None:
    says["pieces"] = pieces
    assert take(says["client"], CHAT).error == error


def test_a_refusal_is_a_sample(says: dict) -> None:
    says["status"] = "429 Too Many Requests"
    says["pieces"] = [b'{"error": {"message": "too many"}}']
    sample = take(says["client"], CHAT, Clock())
    assert (sample.error, sample.total_s, sample.tokens_per_s) == ("too many", 1.0, None)


def test_what_no_other_request_would_escape_is_raised(server: Running) -> None:
    with pytest.raises(NoSuchModel, match="did you mean llama"):
        take(Client(server.url), chat("lama", "hi", 5))
    with pytest.raises(NoServer):
        take(Client("http://127.0.0.1:1"), CHAT)


def test_the_spread_tells_what_is_usual_and_what_is_worst() -> None:
    times = [float(n) for n in range(11)]
    assert spread([*times, None]) == Spread(5.0, 9.0, 10.0)
    assert spread(times, high_is_good=True) == Spread(5.0, 1.0, 0.0)
    assert spread([None]) is None
