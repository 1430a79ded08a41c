"""Facts about llmsnap.proxy.loading."""

import gevent
import pytest

from llmsnap.errors import Aborted, ChildExited, ClientGone, UpstreamBroke, UpstreamError
from llmsnap.proxy.loading import Comments, LoadingStream, Waiting
from llmsnap.proxy.stream import ProxyStream
from tests.fakes.calls import FakeQueue, call


class FakeExchange:
    def __init__(self, status: int = 200, kind: str = "text/event-stream", *pieces: bytes) -> None:
        self.status = status
        self.headers = [("Content-Type", kind)]
        self.pieces = list(pieces)

    @property
    def is_complete(self) -> bool:
        return not self.pieces

    def read(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


class FakeJob:
    def __init__(self) -> None:
        self.call = call()
        self.exchange = None
        self.tap = None
        self.ends: list = []

    def reason(self, error):
        return error

    def close(self, error) -> None:
        self.ends.append(error)


class Shown:
    """Frames that say when they were asked for."""

    every_s = 0.01

    def first(self) -> bytes:
        return b"first "

    def tick(self, waited_s: float, position: int | None) -> bytes:
        return b"place %d " % position

    def end(self, waited_s: float, error) -> bytes:
        return b"failed " if error else b"done "


class World:
    def __init__(self, exchange: FakeExchange | None = None, frames=None) -> None:
        self.queue, self.job = FakeQueue(grants=False), FakeJob()
        self.ticket = self.queue.request("a")
        self.exchange = exchange or FakeExchange()
        self.error = None

        def words(error, sent: bytes) -> bytes:
            return b"<%b>" % str(error).encode()

        waiting = Waiting(self.ticket, self.queue.position, lambda: self.queue.request("a"))
        self.stream = LoadingStream(self.job, waiting, frames or Shown(), self.forward, words)

    def forward(self, lease):
        self.job.exchange = self.exchange
        if self.error is not None:
            raise self.error
        return ProxyStream(self.job, self.exchange)

    def rest(self) -> bytes:
        """What comes until the end, or until the connection is broken."""
        said = b""
        try:
            for piece in self.stream:
                said += piece
        except Aborted:
            said += b"ABORTED"
        return said


def test_the_head_goes_out_at_once() -> None:
    answer = World().stream.answer()
    assert answer.status == 200
    assert dict(answer.headers) == {
        "Content-Type": "text/event-stream",
        "Cache-Control": "no-cache",
        "X-Accel-Buffering": "no",
    }


def test_frames_until_the_model_is_ready_and_then_its_answer() -> None:
    world = World(FakeExchange(200, "Text/Event-Stream", b"one ", b"two"))
    assert [next(world.stream) for _ in range(3)] == [b"first ", b"place 1 ", b"place 1 "]
    world.queue.grant()
    assert world.rest() == b"done one two"
    world.stream.close()
    assert world.job.ends == [None]


def test_a_load_that_fails_is_told_and_ends_the_stream() -> None:
    world = World()
    next(world.stream)
    world.queue.refuse(ChildExited("exit code 3"))
    assert world.rest() == b"failed <exit code 3>"
    world.stream.close()
    assert [str(error) for error in world.job.ends] == ["exit code 3"]
    assert world.job.call.status == 502


@pytest.mark.parametrize("status", [400, 503])
def test_what_the_model_refuses_is_told_with_its_status(status: int) -> None:
    world = World(FakeExchange(status, "application/json", b'{"error":', b'"no"}'))
    world.queue.grant()
    said = world.rest()
    assert said.endswith(b'done <the model answered %d: {"error":"no"}>' % status)
    world.stream.close()
    assert (world.job.call.status, world.job.ends[0].status) == (status, status)


def test_an_answer_that_is_no_stream_is_told_as_an_error() -> None:
    world = World(FakeExchange(200, "application/json", b'{"text":"whole"}'))
    world.queue.grant()
    assert b"without a stream" in world.rest()
    world.stream.close()
    assert isinstance(world.job.ends[0], UpstreamError)
    assert world.job.call.status == 502


def test_a_model_that_cannot_be_reached_after_all() -> None:
    world = World()
    world.error = UpstreamBroke("broke")
    world.queue.grant()
    assert world.rest() == b"first done <broke>"


def test_a_client_that_leaves_while_it_waits_gives_up_its_place() -> None:
    world = World()
    next(world.stream)
    world.stream.close()
    assert world.queue.cancelled == [world.ticket]
    assert isinstance(world.job.ends[0], ClientGone)
    assert world.job.call.status == 499


def test_a_client_that_leaves_before_the_first_frame_gives_up_its_place() -> None:
    world = World()
    world.stream.close()
    assert world.queue.cancelled == [world.ticket]


def test_a_lease_granted_to_nobody_is_given_back() -> None:
    world = World()
    next(world.stream)
    world.queue.grant()
    world.stream.close()
    assert len(world.queue.returned) == 1


def test_an_interrupted_wait_says_nothing_to_nobody() -> None:
    world = World()
    next(world.stream)
    reader = gevent.Greenlet(world.rest)
    reader.start()
    world.queue.refuse(ClientGone("the client left"))
    assert reader.get().endswith(b"ABORTED")
    assert b"<" not in reader.value


def test_comments_are_what_clients_skip() -> None:
    comments = Comments(0.01)
    for said in (comments.first(), comments.tick(10.2, None), comments.tick(20.0, 3)):
        assert said.startswith(b": ")
        assert said.endswith(b"\n\n")
        assert said.count(b"\n") == 2
    assert b"place 3" in comments.tick(20.0, 3)
    assert comments.end(1.0, None) == comments.end(1.0, ChildExited("x")) == b""


def test_a_client_that_leaves_at_the_last_frame_has_its_answer() -> None:
    world = World(FakeExchange(200, "text/event-stream", b"data: [DONE]\n\n", b"not read any more"))
    world.queue.grant()
    while next(world.stream) != b"data: [DONE]\n\n":
        pass
    world.stream.close()
    assert world.job.ends == [None]
    assert world.job.call.status != 499
