"""The memory that process trees hold: RAM from smaps, GPU memory from NVML and from fdinfo.

Sources: proc(5); the kernel's documentation of DRM client usage statistics (``drm-usage-stats``);
NVML's ``nvmlDeviceGetComputeRunningProcesses``. All functions block on the kernel and on drivers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
KIB = 1024
MAX_PROCESSES = 4096
"""Of one tree. A tree that changes while it is read could otherwise be walked without end."""
UNITS = {"": 1, "B": 1, "KiB": KIB, "MiB": KIB**2, "GiB": KIB**3}
ON_CARD = ("vram", "local")
"""Region names of a card's own memory: amdgpu, nouveau and xe say vram, i915 says local."""
MAPPING = re.compile(rb"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ +(/.*)")

ChildrenOf = Callable[[int], Iterable[int]]


@dataclass(frozen=True, slots=True)
class TreeMemory:
    """The bytes that one process tree holds.

    *ram* is what no other process shares plus its share of the rest (PSS), shared libraries and
    other mapped files excluded. *weights* is the resident part of the named files that it maps.
    *gpus* is by PCI address (``0000:01:00.0``) or NVIDIA UUID.
    """

    ram: int = 0
    weights: int = 0
    gpus: Mapping[str, int] = field(default_factory=dict)

    @property
    def ram_needed(self) -> int:
        """RAM with the weights that are used from there: those that no GPU has a copy of."""
        return self.ram + max(0, self.weights - sum(self.gpus.values()))


@dataclass(frozen=True, slots=True)
class TreeActivity:
    """The bytes that a process tree has moved so far, and those that it has in memory now.

    *moved* went through read(2), write(2) and their like, *disk* came from a disk, which includes
    pages of mapped files. A tree whose child ended has moved less than before.
    """

    moved: int = 0
    disk: int = 0
    resident: int = 0

    @property
    def loaded(self) -> int:
        """The best figure for how much of a model's files was loaded."""
        return max(self.moved, self.disk, self.resident)

    def has_grown(self, before: TreeActivity, least: int) -> bool:
        """Whether any figure has grown by *least* since *before*."""
        return (
            self.moved - before.moved >= least
            or self.disk - before.disk >= least
            or self.resident - before.resident >= least
        )


@dataclass(frozen=True, slots=True)
class DrmClient:
    """One open handle of a GPU: descriptors with the same *client* share its memory."""

    device: str
    client: str
    on_card: int


class NvmlProcesses:
    """GPU memory of processes through NVML, which is loaded with the first object of this class."""

    def __init__(self, nvml: Any = None) -> None:
        self._nvml = nvml if nvml is not None else import_module("pynvml")
        self._nvml.nvmlInit()

    def used(self) -> dict[int, dict[str, int]]:
        """Return the bytes of each process by the UUID of the GPU; unknown figures are left out.

        A process is listed as compute and as graphics client with the same figure.
        """
        found: dict[int, dict[str, int]] = {}
        for index in range(self._nvml.nvmlDeviceGetCount()):
            gpu = self._nvml.nvmlDeviceGetHandleByIndex(index)
            uuid = self._nvml.nvmlDeviceGetUUID(gpu)
            name = uuid.decode() if isinstance(uuid, bytes) else uuid
            for one in self._clients(gpu):
                if one.usedGpuMemory is not None:  # None: not supported, or not permitted
                    held = found.setdefault(one.pid, {})
                    held[name] = max(held.get(name, 0), one.usedGpuMemory)
        return found

    def _clients(self, gpu: Any) -> Iterator[Any]:
        for call in (
            self._nvml.nvmlDeviceGetComputeRunningProcesses,
            self._nvml.nvmlDeviceGetGraphicsRunningProcesses,
        ):
            with suppress(self._nvml.NVMLError):
                yield from call(gpu)


def no_nvidia_processes() -> dict[int, dict[str, int]]:
    """Return the GPU memory of processes on a machine without NVIDIA GPUs."""
    return {}


def find_nvidia_processes() -> Callable[[], dict[int, dict[str, int]]]:
    """Return the function that reads NVML's figures; one that returns nothing without NVML."""
    try:
        return NvmlProcesses().used
    except Exception:  # noqa: BLE001 - no library, no driver, no GPU: each its own error
        return no_nvidia_processes


def tree_memory(
    pid: int,
    *,
    weights: Iterable[str] = (),
    nvidia: Mapping[int, Mapping[str, int]] | None = None,
    proc: Path = PROC,
) -> TreeMemory | None:
    """Return the memory of *pid* and all its descendants; None when *pid* has ended.

    *weights* are the paths of model files, *nvidia* is what ``NvmlProcesses.used`` returned. The
    kernel walks all pages of a process for this: run it in a thread.
    """
    if not (proc / str(pid)).exists():
        return None
    ram = mapped = 0
    gpus: dict[str, int] = {}
    clients: dict[tuple[str, str], int] = {}
    files = frozenset(path.encode() for path in weights)
    for each in tree(pid, proc=proc):
        ram += private_ram(each, proc=proc)
        if files:
            mapped += resident_files(each, files, proc=proc)
        for client in drm_clients(each, proc=proc):
            clients[client.device, client.client] = client.on_card
        for device, used in (nvidia or {}).get(each, {}).items():
            gpus[device] = gpus.get(device, 0) + used
    for (device, _), used in clients.items():
        gpus[device] = gpus.get(device, 0) + used
    return TreeMemory(ram, mapped, gpus)


def tree_activity(pid: int, *, proc: Path = PROC) -> TreeActivity:
    """Return the activity of *pid* and its descendants; zeros once all have ended. Never waits."""
    moved = disk = resident = 0
    for each in tree(pid, proc=proc):
        counted = _fields(proc / str(each) / "io")
        moved += counted.get("rchar", 0) + counted.get("wchar", 0)
        disk += counted.get("read_bytes", 0)
        with suppress(OSError, ValueError, IndexError):  # it ended meanwhile
            pages = int((proc / str(each) / "statm").read_bytes().split()[1])
            resident += pages * PAGE
    return TreeActivity(moved, disk, resident)


def tree(pid: int, *, children_of: ChildrenOf | None = None, proc: Path = PROC) -> list[int]:
    """Return *pid* and its descendants."""
    read = children_of or (lambda each: children(each, proc=proc))
    found, waiting = dict.fromkeys([pid]), [pid]
    while waiting and len(found) < MAX_PROCESSES:
        new = [child for child in read(waiting.pop()) if child not in found]
        found.update(dict.fromkeys(new))
        waiting += new
    return list(found)


def children(pid: int, *, proc: Path = PROC) -> list[int]:
    """Return the children of one process, without reading the others (proc(5), since 4.2)."""
    found: list[int] = []
    with suppress(OSError):  # it, or one of its threads, ended meanwhile
        for thread in (proc / str(pid) / "task").iterdir():
            found += map(int, (thread / "children").read_bytes().split())
    return found


def private_ram(pid: int, *, proc: Path = PROC) -> int:
    """Return the proportional share of a process's anonymous and shared memory; 0 once it ended.

    From ``smaps_rollup`` (since Linux 4.14; its parts since 5.3). Where that lacks the parts, from
    ``status``, which counts shared pages in full.
    """
    rollup = _fields(proc / str(pid) / "smaps_rollup")
    if "Pss_Anon" in rollup:
        return rollup["Pss_Anon"] + rollup.get("Pss_Shmem", 0)
    status = _fields(proc / str(pid) / "status")
    return status.get("RssAnon", 0) + status.get("RssShmem", 0)


def resident_files(pid: int, files: frozenset[bytes], *, proc: Path = PROC) -> int:
    """Return the proportional share of the mappings of *files* that are in memory."""
    total, counts = 0, False
    try:
        with (proc / str(pid) / "smaps").open("rb") as lines:
            for line in lines:
                if found := MAPPING.match(line):
                    counts = found[1] in files
                elif counts and line.startswith(b"Pss:"):
                    total += int(line.split()[1]) * KIB
                elif not line[:1].isupper():
                    counts = False  # a mapping without a path
    except (OSError, ValueError):
        pass  # it ended meanwhile
    return total


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
    values = dict(_pairs(text))
    device, client = values.get("drm-pdev", ""), values.get("drm-client-id", "")
    if not device or not client:
        return None
    held: dict[str, int] = {}
    for prefix in ("drm-memory-", "drm-resident-"):
        for name, value in values.items():
            region = name.removeprefix(prefix)
            if region != name and region.startswith(ON_CARD):
                held[region] = size(value)
    return DrmClient(device, client, sum(held.values()))


def size(text: str) -> int:
    """Return the bytes of ``1024 KiB``; a number without a unit is bytes."""
    number, _, unit = text.partition(" ")
    factor = UNITS.get(unit.strip())
    return int(number) * factor if factor and number.isdecimal() else 0


def _fields(path: Path) -> dict[str, int]:
    """Return the numbers of a file of /proc, in bytes; none of a process that ended."""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return {}
    return {name: size(value.replace("kB", "KiB")) for name, value in _pairs(text)}


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()
