"""Which files are read ahead, and what ends it."""

from collections.abc import Iterator

import gevent
import pytest
from gevent.event import Event

from llmsnap.config import ModelConfig, ReadAheadConfig
from llmsnap.models import readahead as module
from llmsnap.models.readahead import PART_BYTES, ReadAhead, ReadAheadTarget

GIB = 1024**3
FILES = {"serve -m a": [("a1", 2 * PART_BYTES), ("a2", 1)], "serve -m b": [("b", 1)]}
A = ["a1 0", f"a1 {PART_BYTES}", "a2 0"]


class Machine:
    """What is read, and a machine with memory for it; *before_part* runs before each part."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.counted: list[tuple[str, int]] = []
        self.available = 64 * GIB
        self.mapped = 10 * GIB
        self.pids = [1]
        self.wanted = True
        self.held = Event()
        self.held.set()
        self.came = Event()
        self.before_part = lambda: None
        self.ahead = ReadAhead(
            ReadAheadConfig(), lambda: self.pids, lambda *read: self.counted.append(read)
        )

    def part(self, path: str, offset: int) -> int:
        self.before_part()
        self.read.append(f"{path} {offset}")
        self.came.set()
        self.held.wait()
        return PART_BYTES

    def begin(self, name: str, *, first: bool = False, cmd: str = "") -> None:
        model = ModelConfig(name, cmd or f"serve -m {name}")
        self.ahead.begin(ReadAheadTarget(model, lambda: self.wanted), first=first)

    def settle(self) -> list[str]:
        self.held.set()
        gevent.joinall(list(self.ahead._tasks._group))
        return self.read


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine()
    monkeypatch.setattr(made.ahead, "_read_part", made.part)
    monkeypatch.setattr(module, "_files_of", lambda cmd: FILES[cmd.removesuffix(" -dio")])
    monkeypatch.setattr(module, "memory_available", lambda: made.available)
    monkeypatch.setattr(module, "mapped_bytes", lambda pids: made.mapped * len(list(pids)))
    monkeypatch.setattr(module, "LOOK_EVERY_S", 0.0)
    yield made
    made.settle()
    made.ahead.close()


def test_all_files_are_read_in_order_part_by_part(machine: Machine) -> None:
    machine.begin("a")
    assert machine.settle() == A
    assert machine.counted == [("a", PART_BYTES)] * 3


def test_nothing_is_read_where_it_is_off_or_cannot_help(machine: Machine) -> None:
    machine.begin("a", cmd="serve -m a -dio")
    machine.ahead.begin(
        ReadAheadTarget(ModelConfig("a", "", launcher="external"), lambda: True), first=True
    )
    machine.ahead.configure(None)
    machine.begin("a")
    assert machine.settle() == []


@pytest.mark.parametrize(
    "change",
    [{"wanted": False}, {"available": GIB}, {"mapped": 9 * GIB}],
    ids=["not wanted", "no memory", "pushes out"],
)
def test_it_stops_as_soon_as_it_does_not_help(machine: Machine, change: dict) -> None:
    machine.before_part = lambda: vars(machine).update(change)
    machine.begin("a")
    assert machine.settle() == A[:1]


def test_memory_of_a_model_that_left_is_no_loss(machine: Machine) -> None:
    machine.before_part = machine.pids.clear
    machine.begin("a")
    assert machine.settle() == A


def test_one_model_is_read_at_a_time_and_a_decided_load_goes_first(machine: Machine) -> None:
    machine.held.clear()
    machine.begin("a")
    assert machine.came.wait(3)
    machine.begin("b")
    machine.begin("a", first=True)
    gevent.idle()
    assert machine.read == A[:1]
    machine.begin("b", first=True)
    assert machine.settle() == [*A[:1], "b 0"]


def test_the_rate_is_kept(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module.gevent, "sleep", waits.append)
    machine.ahead.configure(ReadAheadConfig(max_rate=PART_BYTES))
    machine.begin("a")
    machine.settle()
    assert [round(wait) for wait in waits] == [1, 2, 3]
