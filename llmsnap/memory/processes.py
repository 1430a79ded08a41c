"""The memory that process trees hold: RAM from proc(5), GPU memory as the devices report it.

All functions block on the kernel.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

PROC = Path("/proc")
PAGE = os.sysconf("SC_PAGE_SIZE")
KIB = 1024
MAX_PROCESSES = 4096
"""Of one tree. A tree that changes while it is read could otherwise be walked without end."""
UNITS = {"": 1, "B": 1, "KiB": KIB, "MiB": KIB**2, "GiB": KIB**3}
MAPPING = re.compile(rb"[0-9a-f]+-[0-9a-f]+ \S+ \S+ \S+ \d+ +(/.*)")

ChildrenOf = Callable[[int], Iterable[int]]


@dataclass(frozen=True, slots=True)
class TreeMemory:
    """The bytes that one process tree holds.

    *ram* is what no other process shares plus its share of the rest (PSS), shared libraries and
    other mapped files excluded. *weights* is the resident part of the named files that it maps.
    *devices* is what the drivers of devices report, by their names. *pids* are its processes.
    """

    ram: int = 0
    weights: int = 0
    devices: Mapping[str, int] = field(default_factory=dict)
    pids: frozenset[int] = field(default=frozenset(), compare=False)

    @property
    def ram_needed(self) -> int:
        """RAM with the weights that are used from there: those that no GPU has a copy of."""
        return self.ram + max(0, self.weights - sum(self.devices.values()))


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


def tree_memory(
    pid: int,
    *,
    weights: Iterable[str] = (),
    devices: Mapping[str, Mapping[int, int]] | None = None,
    proc: Path = PROC,
) -> TreeMemory | None:
    """Return the memory of *pid* and all its descendants; None when *pid* has ended.

    *weights* are the paths of model files, *devices* the bytes of each process by device. The
    kernel walks all pages of a process for this: run it in a thread.
    """
    if not (proc / str(pid)).exists():
        return None
    ram = mapped = 0
    held: dict[str, int] = {}
    files = frozenset(path.encode() for path in weights)
    family = tree(pid, proc=proc)
    for each in family:
        ram += private_ram(each, proc=proc)
        if files:
            mapped += resident_files(each, files, proc=proc)
        for device, pids in (devices or {}).items():
            if each in pids:
                held[device] = held.get(device, 0) + pids[each]
    return TreeMemory(ram, mapped, held, frozenset(family))


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
    """Return the resident bytes of the mappings of *files*, pages shared with others in full.

    Two servers of one model file share its pages, but each needs all of them once it is alone.
    """
    total, counts = 0, False
    try:
        with (proc / str(pid) / "smaps").open("rb") as lines:
            for line in lines:
                if found := MAPPING.match(line):
                    counts = found[1] in files
                elif counts and line.startswith(b"Rss:"):
                    total += int(line.split()[1]) * KIB
                elif not line[:1].isupper():
                    counts = False  # a mapping without a path
    except (OSError, ValueError):
        pass  # it ended meanwhile
    return total


def program(pid: int, *, proc: Path = PROC) -> str:
    """Return the name of the program of *pid*, without its arguments, which may have secrets."""
    try:
        name = (proc / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return "a process"
    return name if name.isprintable() else "a process"


def started(pid: int, *, proc: Path = PROC) -> str:
    """Return when *pid* was started, in clock ticks since boot (proc(5)); "" if it has ended."""
    try:
        stat = (proc / str(pid) / "stat").read_bytes()
    except OSError:
        return ""
    # The name of the program, in parentheses, may contain any byte.
    fields = stat[stat.rfind(b")") + 2 :].split()
    return fields[19].decode() if len(fields) > 19 and fields[0] != b"Z" else ""


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
    return {name: size(value.replace("kB", "KiB")) for name, value in pairs(text)}


def pairs(text: str) -> Iterator[tuple[str, str]]:
    """Yield (name, value) of the lines ``name: value`` of a file of /proc."""
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()
