"""Facts about llmsnap.web.broadcast: one for all readers, and none without readers."""

import json
from typing import Any

import gevent
import pytest

from llmsnap.telemetry import ModelPreloaded, ProcessStateChanged
from llmsnap.web import broadcast as module
from llmsnap.web.broadcast import Batch
from llmsnap.web.events import Form
from tests.fakes.calls import grant
from tests.fakes.clock import Clock
from tests.web.watched import World, envelopes


class Reader:
    def __init__(self, world: World) -> None:
        self.batches: list[Batch] = []
        self.woken = 0
        self.takes_envelopes = False
        world.broadcast.join(self)

    def offer(self, batch: Batch) -> None:
        self.batches.append(batch)

    def wake(self) -> None:
        self.woken += 1


def test_all_readers_get_the_same_frames(world) -> None:
    readers = [Reader(world) for _ in range(50)]
    world.service.logs.proxy.write(b"a line\n")
    world.publish(ProcessStateChanged("alpha", "stopped", "starting"))
    assert len({id(reader.batches[-1]) for reader in readers}) == 1
    assert len(readers[0].batches) == 1


def test_many_writes_become_one_piece_and_a_character_cut_in_two_arrives_whole(world) -> None:
    reader = Reader(world)
    log, llama = world.service.logs.proxy, "🦙".encode()
    for number in range(1000):
        log.write(b"%d\n" % number)
    log.write(llama[:2])
    world.publish()
    log.write(llama[2:] + b"\n")
    world.publish()
    texts = [json.loads(json.loads(b.logs[0].envelope().data)["data"]) for b in reader.batches]
    whole = "".join(f"{number}\n" for number in range(1000))
    assert [text["data"] for text in texts] == [whole, "🦙\n"]


def test_readers_are_woken_a_few_at_a_time(world, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = [Reader(world) for _ in range(12)]
    woken: list[int] = []
    monkeypatch.setattr(
        gevent, "sleep", lambda _: woken.append(sum(reader.woken for reader in readers))
    )
    world.broadcast._wake_readers()
    assert woken == [5, 10]
    assert [reader.woken for reader in readers] == [1] * 12


def test_no_byte_of_a_log_is_lost_or_doubled_for_one_who_comes_in_between(world) -> None:
    early = world.feed(Form.MESSAGE)
    seen = envelopes(early.wait(0), "logData")[0]["data"]
    late = ""
    for number in range(20):
        world.service.logs.proxy.write(f"ä{number}\n".encode()[: 100 if number % 3 else 1])
        if number == 9:
            feed = world.feed(Form.MESSAGE)
            late = envelopes(feed.wait(0), "logData")[0]["data"]
    world.publish()
    seen += "".join(piece["data"] for piece in envelopes(early.wait(0), "logData"))
    late += "".join(piece["data"] for piece in envelopes(feed.wait(0), "logData"))
    assert late == seen


def test_a_log_that_comes_too_fast_is_told_in_parts_and_doubled_for_nobody(world) -> None:
    early = world.feed(Form.MESSAGE)
    early.wait(0)
    text = "".join(f"{number}\n" for number in range(15_000))
    world.service.logs.proxy.write(text.encode())
    world.publish()
    late = world.feed(Form.MESSAGE)
    begin = envelopes(late.wait(0), "logData")[0]["data"]
    assert len(begin) == 2 * module.ROUND_BYTES, "the round before, and the one it came in"
    seen = envelopes(early.wait(0), "logData")
    assert [len(piece["data"]) for piece in seen] == [module.ROUND_BYTES] * 2
    while len(begin) < len(text):
        world.publish()
        begin += "".join(piece["data"] for piece in envelopes(late.wait(0), "logData"))
    assert begin == text


def test_without_readers_nobody_listens(world) -> None:
    before = repr(world.service.bus)
    reader, feed = Reader(world), world.feed()
    assert world.service.feeds == {feed}
    for _ in range(2):
        world.broadcast.leave(reader)
        feed.close()
    assert not world.service.feeds
    assert repr(world.service.bus) == before
    for log in (world.service.logs.upstream, world.service.logs.proxy):
        assert "0 readers" in repr(log)
    world.service.bus.publish(ModelPreloaded("alpha", success=True))
    gevent.idle()
    assert len(world.broadcast._tasks) == 0
    world.broadcast.leave(Reader(world))
    reader = Reader(world)  # right after the last has left
    gevent.idle()
    world.service.bus.publish(ModelPreloaded("alpha", success=True))
    gevent.sleep(0)
    gevent.sleep(0)
    assert len(reader.batches) == 1


def test_a_record_is_encoded_once_and_only_so_many_are_kept(world) -> None:
    record = world.record()
    envelope, frame = world.broadcast.record(record, "r-1-0")
    assert world.broadcast.record(record, "r-1-0") == (envelope, frame)
    same_envelope, other = world.broadcast.record(record, "r-1-7")  # of a reader elsewhere
    assert (frame.id, other.id, other.data) == ("r-1-0", "r-1-7", frame.data)
    assert same_envelope is envelope
    for _ in range(module.RECORDS_KEPT):
        world.broadcast.record(world.record(), "r-1-0")
    assert len(world.broadcast._records) == module.RECORDS_KEPT
    Reader(world)
    first = world.broadcast.history()[-1]
    assert world.broadcast.history()[-1] is first, "fifty tabs that come back share one list"
    world.record()
    assert world.broadcast.history()[-1] is not first


def test_requests_in_flight_are_told_when_they_change_and_not_too_often(world) -> None:
    clock = world.broadcast._clock = Clock(100.0)
    reader = Reader(world)

    def shown(wait_s: float) -> list[Any]:
        """What the reader is given *wait_s* later, and before."""
        clock.now += wait_s
        world.publish()
        return [json.loads(batch.in_flight.data) for batch in reader.batches]

    assert shown(0) == []
    clock.now += 1
    assert world.broadcast._patience() is None
    observer = world.begin(stream=True, key_name="wiki")
    (began,) = shown(0)
    (request,) = began["requests"]
    assert (request["id"], request["phase"], request["key_name"], began["total"]) == (
        observer.serial, "waiting", "wiki", 1,
    )  # fmt: skip
    grant(observer.context, 0.0, 0.0)
    assert len(shown(0)) == 1, "too early"
    every_s = world.broadcast._patience()
    assert every_s == module.IN_FLIGHT_EVERY_S
    assert shown(every_s)[1]["requests"][0]["phase"] == "sent"
    assert len(shown(every_s)) == 2, "nothing changed"
    observer.finish()
    assert shown(every_s)[2] == {"models": [], "total": 0, "requests": []}
