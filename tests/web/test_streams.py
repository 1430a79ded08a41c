"""Streams that do not end by themselves: the event feed, a log that grows."""

import gevent
import pytest

from llmsnap.http.sse import SseFrame, SseParser
from llmsnap.logs.stream import LogStream
from llmsnap.web import events, logs
from llmsnap.web.events import HEARTBEAT, EventFeed, FeedBody, Form
from llmsnap.web.logs import LogBody, LogEvents
from tests.fakes.calls import FakeMonitor
from tests.web.watched import World


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PACE_S", "UNFINISHED_S"):
        monkeypatch.setattr(logs, name, 0.0)
    for module in (events, logs):
        monkeypatch.setattr(module, "HEARTBEAT_S", 0.001)


@pytest.fixture
def monitor() -> FakeMonitor:
    return FakeMonitor()


@pytest.fixture
def log() -> LogStream:
    return LogStream("llama", capacity=100)


def frames(*pieces: bytes) -> list[SseFrame]:
    return SseParser().feed(b"".join(pieces))


def feed_body(world: World, monitor: FakeMonitor, form: Form = Form.NAMED) -> FeedBody:
    return FeedBody(EventFeed(world.service, form), monitor)


def test_a_body_nobody_reads_takes_hold_of_nothing(world, log, monitor) -> None:
    for body in (feed_body(world, monitor), LogBody(world.service, log, monitor)):
        assert not world.service.feeds
        body.close()
    assert monitor.opened == 0
    assert "0 readers" in repr(log)


def test_frames_that_wait_are_one_piece_and_a_quiet_feed_has_a_heartbeat(world, monitor) -> None:
    body = feed_body(world, monitor, Form.MESSAGE)
    assert next(body).count(b"event:message\ndata:{") == 7
    assert next(body) == next(body) == HEARTBEAT == b": heartbeat\n"
    assert frames(HEARTBEAT) == []
    body.close()


@pytest.mark.parametrize("how", ["client", "shutdown"])
@pytest.mark.parametrize("kind", ["feed", "log"])
def test_a_client_that_leaves_and_the_shutdown_end_a_stream(world, log, monitor, kind, how) -> None:
    feed = kind == "feed"
    body = feed_body(world, monitor) if feed else LogBody(world.service, log, monitor)
    log.write(b"1\n")
    next(body)
    monitor.leave() if how == "client" else world.service.end_feeds()
    log.write(b"2\n")
    assert list(body) == []
    body.close()
    body.close()
    assert monitor.closed
    assert not world.service.feeds
    assert "0 readers" in repr(log)


def test_a_log_is_its_history_and_then_what_comes_verbatim(world, log, monitor) -> None:
    log.write(b"old \xff")
    body = LogBody(world.service, log, monitor)
    anew = LogBody(world.service, log, monitor, skip_history=True)
    reading = gevent.spawn(next, anew)
    gevent.idle()
    assert next(body) == b"old \xff"
    log.write(b"new")
    log.write(b"er\n")
    assert next(body) == reading.get() == b"newer\n"
    anew.close()
    log.write(b"last\n")
    log.close()
    assert list(body) == [b"last\n"]
    body.close()


def test_lines_become_data_lines_and_ids_are_positions(world, log, monitor) -> None:
    log.write(b"one\ntwo\n")
    body = LogEvents(world.service, log, monitor)
    piece = next(body)
    assert piece == b"id: 8\ndata: one\ndata: two\n\n"
    log.write(b"three\n")
    assert frames(next(body)) == [SseFrame("three", id="14")]
    body.close()
    for after, text in ((4, "two\nthree"), (9999, "one\ntwo\nthree")):  # that was another run
        back = LogEvents(world.service, log, monitor, after=after)
        assert frames(next(back)) == [SseFrame(text, id="14")]
        back.close()


def test_a_line_that_comes_in_parts_is_one_line(world, monitor) -> None:
    log = LogStream("llama", capacity=100_000)
    body = LogEvents(world.service, log, monitor)
    body._open()
    log.write(b"one\nhalf a ")
    assert frames(next(body)) == [SseFrame("one", id="4")]
    log.write("lä".encode()[:2])
    log.write("lä".encode()[2:] + b"ne\n")
    assert frames(next(body)) == [SseFrame("half a läne", id=str(log.position))]
    log.write(b"loading ...")
    assert frames(next(body)) == [SseFrame("loading ...", id=str(log.position))]
    assert next(body) == HEARTBEAT, "a line without an end is shown after a while"
    log.write(b"\n" + b"x" * 20_000)
    *_, rest = frames(next(body))
    assert rest.data.endswith("x" * 20_000), "a long one is shown in parts"
    body.close()


def test_what_is_not_kept_any_more_is_said(world, log, monitor) -> None:
    log.write(b"x" * 99 + b"\n" + b"y" * 99 + b"\n")
    body = LogEvents(world.service, log, monitor, after=50)
    (frame,) = frames(next(body))
    assert frame.data.startswith("[llmsnap: 50 bytes of log are not kept any more]\nyyy")
    assert frame.id == "200"
    body.close()


def test_a_log_of_events_that_ends_shows_its_last_words_and_ends(world, log, monitor) -> None:
    body = LogEvents(world.service, log, monitor)
    log.write(b"1\n")
    next(body)
    log.write(b"killed")
    log.close()
    assert frames(*body) == [SseFrame("killed", id="8")]
    body.close()
