from functools import partial

import pytest

from llmsnap.telemetry.captures import Capture, CapturedBody, Captures
from tests.fakes.calls import keep


class Later:
    """An offload whose work is done when the test says so."""

    def __init__(self):
        self.work = []

    def __call__(self, work, done, wanted):
        self.work.append((work, done, wanted))

    def run(self):
        while self.work:
            work, done, wanted = self.work.pop(0)
            if wanted():
                done(work())


def capture(capture_id: int, size: int = 40) -> Capture:
    return Capture(id=capture_id, req_path="", resp_body=CapturedBody.of(b"x" * size))


def test_the_oldest_goes_when_the_budget_is_full():
    gone = []
    captures = Captures(100, on_evict=gone.append)
    assert [keep(captures, capture(n)) for n in range(3)] == [True, True, True]
    assert captures.get(0) is None
    assert captures.get(1).resp_body.content() == b"x" * 40
    assert (gone, captures.used, len(captures)) == ([0], 80, 2)


def test_one_that_never_fits_is_skipped_and_evicts_nobody(caplog):
    captures = Captures(100)
    keep(captures, capture(0))
    assert keep(captures, capture(1, 200)) is False
    assert "captureBuffer" in caplog.text
    assert captures.get(0) is not None
    assert captures.get(77) is None


@pytest.mark.parametrize("budget", [0, -1])
def test_without_a_budget_nothing_is_kept(budget, caplog):
    captures = Captures(budget)
    assert not captures.enabled
    assert keep(captures, capture(0)) is False
    assert caplog.text == ""


def test_large_bodies_are_compressed_afterwards_and_come_out_whole():
    later = Later()
    captures = Captures(100_000, offload=later)
    keep(captures, capture(0, 50_000))
    assert captures.used == 50_000
    later.run()
    assert captures.used < 1000
    assert captures.get(0).resp_body.content() == b"x" * 50_000
    assert repr(captures) == f"<Captures 1, {captures.used} of 100000 bytes>"


def test_a_capture_evicted_meanwhile_stays_gone():
    later = Later()
    captures = Captures(100_000, offload=later)
    keep(captures, capture(0, 60_000))
    keep(captures, capture(1, 60_000))
    assert [wanted() for _, _, wanted in later.work] == [False, True]
    later.run()
    assert captures.get(0) is None
    assert captures.used == captures.get(1).size()


def test_nobody_sees_a_capture_before_it_is_prepared():
    def blank(one):
        return Capture(id=one.id, req_path="", resp_body=CapturedBody.of(b"blank"))

    later = Later()
    captures = Captures(1000, offload=later)
    keep(captures, capture(0), prepare=blank)
    assert captures.get(0).resp_body.content() == b"blank"
    later.run()
    assert captures.get(0).resp_body.content() == b"blank"
    assert captures.used == 5


def test_a_smaller_budget_applies_at_once():
    captures = Captures(1000)
    for number in range(5):
        keep(captures, capture(number))
    captures.resize(90)
    assert [number for number in range(5) if captures.get(number)] == [3, 4]
    captures.resize(-1)
    assert captures.used == 0


def test_one_that_is_evicted_leaves_nothing_in_the_queue():
    later = Later()
    captures = Captures(100_000, offload=later)
    made = []

    def make(number):
        made.append(number)
        return capture(number, 60_000)

    for number in range(5):
        captures.add(number, 60_000, partial(make, number), largest=60_000)
    later.run()
    assert made == [4]
    assert captures.get(4).resp_body.packed
