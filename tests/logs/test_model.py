from random import Random

import pytest
from gevent.event import Event

from llmsnap.logs.model import ModelLog, RepeatFolder, call_later
from llmsnap.logs.stream import LogStream
from tests.drawn import cases
from tests.fakes.clock import Clock

MORE = b"[llmsnap: last line repeated %d more times]\n"


SHOWN = [
    ([b"one\ntwo\n"], [b"one\ntwo\n"]),
    ([b"a\na\na\nb\n"], [b"a\na\na\nb\n"]),
    ([b"a\n" * 10 + b"b\n"], [b"a\n" * 3 + MORE % 7 + b"b\n"]),
    ([b"a\n" * 2, b"a\n" * 5, b"b\n"], [b"a\na\n", b"a\n", MORE % 4 + b"b\n"]),
    ([b"\n" * 5 + b"x"], [b"\n" * 3 + MORE % 2 + b"x"]),
    ([b"load", b"ing", b"...\ndone\n"], [b"load", b"ing", b"...\ndone\n"]),
    # A read that ends within a repeat does not end the run.
    ([b"ab\n" * 5 + b"a", b"b\n", b"c\n"], [b"ab\n" * 3, b"", MORE % 3 + b"c\n"]),
    ([b"ab\n" * 5 + b"a", b"x\n"], [b"ab\n" * 3, MORE % 2 + b"ax\n"]),
]


def test_what_is_shown():
    folders = [(RepeatFolder(), chunks) for chunks, _ in SHOWN]
    found = [[folder.feed(chunk) for chunk in chunks] for folder, chunks in folders]
    assert found == [shown for _, shown in SHOWN]


def test_flushing_tells_the_count_so_far_and_begins_anew():
    folder = RepeatFolder()
    folder.feed(b"ab\n" * 5 + b"a")
    assert folder.pending
    assert folder.flush() == MORE % 2 + b"a"
    assert folder.open
    assert not folder.pending
    assert folder.take_count() == 2
    assert folder.feed(b"b\n") == b"b\n"


def test_a_read_of_very_many_lines_passes_as_it_is():
    folder = RepeatFolder()
    assert folder.feed(b"\n" * 60_000) == b"\n" * 60_000


@cases(100)
def test_without_long_repeats_nothing_changes(chance: Random) -> None:
    letters = "ab\n" if chance.random() < 0.5 else "a\n"
    chunks = ["".join(chance.choices(letters, k=chance.randrange(13))) for _ in range(12)]
    chunks = [chunk.encode() for chunk in chunks]
    text = b"".join(chunks)
    folder = RepeatFolder()
    shown = b"".join(map(folder.feed, chunks)) + folder.flush()
    if b"repeated" not in shown:
        assert shown == text
    else:
        kept = [line for line in shown.split(b"\n") if not line.startswith(b"[llmsnap")]
        assert len(kept) < len(text.split(b"\n"))


class Timers(Clock):
    """A clock, and the timers that hang on it."""

    def __init__(self):
        super().__init__(1000.0)
        self.timers = []

    def later(self, delay_s, call):
        entry = (self.now + delay_s, call)
        self.timers.append(entry)
        return lambda: entry in self.timers and self.timers.remove(entry)

    def advance(self, seconds):
        self.now += seconds
        for entry in [entry for entry in self.timers if entry[0] <= self.now]:
            if entry in self.timers:
                entry[1]()


@pytest.fixture
def clock():
    return Timers()


@pytest.fixture
def log(clock):
    return ModelLog(LogStream("llama"), limit_bytes=2048, clock=clock, later=clock.later)


def test_ordinary_output_passes_at_once_and_untouched(log, clock):
    assert log.feed(b"load") is False
    log.feed(b"ing\nready\n")
    assert log.stream.snapshot() == b"loading\nready\n"
    assert clock.timers == []


def test_a_repeated_line_is_counted_and_the_count_shown_when_the_second_ends(log, clock):
    log.feed(b"again\n" * 10)
    assert log.stream.snapshot() == b"again\n" * 3
    clock.advance(1.0)
    assert log.stream.snapshot().endswith(b"[llmsnap: last line repeated 7 more times]\n")
    assert log.folded_lines == 7
    assert clock.timers == []


def test_a_line_that_repeats_slowly_is_always_shown(log, clock):
    for _ in range(10):
        log.feed(b"still alive\n")
        clock.advance(1.5)
    assert log.stream.snapshot() == b"still alive\n" * 10


def test_beyond_the_limit_output_is_dropped_and_the_loss_told_once_per_second(log, clock):
    log.feed(b"before")
    assert log.feed(b"x" * 5000) is True
    assert log.flooding
    for _ in range(100):
        assert log.feed(b"y" * 999 + b"\n") is True
    log.feed(b"last words\n")
    assert log.stream.snapshot() == b"before"
    clock.advance(1.0)
    shown = log.stream.snapshot()
    assert shown.startswith(b"before\n[llmsnap: "), "the notice has a line of its own"
    assert b"bytes dropped, beyond 2 KiB/s]\ny" in shown
    assert shown.endswith(b"y\nlast words\n")
    assert not log.flooding
    kept = len(shown.partition(b"KiB/s]\n")[2])
    assert log.dropped_bytes == 5000 + 100_000 + len(b"last words\n") - kept
    assert log.feed(b"quiet again\n") is False


def test_a_flood_holds_bounded_memory(log):
    for size in (1, 10, 3000, 65536, 1):
        for _ in range(500):
            log.feed(b"z" * size)
    assert len(log._last) <= 8192
    assert len(log.stream.snapshot()) < 3000


def test_the_tail_is_the_last_lines_that_say_something_also_of_a_flood(log):
    log.feed(b"first\n\x1b[31mCUDA error\x1b[0m: out of memory\n\n   \n 10%\r 99%\rdone\n")
    assert log.tail(2) == ["CUDA error: out of memory", "done"]
    assert log.tail() == ["first", "CUDA error: out of memory", "done"]
    assert log.tail(0) == []
    log.feed(b"w" * 5000)
    assert len(log.tail(1)[0]) == 500
    log.feed(b"\nfatal: no such file\n")
    assert log.tail(1) == ["fatal: no such file"]


def test_a_new_start_clears_the_history(log, clock):
    log.feed(b"old\n" * 10)
    log.feed(b"x" * 5000)
    log.restart()
    assert log.stream.snapshot() == b""
    log.feed(b"new\n")
    clock.advance(2.0)
    assert log.stream.snapshot() == b"new\n"
    assert log.tail() == ["new"]


def test_closing_shows_what_was_held_back_and_ends_the_readers(log, clock):
    _, reader = log.stream.subscribe()
    log.feed(b"x" * 5000)
    log.feed(b"\nlast words\n")
    log.close()
    assert log.stream.snapshot().endswith(b"last words\n")
    assert reader.closed
    assert clock.timers == []


def test_timers_of_the_event_loop_fire_once_and_can_be_cancelled():
    fired, done = [], Event()
    call_later(0.0, lambda: fired.append("cancelled"))()
    call_later(0.001, lambda: (fired.append("first"), done.set()))
    done.wait()
    assert fired == ["first"]
