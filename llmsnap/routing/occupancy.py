"""What each device holds now, and what each model needs: the memory budget as a value. Pure.

The figures are those that plans are made with. Without a memory budget there are no devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmsnap.models import State
from llmsnap.routing.cover import Bytes
from llmsnap.routing.entries import ModelState
from llmsnap.routing.matrix import Matrix
from llmsnap.routing.memory import Device, Memory, Need, Share, amount
from llmsnap.routing.pools import budget_in, here_of, pools_in
from llmsnap.routing.state import SchedulerState

UNKNOWN = "unknown"
MEASURED_NOW = "measured now"
"""The source where a model holds more than it is taken to need."""
ANY_GPU = "any"


@dataclass(frozen=True, slots=True)
class Resident:
    """A model in the memory of a device. *source* says where the figure is from."""

    model: str
    bytes: int
    asleep: bool
    source: str


@dataclass(frozen=True, slots=True)
class Reserved:
    """What a decided swap will take, or is taking, beyond what its target holds asleep."""

    model: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Others:
    """What other programs use. *holders* names them, for people."""

    bytes: int
    holders: str


@dataclass(frozen=True, slots=True)
class DeviceOccupancy:
    """One device; sizes are bytes.

    *free* is what is left of *capacity* without *reserve*, *others*, *residents* and *reserved*;
    0 while models that leave still hold what a decided swap will take.
    """

    name: str
    capacity: int
    reserve: int
    others: Others
    free: int
    residents: tuple[Resident, ...]
    reserved: tuple[Reserved, ...]


@dataclass(frozen=True, slots=True)
class ModelNeed:
    """What a model takes while it runs and while it sleeps, by device; ``any`` is any one GPU.

    A model of unknown need has none and the source ``unknown``; *alone_on* is the device that it
    gets alone. *never_fits* is why it can never be loaded; empty if it can.
    """

    model: str
    need: Mapping[str, int]
    asleep: Mapping[str, int]
    source: str
    pinned: bool
    alone_on: str
    never_fits: str


@dataclass(frozen=True, slots=True)
class GpuShare:
    """The GPUs of a machine that a model has, or that a swap is about to take for it."""

    model: str
    gpus: float
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class NodeOccupancy:
    """One machine of a launcher, ``LAUNCHER/NODE``, in GPUs. *others* is what other jobs have."""

    name: str
    gpus: float
    others: float
    free: float
    residents: tuple[GpuShare, ...]
    reserved: tuple[GpuShare, ...]


@dataclass(frozen=True, slots=True)
class Occupancy:
    """All devices in order, and all models in order of definition. *mode* names the residency.

    *nodes* are the machines of launchers, as far as their engines tell.
    """

    mode: str
    devices: tuple[DeviceOccupancy, ...] = ()
    models: tuple[ModelNeed, ...] = ()
    nodes: tuple[NodeOccupancy, ...] = ()


def occupancy(state: SchedulerState) -> Occupancy:
    """Return what each device holds now, and what each model needs."""
    pools = [Memory(each.nodes, each.needs) for each in pools_in(state.residency)]
    nodes = tuple(_in_gpus(each) for pool in pools for each in _devices(pool, state))
    memory = budget_in(state.residency)
    if memory is None:
        is_matrix = isinstance(here_of(state.residency), Matrix)
        return Occupancy("matrix" if is_matrix else "group", nodes=nodes)
    needs = tuple(_need(memory, need) for need in memory.needs)
    return Occupancy("memory", tuple(_devices(memory, state)), needs, nodes)


def _devices(memory: Memory, state: SchedulerState) -> list[DeviceOccupancy]:
    models = ((need, state.models.get(need.model_id)) for need in memory.needs)
    holdings = [
        _holding(memory, need, model)
        for need, model in models
        if model is not None and (model.state not in _GONE or model.swap is not None)
    ]
    return [_use(device, number, holdings) for number, device in enumerate(memory.devices)]


def _in_gpus(node: DeviceOccupancy) -> NodeOccupancy:
    return NodeOccupancy(
        node.name,
        amount(node.name, node.capacity),
        amount(node.name, node.others.bytes),
        amount(node.name, node.free),
        tuple(
            GpuShare(each.model, amount(node.name, each.bytes), each.asleep)
            for each in node.residents
        ),
        tuple(GpuShare(each.model, amount(node.name, each.bytes)) for each in node.reserved),
    )


# --- what models hold -----------------------------------------------------------------------------

_LOADING = (State.STARTING, State.WAKING)
_GONE = (State.STOPPED, State.SHUTDOWN)


@dataclass(frozen=True, slots=True)
class _Holding:
    """What one model holds by device, and what is reserved for it beyond that."""

    model_id: str
    held: Bytes
    reserved: Bytes
    asleep: bool
    source: str


def _holding(memory: Memory, need: Need, model: ModelState) -> _Holding:
    """Return what *model* holds, or is about to; a stopped one is the target of a swap."""
    full = memory.holds(need.model_id, model.device)
    asleep = memory.holds(need.model_id, model.device, asleep=True)
    nothing = (0,) * len(full)
    sleeps = _keeps_asleep(model)
    held, reserved = full, nothing
    if model.state in _LOADING or model.state in _GONE:
        held, reserved = nothing, full
    elif sleeps:
        held = asleep
        if model.swap is not None:
            reserved = tuple(max(0, a - b) for a, b in zip(full, asleep, strict=True))
    counted = memory.held(need.model_id, model.device, asleep=sleeps)
    source = _source(need) if not any(held) or held == counted else MEASURED_NOW
    return _Holding(need.model_id, held, reserved, sleeps, source)


def _keeps_asleep(model: ModelState) -> bool:
    """Tell whether *model* holds what it keeps while it sleeps."""
    stops = model.state is State.STOPPING and model.left_from is State.ASLEEP
    return stops or model.state is State.ASLEEP


def _use(device: Device, number: int, holdings: list[_Holding]) -> DeviceOccupancy:
    residents = tuple(
        Resident(each.model_id, each.held[number], each.asleep, each.source)
        for each in holdings
        if each.held[number]
    )
    reserved = tuple(
        Reserved(each.model_id, each.reserved[number]) for each in holdings if each.reserved[number]
    )
    taken = sum(each.held[number] + each.reserved[number] for each in holdings)
    free = max(0, device.capacity - device.reserve - device.others - taken)
    others = Others(device.others, device.holders)
    return DeviceOccupancy(
        device.name, device.capacity, device.reserve, others, free, residents, reserved
    )


# --- what models need -----------------------------------------------------------------------------


def _need(memory: Memory, need: Need) -> ModelNeed:
    return ModelNeed(
        need.model_id,
        _sizes(need.shares, need.anywhere),
        _sizes(need.asleep, need.asleep_anywhere),
        _source(need),
        need.is_pinned,
        memory.unknown.get(need.model_id, ""),
        memory.why_never(need.model_id),
    )


def _sizes(shares: tuple[Share, ...], anywhere: int) -> dict[str, int]:
    sizes = {each.device: each.size for each in shares}
    return sizes | {ANY_GPU: anywhere} if anywhere else sizes


def _source(need: Need) -> str:
    return need.source if need.is_known else UNKNOWN
