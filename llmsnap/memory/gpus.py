"""GPUs and what processes hold of their memory, from NVML, sysfs and fdinfo.

Sources: NVML; the kernel's documentation of amdgpu, xe and of DRM client usage statistics
(``drm-usage-stats``). Everything blocks on drivers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from llmsnap.memory.processes import PROC, pairs, size

DRM = Path("/sys/class/drm")
ON_CARD = ("vram", "local")
"""Region names of a card's own memory: amdgpu, nouveau and xe say vram, i915 says local."""
IN_RAM = ("gtt", "system")
AMD, INTEL = "0x1002", "0x8086"
DRIVERS = {AMD: "amd", INTEL: "intel"}
VENDOR_UNKNOWN = ("", "unknown")
"""Of the memory chips: amdgpu knows their vendor on cards, and not where they are the machine's."""


@dataclass(frozen=True, slots=True)
class DeviceMemory:
    """One device now: bytes it has (0: not known), bytes in use, and by which processes.

    *pids* is empty where the driver does not say. *uuid* stays the same when cards are added, and
    *index* counts the devices of one *vendor*, in order of their addresses. A device with
    *shares_ram* is a GPU without memory of its own. *aliases* are further names of it. *is_ram* is
    the memory of the machine, of which the kernel has no list by process: *pids* is then what GPUs
    that share it hold.
    """

    name: str
    total: int
    used: int
    pids: Mapping[int, int] = field(default_factory=dict)
    uuid: str = ""
    vendor: str = ""
    index: int = 0
    shares_ram: bool = False
    is_ram: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def free(self) -> int:
        """The bytes not in use."""
        return max(0, self.total - self.used)


class DeviceProvider(Protocol):
    """Reads devices; each call may block, forever if a driver hangs."""

    def read(self) -> tuple[DeviceMemory, ...]:
        """Return all devices now."""
        ...


class NvmlDevices:
    """NVIDIA GPUs, in order of their PCI addresses. NVML is loaded with the first object."""

    def __init__(self, nvml: Any = None, proc: Path = PROC) -> None:
        self._proc = proc
        self._nvml = nvml if nvml is not None else import_module("pynvml")
        self._nvml.nvmlInit()
        self._last: dict[int, DeviceMemory] = {}

    def read(self) -> tuple[DeviceMemory, ...]:
        """See DeviceProvider. A card that cannot be read is as it was last."""
        count = self._nvml.nvmlDeviceGetCount()
        for index in range(count):
            with suppress(self._nvml.NVMLError):  # it is lost, or is being reset
                self._last[index] = self._device(index)
        return tuple(self._last[index] for index in range(count) if index in self._last)

    def _device(self, index: int) -> DeviceMemory:
        gpu = self._nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = self._nvml.nvmlDeviceGetUUID(gpu)
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(gpu)
            total, used = memory.total, memory.used
        except self._nvml.NVMLError:  # GB10 and Jetson: the GPU uses the machine's memory
            if index in self._last and self._last[index].total:
                raise  # it has its own, and is in trouble
            total = used = 0
        return DeviceMemory(
            f"gpu{index}",
            total,
            used,
            self._pids(gpu),
            uuid=uuid.decode() if isinstance(uuid, bytes) else uuid,
            vendor="nvidia",
            index=index,
            shares_ram=not total,
        )

    def _pids(self, gpu: Any) -> dict[int, int]:
        """Return the bytes of each process; unknown figures are left out.

        A process is listed as compute and as graphics client with the same figure. In a container
        the pids are those of the host, and say nothing here.
        """
        held: dict[int, int] = {}
        for call in (
            self._nvml.nvmlDeviceGetComputeRunningProcesses,
            self._nvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            with suppress(self._nvml.NVMLError):
                for one in call(gpu):
                    if one.usedGpuMemory is not None:  # None: not supported, or not permitted
                        held[one.pid] = max(held.get(one.pid, 0), one.usedGpuMemory)
        known = sum((self._proc / str(pid)).exists() for pid in held)
        return held if 2 * known >= len(held) else {}


class DrmDevices:
    """AMD and Intel GPUs by their Linux drivers, in order of their PCI addresses."""

    def __init__(self, root: Path = DRM, proc: Path = PROC) -> None:
        self._proc = proc
        cards = [card for card in root.glob("card*") if card.name[4:].isdecimal()]
        known = [card for card in cards if _text(card / "device/vendor") in DRIVERS]
        self._cards = sorted(known, key=_address)

    def __len__(self) -> int:
        return len(self._cards)

    def read(self) -> tuple[DeviceMemory, ...]:
        """See DeviceProvider. Processes of other users are seen by root alone."""
        clients = all_clients(self._proc)
        counts: dict[str, int] = {}
        found = []
        for number, card in enumerate(self._cards):
            vendor = DRIVERS[_text(card / "device/vendor")]
            index = counts[vendor] = counts.get(vendor, -1) + 1
            pids = clients.get(_address(card), {})
            found.append(self._device(f"gpu{number}", card, vendor, index, pids))
        return tuple(found)

    def _device(
        self, name: str, card: Path, vendor: str, index: int, clients: Mapping[int, DrmUse]
    ) -> DeviceMemory:
        device = card / "device"
        total = _number(device / "mem_info_vram_total") or _intel_total(card)
        shares_ram = not total
        if vendor == "amd" and _text(device / "mem_info_vram_vendor").lower() in VENDOR_UNKNOWN:
            shares_ram = True
        pids = {
            pid: use.on_card + (use.in_ram if shares_ram else 0) for pid, use in clients.items()
        }
        used = _number(device / "mem_info_vram_used")
        unique = _text(device / "unique_id")
        return DeviceMemory(
            name,
            total,
            sum(pids.values()) if used is None else used,
            pids,
            uuid=f"GPU-{unique}" if unique else _address(card),
            vendor=vendor,
            index=index,
            shares_ram=shares_ram,
        )


def _intel_total(card: Path) -> int:
    """Return the memory of an Intel card, of all its tiles; 0 of a GPU that has none."""
    tiles = [_number(tile) or 0 for tile in card.glob("device/tile*/physical_vram_size_bytes")]
    old = _number(card / "device/lmem_total_bytes") or _number(card / "lmem_total_bytes")
    return sum(tiles) or old or 0


def _address(card: Path) -> str:
    """Return the PCI address (``0000:01:00.0``) of the device that a link of sysfs leads to."""
    return (card / "device").resolve().name


# --- clients of DRM -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DrmUse:
    """Bytes in the memory of a card, and in that of the machine."""

    on_card: int = 0
    in_ram: int = 0


@dataclass(frozen=True, slots=True)
class DrmClient:
    """One open handle of a GPU: descriptors with the same *client* share its memory."""

    device: str
    client: str
    use: DrmUse


def all_clients(proc: Path = PROC) -> dict[str, dict[int, DrmUse]]:
    """Return what each process holds, by PCI address; a handle of several counts once."""
    found: dict[str, dict[int, DrmUse]] = {}
    seen: set[tuple[str, str]] = set()
    for pid in sorted(int(each.name) for each in proc.iterdir() if each.name.isdecimal()):
        for client in drm_clients(pid, proc=proc):
            if (client.device, client.client) in seen:
                continue
            seen.add((client.device, client.client))
            pids = found.setdefault(client.device, {})
            before = pids.get(pid, DrmUse())
            pids[pid] = DrmUse(
                before.on_card + client.use.on_card, before.in_ram + client.use.in_ram
            )
    return found


def drm_clients(pid: int, *, proc: Path = PROC) -> Iterator[DrmClient]:
    """Yield the DRM clients of one process: AMD, Intel and nouveau GPUs."""
    try:
        descriptors = sorted((proc / str(pid) / "fd").iterdir())
    except OSError:
        return  # it ended, or belongs to another user
    for descriptor in descriptors:
        try:
            if not str(descriptor.readlink()).startswith("/dev/dri/"):
                continue
            text = (proc / str(pid) / "fdinfo" / descriptor.name).read_text(errors="replace")
        except OSError:
            continue  # closed meanwhile
        if client := drm_client(text):
            yield client


def drm_client(text: str) -> DrmClient | None:
    """Return the client that the text of an fdinfo file describes; None where it is not one.

    ``drm-resident-*`` replaces ``drm-memory-*``, which older drivers print and newer ones repeat.
    """
    values = dict(pairs(text))
    device, client = values.get("drm-pdev", ""), values.get("drm-client-id", "")
    if not device or not client:
        return None
    held: dict[str, int] = {}
    for prefix in ("drm-memory-", "drm-resident-"):
        for name, value in values.items():
            region = name.removeprefix(prefix)
            if region != name:
                held[region] = size(value)
    on_card = sum(used for region, used in held.items() if region.startswith(ON_CARD))
    in_ram = sum(used for region, used in held.items() if region.startswith(IN_RAM))
    return DrmClient(device, client, DrmUse(on_card, in_ram))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _text(path)
    return int(text) if text.isdecimal() else None
