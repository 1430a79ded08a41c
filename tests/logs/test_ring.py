import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsnap.logs.ring import RingBuffer


def test_it_keeps_the_last_bytes():
    ring = RingBuffer(10)
    for data, held in [
        (b"hello", b"hello"),
        (b"world", b"helloworld"),
        (b"12345", b"world12345"),
        (b"abcdefghijklmnop", b"ghijklmnop"),
        (b"0123456789", b"0123456789"),
    ]:
        ring.append(data)
        assert ring.snapshot() == held


def test_nothing_is_held_before_the_first_write_nor_after_a_clear():
    ring = RingBuffer(10)
    assert ring.snapshot() == b""
    ring.append(b"hello")
    ring.clear()
    assert (ring.snapshot(), len(ring), ring.start) == (b"", 0, 5)
    ring.append(b"again")
    assert (ring.snapshot(), ring.end) == (b"again", 10)


def test_a_snapshot_is_a_copy():
    ring = RingBuffer(4)
    ring.append(b"abcd")
    held = ring.snapshot()
    ring.append(b"ef")
    assert held == b"abcd"


def test_memory_is_taken_at_the_first_write_only():
    ring = RingBuffer(1000)
    assert len(ring._buffer) == 0
    ring.append(b"x")
    assert len(ring._buffer) == 1000


@pytest.mark.parametrize(
    ("position", "held"), [(0, b"67890"), (5, b"67890"), (8, b"90"), (10, b""), (99, b"")]
)
def test_since_returns_what_is_held_beyond_a_position(position, held):
    ring = RingBuffer(5)
    ring.append(b"1234567890")
    assert ring.since(position) == held


@pytest.mark.parametrize(("capacity", "held"), [(3, b"hij"), (6, b"efghij"), (100, b"efghij")])
def test_resizing_keeps_what_fits_and_all_positions(capacity, held):
    ring = RingBuffer(6)
    ring.append(b"abcdefg")
    ring.append(b"hij")
    ring.resize(capacity)
    assert (ring.snapshot(), ring.end) == (held, 10)
    ring.append(b"k")
    assert ring.snapshot() == (held + b"k")[-capacity:]


@given(st.integers(1, 20), st.lists(st.binary(max_size=30), max_size=30), st.integers(0, 25))
def test_it_always_equals_the_end_of_all_that_was_written(capacity, writes, limit):
    ring, everything = RingBuffer(capacity), b""
    for data in writes:
        ring.append(data)
        everything += data
        held = everything[-capacity:]
        assert ring.snapshot() == held
        assert ring.snapshot(limit) == held[max(0, len(held) - limit) :]
        assert (ring.start, ring.end) == (len(everything) - len(held), len(everything))
    assert repr(ring).startswith("<RingBuffer")
