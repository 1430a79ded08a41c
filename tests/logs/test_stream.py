from random import Random

import gevent

from llmsnap.logs.stream import LogReader, LogStream, RingBuffer
from tests.drawn import cases


def test_nothing_is_held_before_the_first_write_nor_after_a_clear():
    ring = RingBuffer(10)
    assert (ring.snapshot(), len(ring._buffer)) == (b"", 0), "no memory is taken yet"
    ring.append(b"hello")
    ring.clear()
    assert (ring.snapshot(), len(ring), ring.start) == (b"", 0, 5)
    ring.append(b"again")
    assert (ring.snapshot(), ring.end) == (b"again", 10)


def test_since_returns_what_is_held_beyond_a_position():
    ring = RingBuffer(5)
    ring.append(b"1234567890")
    held = {0: b"67890", 5: b"67890", 8: b"90", 10: b"", 99: b""}
    assert {position: ring.since(position) for position in held} == held


def test_resizing_keeps_what_fits_and_all_positions():
    for capacity, held in ((3, b"hij"), (6, b"efghij"), (100, b"efghij")):
        ring = RingBuffer(6)
        ring.append(b"abcdefg")
        ring.append(b"hij")
        ring.resize(capacity)
        assert (ring.snapshot(), ring.end) == (held, 10)
        ring.append(b"k")
        assert ring.snapshot() == (held + b"k")[-capacity:]


@cases(100)
def test_it_always_equals_the_end_of_all_that_was_written(chance: Random) -> None:
    capacity, limit = chance.randrange(1, 21), chance.randrange(26)
    ring, everything = RingBuffer(capacity), b""
    for _ in range(chance.randrange(31)):
        data = chance.randbytes(chance.randrange(31))
        ring.append(data)
        everything += data
        held = everything[-capacity:]
        assert ring.snapshot() == held
        assert ring.snapshot(limit) == held[max(0, len(held) - limit) :]
        assert (ring.start, ring.end) == (len(everything) - len(held), len(everything))
    assert repr(ring).startswith("<RingBuffer")


def test_a_reader_waits_until_something_comes():
    reader = LogReader()
    assert reader.get(0.0) is None
    waiting = gevent.spawn(reader.get)
    gevent.idle()
    assert not waiting.ready()
    reader.offer(b"line\n")
    assert waiting.get().data == b"line\n"


def test_a_large_backlog_comes_in_pieces_of_the_size_asked_for():
    reader = LogReader()
    for data in (b"abc", b"defghi", b"j"):
        reader.offer(data)
    pieces = [reader.get(max_bytes=4) for _ in range(3)]
    assert pieces == [(b"abcd", 4, 0), (b"efgh", 8, 0), (b"ij", 10, 0)]
    assert reader.poll() is None
    assert reader._cost == 0


def test_a_slow_reader_loses_the_oldest_and_is_told_how_much():
    reader = LogReader(position=1000, limit_bytes=400)
    for number in range(10):
        reader.offer(b"%d" % number * 100)
    assert reader.dropped_bytes == 800, "before it is told"
    loss = reader.get()
    assert loss == (b"\n[llmsnap: 800 bytes of log dropped, this reader is too slow]\n", 1800, 800)
    assert reader.get() == (b"8" * 100 + b"9" * 100, 2000, 0)
    assert reader.dropped_bytes == 800


def test_a_write_beyond_the_limit_keeps_its_end():
    reader = LogReader(limit_bytes=100)
    reader.offer(b"a" * 60 + b"b" * 100)
    assert reader.get().dropped == 60
    assert reader.get().data == b"b" * 100


def test_empty_lines_count_too():
    reader = LogReader(limit_bytes=10_000)
    for _ in range(20_000):
        reader.offer(b"\n")
    assert len(reader._chunks) < 200


def test_after_close_the_queued_output_is_still_there():
    reader = LogReader()
    reader.offer(b"last words\n")
    reader.close()
    reader.offer(b"too late\n")
    assert reader.get().data == b"last words\n"
    assert reader.get() is None
    assert reader.closed


def test_close_wakes_the_reader_and_tells_the_stream_once():
    closed = []
    reader = LogReader(on_close=closed.append)
    waiting = gevent.spawn(reader.get)
    gevent.idle()
    reader.close()
    reader.close()
    assert waiting.get() is None
    assert closed == [reader]


def test_history_and_subscription_meet_without_gap_or_overlap() -> None:
    stream = LogStream("proxy", 10)
    stream.write(b"0123456789abc")
    history, reader = stream.subscribe()
    stream.write(b"def")
    assert (history, reader.position) == (b"3456789abc", 13)
    assert reader.get() == (b"def", 16, 0)
    assert stream.subscribe(after=12)[0] == b"cdef", "what a returning reader missed"
    history, reader = stream.subscribe(after=stream.position)
    assert (history, reader.position) == (b"", 16)
    stream.resize(4)
    assert stream.snapshot() == b"cdef"
    stream.clear()
    assert (stream.snapshot(), stream.position) == (b"", 16)


def test_every_write_reaches_every_reader_and_sink_however_slow_another_is():
    sunk = []
    stream = LogStream("proxy", sinks=(sunk.append,))
    _, slow = stream.subscribe(limit_bytes=100)
    readers = [stream.subscribe()[1] for _ in range(2)]
    lines = [b"%03d\n" % number for number in range(1000)]
    for line in lines:
        stream.write(line)
        assert [reader.get().data for reader in readers] == [line] * 2
    stream.write(b"")
    assert sunk == lines
    assert slow.get().dropped > 0


def test_a_closed_reader_is_forgotten():
    stream = LogStream("proxy")
    _, reader = stream.subscribe()
    reader.close()
    stream.write(b"line\n")
    assert repr(stream) == "<LogStream proxy, at 5, 0 readers>"
