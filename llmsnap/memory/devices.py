"""The devices of this machine: GPUs and RAM, what they have, and which processes use it.

``find_devices`` returns what reads them. Tests and the simulator replace all of them by pretend
devices in a JSON file, which ``LLMSNAP_DEVICES=file:PATH`` names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from llmsnap.limits import memory_bytes, memory_used
from llmsnap.memory.gpus import DeviceMemory, DeviceProvider, DrmDevices, NvmlDevices
from llmsnap.memory.processes import PROC, started

RAM = "ram"
VARIABLE = "LLMSNAP_DEVICES"
"""The environment variable that names pretend devices, for llmsnap and for its simulator."""
PREFIX = "file:"
MOST_FILE_CHARS = 1 << 20


class MachineDevices:
    """GPUs of several drivers as ``gpu0``, ``gpu1``, ..., and the RAM of the machine or container.

    GPUs that share the machine's memory are aliases of ``ram``: there is one pool. *names* are
    those of the cards seen so far, by UUID: when one is lost, the others keep theirs.
    """

    def __init__(
        self,
        gpus: Sequence[DeviceProvider],
        root: Path = Path("/"),
        names: dict[str, str] | None = None,
    ) -> None:
        self._gpus, self._root = gpus, root
        self._names = {} if names is None else names

    def read(self) -> tuple[DeviceMemory, ...]:
        """See DeviceProvider."""
        found = [gpu for provider in self._gpus for gpu in provider.read()]
        named = [replace(gpu, name=self._name(gpu)) for gpu in found]
        cards = [gpu for gpu in named if not gpu.shares_ram]
        shared = [gpu for gpu in named if gpu.shares_ram]
        # What the firmware has set apart for the GPU is not in the machine's total.
        total = memory_bytes(self._root) + sum(gpu.total for gpu in shared)
        used = memory_used(self._root) + sum(gpu.used for gpu in shared if gpu.total)
        pids: dict[int, int] = {}
        for gpu in shared:
            for pid, held in gpu.pids.items():
                pids[pid] = pids.get(pid, 0) + held
        aliases = tuple(gpu.name for gpu in shared)
        ram = DeviceMemory(RAM, total, min(used, total), pids, is_ram=True, aliases=aliases)
        return (*cards, ram)

    def _name(self, gpu: DeviceMemory) -> str:
        key = gpu.uuid or f"{gpu.vendor} {gpu.index}"
        return self._names.setdefault(key, f"gpu{len(self._names)}")


class PretendDevices:
    """The devices of a JSON file, read anew each time.

    ``{"gpu0": {"capacity": 17179869184, "used": {"4711.995": 1073741824}}}``: *used* is by
    process, its pid and the time it started (field 22 of ``/proc/PID/stat``). Entries of processes
    that have ended do not count.
    """

    def __init__(self, path: Path, proc: Path = PROC) -> None:
        self._path, self._proc = path, proc

    def read(self) -> tuple[DeviceMemory, ...]:
        """See DeviceProvider. Raises: OSError, ValueError where the file is no such JSON."""
        if not self._path.is_file():  # a pipe might be waited for without end
            raise ValueError(f"{self._path} is no file")
        with self._path.open() as file:
            text = file.read(MOST_FILE_CHARS)
        try:
            document = json.loads(text)
            return tuple(
                self._device(number, name, each)
                for number, (name, each) in enumerate(document.items())
            )
        except (AttributeError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ValueError(f"{self._path} does not describe devices: {error!r}") from None

    def _device(self, number: int, name: str, given: Mapping[str, object]) -> DeviceMemory:
        used = given.get("used", {})
        capacity = given["capacity"]
        if not isinstance(used, dict) or type(capacity) is not int or capacity < 0:
            raise TypeError(f"{name} has no capacity in bytes, or used is no object")
        pids: dict[int, int] = {}
        for process, held in used.items():
            pid, _, start = process.partition(".")
            if started(int(pid), proc=self._proc) == start:
                pids[int(pid)] = pids.get(int(pid), 0) + max(0, int(held))
        total = sum(pids.values())
        return DeviceMemory(name, capacity, total, pids, f"pretend-{name}", index=number)


def find_devices(
    environ: Mapping[str, str] = os.environ, names: dict[str, str] | None = None
) -> DeviceProvider:
    """Return what reads the devices of this machine, or the pretend ones. Blocks on drivers.

    *names* are those that cards were given before, by UUID; new ones are added.
    """
    given = environ.get(VARIABLE, "")
    if given.startswith(PREFIX):
        return PretendDevices(Path(given.removeprefix(PREFIX)))
    gpus: list[DeviceProvider] = []
    try:
        nvidia = NvmlDevices()
        nvidia.read()
        gpus.append(nvidia)
    except Exception:  # noqa: BLE001, S110 - no library, no driver, no GPU: each its own error
        pass
    others = DrmDevices()
    if len(others):
        gpus.append(others)
    return MachineDevices(gpus, names=names)
