import io
import json
from collections.abc import Callable, Iterator
from itertools import count

import pytest
from gevent.event import Event

from llmsnap.commands import bench
from llmsnap.commands.bench import Sample, Spread, chat, spread, take
from llmsnap.commands.client import ServerClient
from llmsnap.errors import CommandFailed, NoServer, NoSuchModel
from tests.commands.conftest import Running, serving

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

    with serving(application) as url:
        told["client"] = ServerClient(url)
        yield told


def clock() -> Callable[[], float]:
    """Goes on by a second with each look."""
    return map(float, count(1)).__next__


def test_a_good_answer_is_timed_and_counted(says: dict) -> None:
    says["pieces"] = [piece(role="assistant"), piece(content="a"), piece(content="b"), USAGE, DONE]
    says["headers"] = [("X-Queue-Ms", "250"), ("X-Load-Ms", "1000")]
    sample = take(says["client"], CHAT, clock())
    assert sample == Sample(1.0, 2.0, 7, True, 1.25, "")
    assert sample.tokens_per_s == 6.0
    assert says["asked"]["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize("delta", [{"reasoning_content": "hm"}, {"tool_calls": [{"index": 0}]}])
def test_thoughts_and_calls_of_tools_are_tokens_too(says: dict, delta: dict) -> None:
    says["pieces"] = [piece(**delta), DONE]
    sample = take(says["client"], CHAT, clock())
    assert sample == Sample(1.0, 2.0, 1, False, 0.0, "")


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([piece(content="a")], "the answer ended before it was complete"),
        ([piece(content="a"), frame(error={"message": "out of memory"})], "out of memory"),
        ([b": loading\n\n", b"data: 5\n\n", b"data: {\n\n", piece(content="a"), DONE], ""),
    ],
)
def test_an_answer_that_is_not_whole_is_a_failure(says: dict, pieces: list, error: str) -> None:
    says["pieces"] = pieces
    assert take(says["client"], CHAT).error == error
    says["status"] = "429 Too Many Requests"
    says["pieces"] = [b'{"error": {"message": "too many"}}']
    sample = take(says["client"], CHAT, clock())
    assert (sample.error, sample.total_s, sample.tokens_per_s) == ("too many", 1.0, None)


def test_what_no_other_request_would_escape_is_raised(server: Running) -> None:
    with pytest.raises(NoSuchModel, match="did you mean llama"):
        take(ServerClient(server.url), chat("lama", "hi", 5))
    with pytest.raises(NoServer):
        take(ServerClient("http://127.0.0.1:1"), CHAT)


def test_the_spread_tells_what_is_usual_and_what_is_worst() -> None:
    times = [float(n) for n in range(11)]
    assert spread([*times, None]) == Spread(5.0, 9.0, 10.0)
    assert spread(times, high_is_good=True) == Spread(5.0, 1.0, 0.0)
    assert spread([None]) is None


class Model:
    """A chat server: counts who is served at once, fails those in *failing*.

    Answers wait until *meeting* of them are served at once, but for the first of a run.
    """

    def __init__(self) -> None:
        self.number = self.now = self.most = self.meeting = self.alone = 0
        self.met = Event()
        self.failing: set[int] = set()
        self.headers: list[tuple[str, str]] = []

    def __call__(self, environ, start_response) -> Iterator[bytes]:
        self.number += 1
        number = self.number
        start_response("200 OK", self.headers)
        self.now += 1
        self.most = max(self.most, self.now)
        if self.most >= self.meeting:
            self.met.set()
        if number > self.alone:
            self.met.wait()
        self.now -= 1
        yield piece(content="a")
        if number not in self.failing:
            yield USAGE
            yield DONE


@pytest.fixture
def model() -> Iterator[Model]:
    made = Model()
    with serving(made) as made.url:
        yield made


def run(model: Model, *argv: str, meeting: int = 1) -> tuple[int, str]:
    out = io.StringIO()
    model.meeting, model.alone = meeting, model.number + 1
    model.met.clear()
    return bench.main(["m", *argv], out, {"LLMSNAP_URL": model.url}), out.getvalue()


def test_a_table_says_how_fast_it_is(model: Model) -> None:
    code, text = run(model, "-n", "4")
    assert (code, model.number, model.most) == (0, 5, 1)
    lines = text.splitlines()
    assert lines[0] == "m: 4 of 4 answered, one after the other"
    assert lines[2].split() == ["MEDIAN", "9", "OF", "10", "WORST"]
    rows = [line.partition("  ")[0] for line in lines[3:6]]
    assert rows == ["first token", "speed", "whole answer"]
    assert lines[7].startswith("together: ")
    model.headers = [("X-Load-Ms", "3200")]
    code, text = run(model, "-n", "6", "-c", "3", meeting=3)
    assert (code, model.number, model.most) == (0, 12, 3)
    assert "6 of 6 answered, 3 at once" in text
    assert "before that, 3.2 s until it was loaded" in text
    found = json.loads(run(model, "-n", "2", "--json")[1])
    assert (found["requests"], [one["tokens"] for one in found["samples"]]) == (2, [7, 7])
    assert set(found["spreads"]["first_token_s"]) == {"median", "most", "worst"}
    for argv in (["-n", "0"], ["-c", "x"]):
        with pytest.raises(SystemExit, match=r"^2$"):
            run(model, *argv)


def test_failures_are_counted_and_make_the_exit_code(model: Model) -> None:
    model.failing = {2, 3}
    code, text = run(model, "-n", "3")
    assert (code, "1 of 3 answered" in text) == (1, True)
    assert "2 failed: the answer ended before it was complete" in text
    model.failing, model.number = {1}, 0
    with pytest.raises(CommandFailed, match="before it was complete"):
        run(model)
    assert model.number == 1, "nothing is measured when the first request fails"


def test_a_server_that_goes_away_ends_it_all(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    real, taken = bench.take, []

    def take(*args):
        taken.append(1)
        if len(taken) > 2:
            raise NoServer("no server")
        return real(*args)

    monkeypatch.setattr(bench, "take", take)
    with pytest.raises(NoServer):
        run(model, "-n", "50", "-c", "2")
    assert len(taken) <= 4
