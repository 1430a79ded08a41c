"""What models were measured to need, kept in the state directory.

A figure belongs to a definition and its model files: a changed command, or another file by the same
name, is another model. Devices are named by UUID, since numbers change when a card is added. Beside
it is how often loads ran out of memory, by which the need grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmsnap.memory.gpus import DeviceMemory
from llmsnap.memory.ledger import Peak
from llmsnap.remembered import Remembered
from llmsnap.statedir import StateDir

FILE = "memory.json"
MOST_FILE_BYTES = 4 << 20
LEAST_CHANGE = 16 * 1024**2
"""A peak that grows by less is not written."""
MOST_LACKS = 50
"""The need is a hundred times the figure then."""


@dataclass(frozen=True, slots=True)
class LearnedNeed:
    """Bytes by the UUID of the device, while ready and asleep; *day* as ``2026-11-30``.

    *ready* is empty before the first measurement, *asleep* is None before the first sleep. *lacks*
    loads ran out of memory since then, while the file had *declared* as the need.
    """

    ready: Mapping[str, int]
    asleep: Mapping[str, int] | None
    day: str
    by_difference: bool = False
    lacks: int = 0
    declared: str = ""

    @property
    def source(self) -> str:
        """Where the figure is from, for people."""
        return f"measured {self.day}" + (" by difference" if self.by_difference else "")

    def on(self, devices: Iterable[DeviceMemory]) -> dict[str, int]:
        """Return what was held while ready, by the present names of *devices*."""
        return _named(self.ready, devices)

    def asleep_on(self, devices: Iterable[DeviceMemory]) -> dict[str, int] | None:
        """Return what was held asleep, by the present names of *devices*; None: not known."""
        return None if self.asleep is None else _named(self.asleep, devices)


class LearnedNeeds:
    """The figures of all definitions, by digest; ``open`` and ``write`` block."""

    def __init__(self, state: StateDir) -> None:
        what = "measurements of what models need"
        self._known = Remembered(state, FILE, what, MOST_FILE_BYTES, _parsed)
        self.open, self.write = self._known.open, self._known.write

    def __repr__(self) -> str:
        return f"<LearnedNeeds of {len(self._known)} definitions>"

    def get(self, digest: str) -> LearnedNeed | None:
        """Return what is known of a definition."""
        return self._known.get(digest)

    def note(self, digest: str, peak: Peak, devices: Iterable[DeviceMemory], day: str) -> bool:
        """Take the peak of a run; return whether it changed what is known.

        Peaks of processes add up to the highest of all runs. One by difference replaces the last,
        since other programs may have taken part of it. Where no need is declared, a higher peak
        ends the growth by loads that lacked memory: it is what they lacked.
        """
        uuids = {each.name: key_of(each) for each in devices}
        ready = {uuids[name]: size for name, size in peak.ready.items() if name in uuids}
        seen = {uuids[name]: size for name, size in peak.asleep.items() if name in uuids}
        asleep: Mapping[str, int] | None = seen or None
        before = self._known.get(digest)
        if before is not None and not peak.by_difference and not before.by_difference:
            ready = {
                name: max(before.ready.get(name, 0), ready.get(name, 0))
                for name in {**before.ready, **ready}
            }
        lacks, declared = 0, ""
        if before is not None:
            asleep = asleep if asleep is not None else before.asleep
            if before.declared or sum(ready.values()) < sum(before.ready.values()) + LEAST_CHANGE:
                lacks, declared = before.lacks, before.declared
            same = _is_near(ready, before.ready) and _is_near(asleep or {}, before.asleep or {})
            if same and (asleep is None) == (before.asleep is None):
                return False
        need = LearnedNeed(ready, asleep, day, peak.by_difference, lacks, declared)
        self._known.keep(digest, need)
        return True

    def note_lack(self, digest: str, declared: str) -> None:
        """Note that a load ran out of memory, with *declared* as the need in the file, if any."""
        lacks = min(self.lacks(digest, declared) + 1, MOST_LACKS)
        before = self._known.get(digest) or LearnedNeed({}, None, "")
        self._known.keep(digest, replace(before, lacks=lacks, declared=declared))

    def lacks(self, digest: str, declared: str) -> int:
        """Return how often loads ran out of memory; with another need *declared* it begins anew."""
        known = self._known.get(digest)
        return known.lacks if known is not None and known.declared == declared else 0

    def forget_lacks(self, digest: str) -> None:
        """Forget the loads that ran out of memory."""
        known = self._known.get(digest)
        if known is not None:
            self._known.keep(digest, replace(known, lacks=0, declared=""))


def key_of(device: DeviceMemory) -> str:
    """Return what a device is remembered by."""
    return device.uuid or device.name


def digest_of(definition: Iterable[str], files: Iterable[str]) -> str:
    """Return the digest of a definition and its model files. Blocks on the file system."""
    words = list(definition)
    for name in files:
        try:
            found = Path(name).stat()
            words.append(f"{name} {found.st_size} {found.st_mtime_ns}")
        except OSError:
            words.append(name)
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _named(sizes: Mapping[str, int], devices: Iterable[DeviceMemory]) -> dict[str, int]:
    names = {key_of(each): each.name for each in devices}
    return {names[uuid]: size for uuid, size in sizes.items() if uuid in names}


def _is_near(one: Mapping[str, int], other: Mapping[str, int]) -> bool:
    return all(
        abs(one.get(name, 0) - other.get(name, 0)) < LEAST_CHANGE for name in {**one, **other}
    )


def _parsed(entry: Mapping[str, Any]) -> LearnedNeed:
    need = LearnedNeed(**entry)
    if not 0 <= need.lacks <= MOST_LACKS:
        raise ValueError("it did not run out of memory so often")
    ready = {str(name): int(size) for name, size in need.ready.items()}
    asleep = need.asleep
    if asleep is not None:
        asleep = {str(name): int(size) for name, size in asleep.items()}
    return replace(need, ready=ready, asleep=asleep)
