"""Pretend devices: a JSON file with what each device has and which process uses how much of it.

``LLMSNAP_DEVICES=file:PATH`` names the file. What reads it treats entries of ended processes as
free, so a simulator that is killed leaves nothing behind.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from llmsnap.simulator.exchange import Json

VARIABLE = "LLMSNAP_DEVICES"
PREFIX = "file:"
ANY = "any"
"""The GPU that CUDA_VISIBLE_DEVICES names."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT])iB")
_POWERS = {"K": 1, "M": 2, "G": 3, "T": 4}

Sizes = Mapping[str, int]
"""Bytes by device."""


class DeviceFull(Exception):
    """A device has not enough left; *device* and *wanted*, in bytes, say which and how much."""

    def __init__(self, device: str, wanted: int) -> None:
        super().__init__(f"{device} has less than {wanted} bytes left")
        self.device, self.wanted = device, wanted


def sizes(text: str) -> dict[str, int]:
    """Return the bytes by device of ``gpu0=18GiB,ram=512MiB``. Raises: ValueError."""
    found = {}
    for part in text.split(","):
        name, _, size = part.partition("=")
        match = _SIZE.fullmatch(size)
        if not name or match is None:
            raise ValueError(f"{part} is not of the form gpu0=18GiB")
        found[name] = int(float(match[1]) * 1024 ** _POWERS[match[2]])
    return found


class PretendMemory:
    """What this process holds on the pretend devices of the file at *path*."""

    def __init__(self, path: Path, visible: str = "") -> None:
        self._path = path
        self._visible = visible
        self._me = f"{os.getpid()}.{_started(str(os.getpid()))}"

    def __repr__(self) -> str:
        return f"<PretendMemory of {self._me} in {self._path}>"

    def hold(self, wanted: Sizes) -> None:
        """Hold *wanted* instead of what was held. Raises: DeviceFull; then nothing is held."""
        with self._locked() as devices:
            named = {self._device(name): size for name, size in wanted.items()}
            for name, device in devices.items():
                used: dict[str, int] = device.setdefault("used", {})
                for process in [each for each in used if each == self._me or not _lives(each)]:
                    del used[process]
                if name in named:
                    used[self._me] = named[name]
            for name, size in named.items():
                if (
                    name not in devices
                    or sum(devices[name]["used"].values()) > (devices[name]["capacity"])
                ):
                    for device in devices.values():
                        device["used"].pop(self._me, None)
                    raise DeviceFull(name, size)

    def leave_to(self, pid: int) -> None:
        """Let the process *pid* hold what this one held."""
        with self._locked() as devices:
            for device in devices.values():
                used: dict[str, int] = device.setdefault("used", {})
                if self._me in used:
                    used[f"{pid}.{_started(str(pid))}"] = used.pop(self._me)

    def _device(self, name: str) -> str:
        """Return the device that *name* means: CUDA_VISIBLE_DEVICES has a number, or a UUID."""
        if name != ANY:
            return name
        first = self._visible.partition(",")[0].removeprefix("pretend-").removeprefix("gpu") or "0"
        return f"gpu{first}"

    @contextmanager
    def _locked(self) -> Iterator[dict[str, Json]]:
        """Yield the devices; what is changed is written, also after DeviceFull."""
        with self._path.with_name(f"{self._path.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            devices = json.loads(self._path.read_text())
            try:
                yield devices
            finally:
                new = self._path.with_name(f"{self._path.name}.new")
                new.write_text(json.dumps(devices))
                new.replace(self._path)


def find_pretend_memory(environ: Mapping[str, str] = os.environ) -> PretendMemory | None:
    """Return the pretend devices that the environment names; None without any."""
    given = environ.get(VARIABLE, "")
    if not given.startswith(PREFIX):
        return None
    visible = environ.get("CUDA_VISIBLE_DEVICES", "")
    return PretendMemory(Path(given.removeprefix(PREFIX)), visible)


def _lives(process: str) -> bool:
    pid, _, start = process.partition(".")
    return _started(pid) == start


def _started(pid: str) -> str:
    """Return field 22 of ``/proc/PID/stat``; "" of a process that has ended."""
    try:
        fields = Path("/proc", pid, "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return fields[19] if fields[0] != "Z" else ""
