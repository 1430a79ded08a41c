"""The memory budget: what the configuration says, completed by what was found and measured. Pure.

A figure of the file counts before a measured one, a measured one before an estimate. What a model
holds now is the larger one of what it needs and what is measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from llmsnap.config import (
    DEFAULT_GROUP,
    EXTERNAL_GROUP,
    Config,
    MemoryNeed,
    ModelConfig,
)
from llmsnap.routing.memory import DECLARED, GPU_PARTS, Device, Memory, Need, Share
from llmsnap.routing.pools import Pool

RAM = "ram"
UNKNOWN = "unknown"
GROWTH = 1.1
"""The factor by which a need grows with each load that ran out of memory."""


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device of this machine: *total* bytes, of which other programs hold *others*."""

    name: str
    total: int
    others: int = 0
    holders: str = ""
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FoundNode:
    """A machine of a launcher, with its GPUs, of which jobs of others have *others*.

    One that takes no jobs counts as one without GPUs. *labels*: see ``Device``.
    """

    name: str
    gpus: float
    others: float = 0.0
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class KnownSizes:
    """Bytes by device, and where the figure is from."""

    sizes: Mapping[str, int]
    source: str


Nodes = Mapping[str, tuple[FoundNode, ...]]


@dataclass(frozen=True, slots=True)
class Figures:
    """What is known beside the configuration.

    *needs* and *asleep* are what models take, for those that the file says nothing about, *splits*
    in which relation a model's total is divided among devices. *held* is what was measured last
    of the models that run, *sleeping* those of them that slept then. *lacks* is how often loads ran
    out of memory. *nodes* are the machines of launchers, by launcher.
    """

    devices: tuple[FoundDevice, ...] = ()
    needs: Mapping[str, KnownSizes] = field(default_factory=dict)
    asleep: Mapping[str, KnownSizes] = field(default_factory=dict)
    splits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    held: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    lacks: Mapping[str, int] = field(default_factory=dict)
    sleeping: frozenset[str] = frozenset()
    nodes: Nodes = field(default_factory=dict)


NOTHING = Figures()
_MADE = (DEFAULT_GROUP, EXTERNAL_GROUP)


def budget_of(config: Config, figures: Figures = NOTHING) -> Memory:
    """Return the memory budget of *config*."""
    devices = _devices(config, figures)
    names = [each.name for each in devices]
    aliases = {
        alias: each.name for each in figures.devices for alias in each.aliases if alias not in names
    }
    groups = [group for group in config.groups.values() if group.id not in _MADE]
    apart = {name: group.id for group in groups if group.swap for name in group.members}
    persistent = {name for group in groups if group.persistent for name in group.members}
    placing = _Placing(names, aliases)
    return Memory(
        devices,
        (
            replace(
                grown(_need(model, figures, placing), figures.lacks.get(model.id, 0)),
                is_pinned=model.pin or model.id in persistent,
                evict_cost=model.evict_cost,
                apart=apart.get(model.id, ""),
            )
            for model in config.models.values()
            if not model.is_elsewhere
        ),
    )


def pools_of(config: Config, nodes: Nodes) -> tuple[Pool, ...]:
    """Return the launchers on clusters that models use, with their machines as far as known."""
    groups = [group for group in config.groups.values() if group.id not in _MADE]
    persistent = {name for group in groups if group.persistent for name in group.members}
    needs: dict[str, list[Need]] = {}
    for model in config.models.values():
        if model.runs_on.is_remote:
            gpus = _parts(model.resources.gpus or 0.0)
            need = Need(
                model.id,
                anywhere=gpus,
                asleep_anywhere=gpus,  # the engine does not know that it sleeps
                is_pinned=model.pin or model.id in persistent,
                evict_cost=model.evict_cost,
                labels=tuple(sorted(model.resources.labels.values())),
            )
            needs.setdefault(model.launcher, []).append(need)
    return tuple(
        Pool(name, tuple(each), tuple(_node(name, node) for node in nodes.get(name, ())))
        for name, each in needs.items()
    )


def _node(launcher: str, node: FoundNode) -> Device:
    parts = _parts(node.gpus), _parts(node.others)
    return Device(
        f"{launcher}/{node.name}",
        parts[0],
        others=parts[1],
        holders="other jobs" if parts[1] else "",
        labels=node.labels,
    )


def _parts(gpus: float) -> int:
    return round(gpus * GPU_PARTS)


def _devices(config: Config, figures: Figures) -> list[Device]:
    """Return the devices of the file, and those of the machine beside them: GPUs first.

    Where the file gives a device less than it has, other programs take from the rest first.
    """
    found = {each.name: each for each in figures.devices}
    given = {each.name: each for each in config.memory}
    devices = []
    for name in sorted({RAM, *found, *given}, key=lambda each: (each == RAM, len(each), each)):
        there, wanted = found.get(name), given.get(name)
        total = there.total if there is not None else 0
        capacity = (wanted.capacity_bytes if wanted is not None else 0) or total
        if not capacity and name != RAM:
            continue  # its driver does not say what it has, and neither does the file
        others = max(0, there.others - max(0, total - capacity)) if there is not None else 0
        reserve = min(wanted.reserve_bytes, capacity) if wanted is not None else 0
        holders = there.holders if there is not None and others else ""
        devices.append(Device(name, capacity, reserve, others, holders))
    return devices


@dataclass(frozen=True, slots=True)
class _Placing:
    """The names of the devices; *aliases* are GPUs that share the memory of one of them."""

    names: list[str]
    aliases: Mapping[str, str]

    @property
    def gpus(self) -> list[str]:
        return [name for name in self.names if name != RAM]

    def shares(self, sizes: Iterable[tuple[str, int]]) -> tuple[Share, ...]:
        """Return *sizes* with aliases resolved."""
        found: dict[str, int] = {}
        for name, size in sizes:
            device = self.aliases.get(name, name)
            found[device] = found.get(device, 0) + size
        return tuple(Share(name, size) for name, size in found.items())

    def split(self, total: int, parts: Mapping[str, float]) -> tuple[Share, ...]:
        """Return *total* by *parts*, without any evenly on all GPUs, in RAM without a GPU."""
        known = {name: part for name, part in parts.items() if name in self.names and part > 0}
        if not known:
            known = dict.fromkeys(self.gpus or [RAM], 1.0)
        whole = sum(known.values())
        return tuple(Share(name, int(total * part / whole)) for name, part in known.items())


def _need(model: ModelConfig, figures: Figures, placing: _Placing) -> Need:
    split = figures.splits.get(model.id, {})
    shares, anywhere, source = _sizes(model.memory, figures.needs.get(model.id), split, placing)
    asleep, asleep_anywhere, _ = _sizes(
        model.asleep_memory, figures.asleep.get(model.id), split, placing
    )
    return Need(
        model.id,
        shares,
        anywhere,
        asleep,
        asleep_anywhere,
        is_known=source != UNKNOWN,
        device=placing.aliases.get(model.device, model.device),
        source=source,
        measured=placing.shares(figures.held.get(model.id, {}).items()),
        is_measured_asleep=model.id in figures.sleeping,
    )


def _sizes(
    given: MemoryNeed | None,
    found: KnownSizes | None,
    split: Mapping[str, float],
    placing: _Placing,
) -> tuple[tuple[Share, ...], int, str]:
    """Return what a model takes on certain devices, on any one GPU, and the source of that."""
    if given is None:
        if found is None:
            return (), 0, UNKNOWN
        return placing.shares(found.sizes.items()), 0, found.source
    if given.total_bytes:
        return placing.split(given.total_bytes, split), 0, DECLARED
    sizes = [(each.device, each.size_bytes) for each in given.sizes]
    if given.anywhere_bytes and placing.aliases and not placing.gpus:  # the GPU uses RAM
        sizes.append((RAM, given.anywhere_bytes))
        return placing.shares(sizes), 0, DECLARED
    return placing.shares(sizes), given.anywhere_bytes, DECLARED


def grown(need: Need, times: int) -> Need:
    """Return *need* after *times* loads that ran out of memory with less."""
    if not times:
        return need
    factor = GROWTH**times
    shares = tuple(Share(each.device, int(each.size * factor)) for each in need.shares)
    return replace(
        need,
        shares=shares,
        anywhere=int(need.anywhere * factor),
        source=f"{need.source} + {factor - 1:.0%}, having run out of memory",
        lacks=times,
    )
