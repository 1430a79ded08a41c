"""The barrier before a load: the memory of the models that left must be back on the devices.

A driver gives memory back some time after a process has ended, and a process of its own may hold
on to it. What is measured is how much each device has free: once before the models leave, then
until it is enough for the load, or all that they held is back. Without a memory budget, and without
devices that can be read, there is no barrier.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import gevent

from llmsnap.config import Config
from llmsnap.errors import MemoryHeld, QueueTimeout
from llmsnap.memory import DeviceMemory, program, tree
from llmsnap.routing.memory import shown_size
from llmsnap.routing.residency import DeviceRoom

log = logging.getLogger(__name__)

FIRST_POLL_S, POLL_S = 0.01, 0.05
SLACK = 64 * 1024**2
"""Bytes that may be missing of what is to come back: other programs use a little more or less."""
MOST_HOLDERS = 3
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Returning:
    """What must be free on a device before a load.

    *takes* is what the load needs. *back* is what is free once all that the victims held is back,
    None where that is not known.
    """

    device: str
    takes: int
    back: int | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds memory of a device; *name* is that of its program, or of our model."""

    name: str
    pid: int
    size: int

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid}) holds {self.size // MIB} MiB"


@dataclass(frozen=True, slots=True)
class Shortage:
    """A device that lacks room for a load, and what holds most of it.

    *is_back*: not because of the models that left, all of whose memory is free.
    """

    device: str
    free: int
    takes: int
    holders: tuple[Holder, ...]
    is_back: bool

    @property
    def what(self) -> str:
        """What is missing, without what holds it."""
        return f"{self.device} has {shown_size(self.free)} free of {shown_size(self.takes)}"

    @property
    def who(self) -> str:
        """What holds it."""
        return ", ".join(map(str, self.holders)) or "no process is known to hold the rest"

    def __str__(self) -> str:
        return f"{self.what}; {self.who}"


@dataclass(frozen=True, slots=True)
class Hold:
    """A load that waits at the barrier.

    *held* is called with the reason whenever that changes, and with "" before the load begins, if
    it was called before. *is_aborted* says that the load is given up. Neither may switch.
    """

    model_id: str
    held: Callable[[str], None]
    is_aborted: Callable[[], bool]


class Barrier:
    """Holds loads.

    *read* returns the devices as they are now, none if they cannot be read in time; it may block.
    *running* returns the processes of the models that run.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[DeviceMemory]],
        config: Callable[[], Config],
        running: Callable[[], Mapping[str, int]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._config = config
        self._running = running
        self._clock = clock

    def expect(
        self, room: Iterable[DeviceRoom], stopping: Sequence[int | None], *, sleeping: bool
    ) -> tuple[Returning, ...]:
        """Return what must be free before a load that takes *room*. Blocks briefly.

        *stopping* are the processes that are to end, None for one that runs elsewhere; *sleeping*:
        others only go to sleep. Called before either.
        """
        wanted = tuple(room)
        if not stopping:
            return tuple(Returning(each.device, each.takes) for each in wanted)
        devices = self._devices()
        pids = {each for pid in stopping if pid is not None for each in tree(pid)}
        is_known = not sleeping and None not in stopping
        found = []
        for each in wanted:
            device = devices.get(each.device)
            if device is None:
                continue
            held = sum(device.pids.get(pid, 0) for pid in pids)
            back = device.free + held - SLACK if held and is_known else None
            found.append(Returning(each.device, each.takes, back))
        return tuple(found)

    def wait(self, returning: Sequence[Returning], hold: Hold) -> str:
        """Wait until the memory is back, as long as ``memory`` of the configuration says.

        Returns what is missing where the load begins all the same: nothing more comes back, or
        ``onStuck`` is ``load``.
        Raises: MemoryHeld with ``onStuck: fail``, QueueTimeout with ``onStuck: wait``.
        """
        began, said, pause_s, missing = self._clock(), "", FIRST_POLL_S, ""
        while returning and not hold.is_aborted():
            short = self._short(returning)
            late = [each for each in short if not each.is_back]
            if not late or self._is_over(hold.model_id, late, self._clock() - began):
                missing = "; ".join(each.what for each in short)
                break
            reason = "; ".join(map(str, late))
            if reason != said:
                said = reason
                hold.held(reason)
            gevent.sleep(pause_s)
            pause_s = min(POLL_S, 2 * pause_s)
        if said and not hold.is_aborted():
            hold.held("")
        return missing

    def _is_over(self, model_id: str, short: list[Shortage], waited_s: float) -> bool:
        """Tell whether the load begins all the same. Raises: see ``wait``."""
        config = self._config()
        rules = config.memory_rules
        if waited_s < rules.release_timeout_s:
            return False
        what = "; ".join(each.what for each in short)
        detail = "".join(f"; {each.who}" for each in short)
        after = f"{model_id}: its memory is not free after {waited_s:.1f} s: {what}"
        if rules.on_stuck == "load":
            log.warning("<%s> loaded although memory is not free: %s%s", model_id, what, detail)
            return True
        if rules.on_stuck == "fail":
            raise MemoryHeld(after, rules.release_timeout_s, detail)
        if waited_s >= (config.queue_timeout_s or math.inf):
            raise QueueTimeout(after, detail=detail)
        return False

    def _short(self, returning: Iterable[Returning]) -> list[Shortage]:
        devices = self._devices()
        found = []
        for each in returning:
            device = devices.get(each.device)
            if device is None or not device.total or device.free >= each.takes:
                continue
            is_back = each.back is not None and device.free >= each.back
            holders = () if is_back else self._holders(device)
            found.append(Shortage(each.device, device.free, each.takes, holders, is_back))
        return found

    def _holders(self, device: DeviceMemory) -> tuple[Holder, ...]:
        """Return the processes that hold most of *device*, those of other programs first."""
        ours = {pid: name for name, top in self._running().items() for pid in tree(top)}
        largest = sorted(device.pids.items(), key=lambda one: (one[0] in ours, -one[1]))
        return tuple(
            Holder(ours.get(pid) or program(pid), pid, size)
            for pid, size in largest[:MOST_HOLDERS]
            if size >= MIB
        )

    def _devices(self) -> dict[str, DeviceMemory]:
        """Return the devices now, by all their names."""
        return {name: each for each in self._read() for name in (each.name, *each.aliases)}
