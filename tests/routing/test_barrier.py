"""When a load may begin after others left, by what devices have free."""

import os
from collections.abc import Iterator

import pytest

from llmsnap.config import Config, MemoryRules
from llmsnap.errors import LlmsnapError, MemoryHeld, QueueTimeout, in_full
from llmsnap.memory import DeviceMemory
from llmsnap.routing import barrier
from llmsnap.routing.barrier import Barrier, Hold
from llmsnap.routing.residency import DeviceRoom

GIB = 1024**3
ME = os.getpid()
ROOM = (DeviceRoom("gpu0", 8 * GIB, 16 * GIB),)


def gpu(free: int, **pids: int) -> DeviceMemory:
    """A card of 16 GiB; *pids* are names in ``PIDS`` and the GiB they hold."""
    held = {PIDS[name]: size * GIB for name, size in pids.items()}
    return DeviceMemory("gpu0", 16 * GIB, (16 - free) * GIB, held, aliases=("card",))


PIDS = {"victim": ME, "other": 2**30}


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barrier, "POLL_S", 0.0)


class Machine:
    """A card that shows one of *readings* after the other, the last one for ever."""

    def __init__(self, *readings: DeviceMemory, on_stuck: str = "load") -> None:
        self.readings: Iterator[DeviceMemory] = iter(readings)
        self.last = readings[-1]
        self.said: list[str] = []
        self.aborted = False
        self.now = 0.0
        config = Config(memory_rules=MemoryRules(10.0, on_stuck), queue_timeout_s=60.0)
        self.barrier = Barrier(self.read, lambda: config, dict, self.clock)

    def clock(self) -> float:
        self.now += 1.0
        return self.now

    def read(self) -> tuple[DeviceMemory, ...]:
        return (next(self.readings, self.last),)

    def swap(self, *victims: int | None, sleeping: bool = False) -> list[str]:
        """Return the reasons that the load was held for."""
        returning = self.barrier.expect(ROOM, victims, sleeping=sleeping)
        hold = Hold("b", self.said.append, lambda: self.aborted)
        self.missing = self.barrier.wait(returning, hold)
        return self.said


FULL = "gpu0 has 4.0 GiB free of 8.0 GiB; a process (pid 1073741824) holds 12288 MiB"


@pytest.mark.parametrize(
    ("readings", "victims", "said", "missing"),
    [
        ([gpu(4, victim=12), gpu(16)], [ME], [], ""),
        ([gpu(4, victim=12), gpu(4, other=12), gpu(16)], [ME], [FULL, ""], ""),
        # All of it is back; another program took what is missing.
        (
            *([gpu(2, victim=4, other=10), gpu(6, other=10)], [ME], []),
            "gpu0 has 6.0 GiB free of 8.0 GiB",
        ),
        ([gpu(0, victim=4, other=10), gpu(8)], [None], [], ""),  # enough, whoever held it
        ([gpu(8)], [], [], ""),
    ],
)
def test_a_load_begins_when_there_is_enough_or_all_is_back(
    readings: list[DeviceMemory], victims: list[int | None], said: list[str], missing: str
) -> None:
    machine = Machine(*readings)
    assert machine.swap(*victims) == said
    assert machine.missing == missing


def test_only_what_is_measured_is_waited_for() -> None:
    other = Machine(DeviceMemory("gpu1", 16 * GIB, 16 * GIB))
    unknown = Machine(DeviceMemory("gpu0", 0, 0))
    assert other.swap(ME) == unknown.swap(ME) == []
    blind = Barrier(tuple, Config, dict)
    assert blind.expect(ROOM, [ME], sleeping=False) == ()
    held = Hold("b", str, lambda: False)
    assert blind.wait(blind.expect(ROOM, [], sleeping=False), held) == ""


def test_what_a_sleeping_model_keeps_is_not_taken_for_returned() -> None:
    machine = Machine(gpu(4, victim=12), gpu(7, victim=9), gpu(8, victim=8))
    assert machine.swap(ME, sleeping=True)[-1] == ""
    assert len(machine.said) == 2


def test_memory_that_stays_away_is_loaded_beside_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    machine = Machine(gpu(4, victim=12), gpu(4, other=12))
    assert machine.swap(ME) == [FULL, ""]
    assert machine.missing == "gpu0 has 4.0 GiB free of 8.0 GiB"
    (record,) = caplog.records
    assert record.getMessage() == f"<b> loaded although memory is not free: {FULL}"


@pytest.mark.parametrize(
    ("on_stuck", "error", "after"), [("fail", MemoryHeld, 10), ("wait", QueueTimeout, 60)]
)
def test_memory_that_stays_away_fails_the_load(
    on_stuck: str, error: type[LlmsnapError], after: int
) -> None:
    machine = Machine(gpu(4, victim=12), gpu(4, other=12), on_stuck=on_stuck)
    with pytest.raises(error) as caught:
        machine.swap(ME)
    assert in_full(caught.value) == f"b: its memory is not free after {after}.0 s: {FULL}"
    assert caught.value.status == 503
    assert "pid" not in str(caught.value)


def test_a_load_that_is_given_up_is_not_held() -> None:
    machine = Machine(gpu(4, victim=12), gpu(4, other=12), on_stuck="wait")
    machine.aborted = True
    assert machine.swap(ME) == []
