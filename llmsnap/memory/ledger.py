"""Who holds how much of each device: models of ours, and other programs. Decides nothing.

``take_reading`` asks the system, ``UseLedger`` keeps account. A process is measured where the
driver lists it. Where it does not, because the server runs in a container or llmsnap does, what the
device has more in use since the load began counts, and what the model needs before that is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from llmsnap.memory.gpus import DeviceMemory, DeviceProvider
from llmsnap.memory.processes import TreeMemory, program, tree_memory

MIB = 1024**2
MAX_HOLDERS = 3
LEAST_DIFFERENCE = 64 * MIB
"""A smaller one is noise, where a model is not known to use the device."""


class Stage(StrEnum):
    """What a server that runs is doing."""

    LOADING = "loading"
    READY = "ready"
    ASLEEP = "asleep"
    LEAVING = "leaving"


@dataclass(frozen=True, slots=True)
class Occupant:
    """A server of ours that runs. *run* differs between two starts of a model.

    *pid* is None where its processes are not those of this machine's ``/proc``, as in a container.
    *weights* are its model files, *expected* is what it needs by device, *least* what must have
    been free on GPUs together and in RAM before its load for a measurement to count.
    """

    model_id: str
    run: int
    stage: Stage
    pid: int | None = None
    weights: tuple[str, ...] = ()
    expected: Mapping[str, int] = field(default_factory=dict)
    least: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Reading:
    """Devices and process trees at one moment; *programs* names large processes of others."""

    devices: tuple[DeviceMemory, ...]
    trees: Mapping[str, TreeMemory] = field(default_factory=dict)
    programs: Mapping[int, str] = field(default_factory=dict)


def take_reading(provider: DeviceProvider, occupants: Sequence[Occupant]) -> Reading:
    """Return what devices and processes are seen to hold now. Blocks on the kernel and drivers."""
    devices = provider.read()
    pids = {each.name: each.pids for each in devices}
    trees = {}
    for each in occupants:
        if each.pid is not None:
            tree = tree_memory(each.pid, weights=each.weights, devices=pids)
            if tree is not None:
                trees[each.model_id] = tree
    ours = {pid for tree in trees.values() for pid in tree.pids}
    names = {pid: program(pid) for each in devices for pid, _ in _largest(each, ours)}
    return Reading(devices, trees, names)


def _largest(device: DeviceMemory, ours: Iterable[int]) -> list[tuple[int, int]]:
    """Return (pid, bytes) of the processes of others that hold most of *device*."""
    others = [(pid, size) for pid, size in device.pids.items() if pid not in ours and size]
    return sorted(others, key=lambda one: -one[1])[:MAX_HOLDERS]


@dataclass(frozen=True, slots=True)
class Peak:
    """The most that one run of a model was seen to hold, by device.

    *by_difference*: some of it is what the device had more in use.
    """

    ready: Mapping[str, int]
    asleep: Mapping[str, int]
    by_difference: bool


_RunId = tuple[str, int]


class _Run:
    """What is known of one run of a server."""

    def __init__(self, occupant: Occupant, reading: Reading, beside: frozenset[_RunId]) -> None:
        tree = reading.trees.get(occupant.model_id, TreeMemory())
        self.id = occupant.run
        self.used_before = {each.name: each.used for each in reading.devices}
        self.beside = beside
        """The other runs at its begin: while they stay the same, what is used more is its own."""
        self.difference: dict[str, int] = {}
        self.was_ready = False
        self.ready: dict[str, int] = {}
        self.asleep: dict[str, int] = {}
        on_gpus, in_ram = occupant.least
        free = sum(
            each.free + tree.devices.get(each.name, 0)
            for each in reading.devices
            if not each.is_ram
        )
        ram = sum(each.free + tree.ram for each in reading.devices if each.is_ram)
        self.had_room = occupant.stage is Stage.LOADING and on_gpus <= free and in_ram <= ram

    def note_ready(self, reading: Reading, beside: frozenset[_RunId]) -> None:
        """Note what devices have more in use than before the load, if it was the only change."""
        self.was_ready = True
        if beside == self.beside:
            self.difference = {
                each.name: max(0, each.used - self.used_before.get(each.name, 0))
                for each in reading.devices
            }


class UseLedger:
    """What each model holds, and what other programs use, as of the last reading."""

    def __init__(self) -> None:
        self.held: dict[str, dict[str, int]] = {}
        self.sleeping: frozenset[str] = frozenset()
        self.others: dict[str, int] = {}
        self.holders: dict[str, str] = {}
        self.by_difference: set[str] = set()
        """The models of which not all is measured by process."""
        self._assumed: set[str] = set()
        self._runs: dict[str, _Run] = {}
        self._last: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<UseLedger of {len(self.held)} models, {len(self.others)} devices>"

    def note(self, reading: Reading, occupants: Sequence[Occupant]) -> None:
        """Take *reading*, which was taken of these *occupants*."""
        self._follow(reading, occupants)
        self.held = {}
        self.sleeping = frozenset(each.model_id for each in occupants if each.stage is Stage.ASLEEP)
        self.by_difference.clear()
        self._assumed.clear()
        taken = dict.fromkeys((each.name for each in reading.devices), 0)
        for occupant in occupants:
            holds: dict[str, int] = {}
            for device in reading.devices:
                used, held = self._share(occupant, device, reading)
                taken[device.name] += used
                if held:
                    holds[device.name] = held
            self.held[occupant.model_id] = holds
            self._learn(occupant, holds)
        ours = {pid for tree in reading.trees.values() for pid in tree.pids}
        for device in reading.devices:
            left = max(0, device.used - taken[device.name])
            # One reading alone may show what a server that has just ended has not returned yet.
            self.others[device.name] = min(left, self._last.get(device.name, left))
            self._last[device.name] = left
            self.holders[device.name] = ", ".join(
                f"{reading.programs.get(pid, 'pid')} ({pid}) {size / MIB:.0f} MiB"
                for pid, size in _largest(device, ours)
            )

    @property
    def is_settled(self) -> bool:
        """Whether the last two readings agree about what others use."""
        return all(self.others[name] >= left - MIB for name, left in self._last.items())

    def peak(self, model_id: str) -> Peak | None:
        """Return the most that the present run held; None if that says nothing of its need."""
        run = self._runs.get(model_id)
        if run is None or not run.had_room or not run.ready:
            return None
        return Peak(dict(run.ready), dict(run.asleep), model_id in self.by_difference)

    def _follow(self, reading: Reading, occupants: Sequence[Occupant]) -> None:
        """Begin an account of runs that are new, end that of those that are over."""
        runs = frozenset((each.model_id, each.run) for each in occupants)
        for each in occupants:
            known = self._runs.get(each.model_id)
            beside = runs - {(each.model_id, each.run)}
            if known is None or known.id != each.run:
                self._runs[each.model_id] = _Run(each, reading, beside)
            elif each.stage is Stage.READY and not known.was_ready:
                known.note_ready(reading, beside)
        names = {each.model_id for each in occupants}
        self._runs = {name: run for name, run in self._runs.items() if name in names}

    def _share(self, occupant: Occupant, device: DeviceMemory, reading: Reading) -> tuple[int, int]:
        """Return what a model uses of a device, and what it holds there: weights in RAM, too.

        Files that are mapped do not count as used, since their pages can be given up.
        """
        tree = reading.trees.get(occupant.model_id)
        if tree is not None:
            listed = tree.devices.get(device.name, 0)
            if device.is_ram:
                return listed + tree.ram, listed + tree.ram_needed
            if listed or device.pids or not device.used:
                return listed, listed
        elif occupant.pid is not None:
            return 0, 0  # it has just ended
        size = occupant.expected.get(device.name, 0)
        more = self._runs[occupant.model_id].difference.get(device.name, 0)
        if more and (size or more >= LEAST_DIFFERENCE):
            self.by_difference.add(occupant.model_id)
            return more, more
        if size:
            self._assumed.add(occupant.model_id)
        return size, size

    def _learn(self, occupant: Occupant, holds: Mapping[str, int]) -> None:
        run = self._runs[occupant.model_id]
        if occupant.model_id in self._assumed:
            return  # some of it is what it is thought to need
        if occupant.stage is Stage.READY:
            for name, size in holds.items():
                run.ready[name] = max(run.ready.get(name, 0), size)
        elif occupant.stage is Stage.ASLEEP:
            run.asleep = dict(holds)
