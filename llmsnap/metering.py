"""Measures what devices and models hold, and keeps the scheduler's memory budget up to date.

One sample a second while a model loads or a request waits, else every 15 seconds, in a thread of
its own, since drivers may hang. The scheduler gets a new budget only when a figure has changed by
more than ``THRESHOLD``, so that an idle machine plans nothing. Without a memory budget nothing is
measured.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from gevent.event import Event
from gevent.lock import BoundedSemaphore

from llmsnap.config import Config, MemoryNeed, ModelConfig
from llmsnap.memory import (
    RAM,
    VISIBLE,
    DeviceMemory,
    DeviceProvider,
    LearnedNeeds,
    MachineDevices,
    Occupant,
    Reading,
    ServerFacts,
    Stage,
    UseLedger,
    device_variables,
    examine,
    find_devices,
    take_reading,
)
from llmsnap.models import State, definition_of
from llmsnap.routing import (
    DECLARED,
    ESTIMATED,
    Figures,
    FoundDevice,
    KnownSizes,
    Memory,
    budget_of,
    shown_size,
)
from llmsnap.statedir import StateDir
from llmsnap.tasks import TaskGroup
from llmsnap.telemetry import Source, WorkerStuck, WorkerThread

log = logging.getLogger(__name__)

LOADING_S, RESTING_S = 1.0, 15.0
"""Seconds between two samples."""
DRIVER_LIMIT_S, FILES_LIMIT_S = 3.0, 5.0
"""Seconds for which drivers, and model files, are waited for."""
THRESHOLD = 0.01
"""The share of a device by which a figure must change."""
LEAST_CHANGE = 16 * 1024**2
STAGES = {
    State.STARTING: Stage.LOADING,
    State.WAKING: Stage.LOADING,
    State.READY: Stage.READY,
    State.ASLEEP: Stage.ASLEEP,
    State.SLEEP_PENDING: Stage.LEAVING,
    State.STOPPING: Stage.LEAVING,
}


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A model's server that runs: *run* tells this run from others, *device* is where it was put.

    *device* is empty where its command says where.
    """

    run: int
    state: State
    pid: int | None = None
    device: str = ""


@dataclass(frozen=True, slots=True)
class _Known:
    """The definition of a model, and what is known of its server without running it."""

    model: ModelConfig
    facts: ServerFacts


@dataclass(slots=True)
class _Run:
    """One run of a server, and what was known of it at its start."""

    number: int
    known: _Known
    is_warned: bool = False


class MemoryMeter:
    """Owns the figures of the memory budget, and the greenlet that measures them.

    *servers* returns the servers that run, by model; *apply* gets a new budget; *is_waiting* says
    whether a request waits for a model. None of them may switch greenlets.
    """

    def __init__(
        self,
        state: StateDir,
        servers: Callable[[], Mapping[str, RunningServer]],
        apply: Callable[[Memory], None],
        is_waiting: Callable[[], bool],
        *,
        find: Callable[[], DeviceProvider] | None = None,
        today: Callable[[], str] = lambda: time.strftime("%Y-%m-%d"),
    ) -> None:
        self._servers, self._apply = servers, apply
        self._is_waiting, self._today = is_waiting, today
        names: dict[str, str] = {}  # both sources name cards alike, also after one was lost
        find = find or partial(find_devices, names=names)
        self._source = Source("memory", find, DRIVER_LIMIT_S)
        self._now = Source("devices", find, DRIVER_LIMIT_S)  # does not wait for a sample
        self._files = WorkerThread("model files")
        self._tasks = TaskGroup("memory")
        self._wake = Event()
        inherited = [name for name in VISIBLE if name in os.environ]
        self._environ = tuple(f"{name}={os.environ[name]}" for name in inherited)
        self._closed = False
        self._config: Config | None = None
        self._devices: tuple[DeviceMemory, ...] = ()
        self._known: dict[str, _Known] = {}
        self._runs: dict[str, _Run] = {}
        self._sampling = BoundedSemaphore(1)
        self._ledger = UseLedger()
        self._learned = LearnedNeeds(state)
        self._steady: dict[tuple[str, str], int] = {}
        self.budget = Memory((), ())
        """What the scheduler decides by; without devices where it is no memory budget."""

    def __repr__(self) -> str:
        return f"<MemoryMeter of {len(self._devices)} devices, {len(self._known)} models>"

    # --- life ----------------------------------------------------------------------------------

    def open(self, config: Config) -> None:
        """Read what was learned, look at the machine, and begin to measure. Blocks for seconds."""
        self._learned.open()
        self.prepare(config)
        self._tasks.spawn("measure", self._run)

    def close(self) -> None:
        """End the greenlet and the threads. Blocks briefly."""
        self._closed = True
        self._wake.set()
        self._tasks.close(0.1)
        self._source.close()
        self._now.close()
        self._files.close()

    def prepare(self, config: Config) -> None:
        """Look at devices and model files for *config*. Blocks for seconds, if they hang."""
        if config.residency != "memory":
            return
        self._sample()
        for model in config.models.values():
            known = self._known.get(model.id)
            if not model.is_elsewhere and (known is None or known.model != model):
                self._known[model.id] = _Known(model, self._examine(model, config))

    def use(self, config: Config) -> Figures:
        """Measure for *config* from now on; return what is known for it. Never switches."""
        self._config = config
        running = self._servers()
        self._known = {
            name: one
            for name, one in self._known.items()
            if name in config.models or name in running
        }
        self._wake.set()
        figures = self._figures(config)
        if config.residency == "memory":
            self.budget = budget_of(config, figures)
        return figures

    def poke(self) -> None:
        """Take a sample soon: what runs has changed. Never switches."""
        self._wake.set()

    def read_devices(self) -> tuple[DeviceMemory, ...]:
        """Return the devices as they are now; none if they cannot be read. Blocks on drivers."""
        found: tuple[DeviceMemory, ...] = self._now.ask(lambda provider: provider.read(), ())
        return found

    def note_lack(self, model: ModelConfig) -> bool:
        """Note that a load of *model* ran out of memory; whether its need grows by it.

        Never switches.
        """
        need = self.budget.need(model.id)
        if need is None or not need.is_known:
            return False
        self._learned.note_lack(self._digest(model), _declared(model.memory))
        self._tasks.spawn("remember a lack", self._learned.write)
        return True

    def forget_lacks(self, model: ModelConfig) -> bool:
        """Forget the loads of *model* that ran out of memory; whether there were any.

        Never switches.
        """
        if not self._lacks(model):
            return False
        self._learned.forget_lacks(self._digest(model))
        self._tasks.spawn("forget lacks", self._learned.write)
        return True

    def _lacks(self, model: ModelConfig) -> int:
        return self._learned.lacks(self._digest(model), _declared(model.memory))

    def _digest(self, model: ModelConfig) -> str:
        """Return what its figures are remembered by, without its files while they hang."""
        return self._facts(model.id).digest or definition_of(model)

    def refigure(self) -> None:
        """Hand on the budget, if it has changed. Never switches."""
        config = self._config
        if config is None or config.residency != "memory":
            return
        memory = budget_of(config, self._figures(config))
        if memory != self.budget:
            self.budget = memory
            self._apply(memory)

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(self.pause_s)
            self._wake.clear()
            self.measure()

    def measure(self) -> None:
        """Take a sample, and hand on the budget, if it has changed. Blocks on drivers and files."""
        if self._config is not None and self._config.residency == "memory":
            self._sample()
            self.refigure()

    @property
    def pause_s(self) -> float:
        """The time until the next sample."""
        loads = any(STAGES.get(each.state) is Stage.LOADING for each in self._servers().values())
        hurries = loads or self._is_waiting() or not self._ledger.is_settled
        return LOADING_S if hurries else RESTING_S

    def variables_of(self, device: str) -> tuple[str, ...]:
        """Return the environment in which a server sees the GPU *device* alone. Never switches."""
        found = next((each for each in self._devices if each.name == device), None)
        return device_variables(device, found)

    # --- samples -------------------------------------------------------------------------------

    def _sample(self) -> None:
        """Measure once, and keep what models were seen to need. Blocks on drivers and files."""
        with self._sampling:
            self._sample_once()

    def _sample_once(self) -> None:
        servers = {name: one for name, one in self._servers().items() if name in self._known}
        before, self._runs = self._runs, {}
        for model_id, server in servers.items():
            run = before.get(model_id)
            if run is None or run.number != server.run:
                run = _Run(server.run, self._known[model_id])
            self._runs[model_id] = run
        occupants = [self._occupant(name, server) for name, server in servers.items()]
        reading: Reading | None = self._source.ask(
            lambda provider: take_reading(provider, occupants), None
        )
        if reading is None:
            if self._devices:
                return
            reading = Reading(MachineDevices(()).read())  # no driver answers, but there is RAM
        self._devices = reading.devices
        self._ledger.note(reading, self._unchanged(occupants))
        for model_id, run in self._runs.items():
            if before.get(model_id) is not run:
                self._look_again(model_id, run)
            self._warn_of_more(model_id, run, servers[model_id])
        learned = [self._learn(model_id, run) for model_id, run in self._runs.items()]
        if any(learned):
            self._learned.write()

    def _look_again(self, model_id: str, run: _Run) -> None:
        """Look at the model files of a new run: they may be others than at the last one."""
        model = run.known.model
        run.known = _Known(model, self._examine(model, self._config))
        known = self._known.get(model_id)
        if known is not None and known.model == model:
            self._known[model_id] = run.known

    def _occupant(self, model_id: str, server: RunningServer) -> Occupant:
        facts = self._runs[model_id].known.facts
        stage = STAGES[server.state]
        sizes = self.budget.held(model_id, server.device, asleep=stage is Stage.ASLEEP)
        names = [each.name for each in self.budget.devices]
        return Occupant(
            model_id,
            server.run,
            stage,
            None if facts.is_container else server.pid,
            facts.files,
            dict(zip(names, sizes, strict=True)),
            facts.least(self._totals()),
        )

    def _unchanged(self, occupants: list[Occupant]) -> list[Occupant]:
        """Return *occupants* with what has changed since they were made: that is not learned."""
        now = self._servers()
        found = []
        for each in occupants:
            server = now.get(each.model_id)
            same = server is not None and STAGES[server.state] is each.stage
            keeps = same or each.stage is Stage.LOADING
            found.append(each if keeps else replace(each, stage=Stage.LEAVING))
        return found

    def _warn_of_more(self, model_id: str, run: _Run, server: RunningServer) -> None:
        """Warn once a run if the model holds more than the file says, by more than noise."""
        need = self.budget.need(model_id)
        if run.is_warned or server.state is not State.READY or need is None:
            return
        if need.source != DECLARED or need.lacks:
            return
        sizes = self.budget.held(model_id, server.device)
        for device, size in zip(self.budget.devices, sizes, strict=True):
            held = self._ledger.held.get(model_id, {}).get(device.name, 0)
            if size and held - size > max(LEAST_CHANGE, THRESHOLD * device.capacity):
                run.is_warned = True
                log.warning(
                    "<%s> holds %s of %s, and its `memory` says %s: it counts as what it holds",
                    model_id,
                    shown_size(held),
                    device.name,
                    shown_size(size),
                )

    def _learn(self, model_id: str, run: _Run) -> bool:
        """Keep what the present run of a model needs; return whether that is new."""
        peak, facts = self._ledger.peak(model_id), run.known.facts
        if peak is None or not facts.digest:
            return False
        return self._learned.note(facts.digest, peak, self._devices, self._today())

    def _examine(self, model: ModelConfig, config: Config | None) -> ServerFacts:
        """Return what command and files of *model* say. Blocks; not for ever, if they hang."""
        has_gpu = bool(self._gpus(config))
        definition = (definition_of(model), *filter(None, [model.device]))
        look = partial(examine, model.cmd, definition, has_gpu=has_gpu)
        try:
            return self._files.run(look, timeout_s=FILES_LIMIT_S)
        except WorkerStuck as error:
            log.warning("<%s> what it needs is not estimated: %s", model.id, error)
            return ServerFacts()

    # --- figures -------------------------------------------------------------------------------

    def _facts(self, model_id: str) -> ServerFacts:
        known = self._known.get(model_id)
        return ServerFacts() if known is None else known.facts

    def _figures(self, config: Config) -> Figures:
        devices = tuple(
            FoundDevice(
                each.name,
                each.total,
                self._settled(each, "", self._ledger.others.get(each.name, 0)),
                self._ledger.holders.get(each.name, ""),
                each.aliases,
            )
            for each in self._devices
        )
        figures = _Collected()
        for model in config.models.values():
            self._collect(model, figures)
        return Figures(
            devices,
            figures.needs,
            figures.asleep,
            figures.splits,
            {
                model_id: {
                    each.name: self._settled(each, model_id, holds[each.name])
                    for each in self._devices
                    if each.name in holds
                }
                for model_id, holds in self._ledger.held.items()
            },
            {model.id: self._lacks(model) for model in config.models.values()},
            self._ledger.sleeping,
        )

    def _collect(self, model: ModelConfig, figures: _Collected) -> None:
        """Add what is known of the need of *model*: as measured, else as estimated."""
        facts = self._facts(model.id)
        split = facts.split((*self._environ, *model.env), self._gpus(self._config))
        if model.device:
            split = {model.device: 1.0}
        learned = self._learned.get(facts.digest)
        sizes = learned.on(self._devices) if learned is not None else {}
        if learned is not None and sizes:
            figures.needs[model.id] = KnownSizes(sizes, learned.source)
            on_gpus = {name: float(size) for name, size in sizes.items() if name != RAM}
            split = on_gpus or split
            asleep = learned.asleep_on(self._devices)
            if asleep is not None:
                figures.asleep[model.id] = KnownSizes(asleep, learned.source)
        elif facts.estimate is not None:
            estimated = facts.placed(split, self._totals())
            figures.needs[model.id] = KnownSizes(estimated, ESTIMATED)
        figures.splits[model.id] = split

    def _settled(self, device: DeviceMemory, of: str, size: int) -> int:
        """Return *size*, or what was returned for the same before where it is about the same."""
        key = (device.name, of)
        before = self._steady.get(key, 0)
        if abs(size - before) < max(LEAST_CHANGE, THRESHOLD * device.total) and size:
            return before
        self._steady[key] = size
        return size

    def _gpus(self, config: Config | None) -> dict[str, str]:
        """Return the UUIDs of the GPUs by name: those found, then those of the file."""
        found = {each.name: each.uuid for each in self._devices if each.name != RAM}
        found |= {alias: "" for each in self._devices for alias in each.aliases}
        given = config.memory if config is not None else ()
        return {each.name: "" for each in given if each.name != RAM} | found

    def _totals(self) -> dict[str, int]:
        totals = {each.name: each.total for each in self._devices}
        return totals | {alias: each.total for each in self._devices for alias in each.aliases}


@dataclass(frozen=True, slots=True)
class _Collected:
    """What is known of models, by id."""

    needs: dict[str, KnownSizes] = field(default_factory=dict)
    asleep: dict[str, KnownSizes] = field(default_factory=dict)
    splits: dict[str, dict[str, float]] = field(default_factory=dict)


def _declared(need: MemoryNeed | None) -> str:
    """Return what the file says of a need, to be compared; empty: nothing."""
    if need is None:
        return ""
    sizes = [(each.device, each.size_bytes) for each in need.sizes]
    sizes += [("any", need.anywhere_bytes), ("all", need.total_bytes)]
    return ",".join(f"{name}:{size}" for name, size in sizes if size)


def figures_of(config: Config, state: StateDir) -> Figures:
    """Return what is known now of devices and models, for a command. Blocks for seconds."""
    meter = MemoryMeter(state, dict, lambda _: None, lambda: False)
    try:
        meter.open(config)
        return meter.use(config)
    finally:
        meter.close()
