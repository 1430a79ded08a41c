"""How much of the bodies of all requests is held at once: in memory, and on disk.

A body is counted as it comes, not as it is announced: who announces much and sends nothing takes
nothing from others.
"""

from __future__ import annotations

import shutil
import sys
import tempfile

from llmsnap.config.settings import Config
from llmsnap.errors import NoRoom, TooLarge
from llmsnap.limits import memory_bytes

MOST_MEMORY_BYTES = 1 << 30
MEMORY_SHARE, DISK_SHARE = 4, 2
"""A quarter of the memory and half of the free disk, where the configuration says nothing."""
MIB = 1 << 20


class Budget:
    """How many bytes may be held in one *place*; *key* is the setting."""

    __slots__ = ("_key", "_place", "limit_bytes", "used_bytes")

    def __init__(self, place: str, key: str) -> None:
        self._place = place
        self._key = key
        self.limit_bytes = sys.maxsize
        self.used_bytes = 0

    def __repr__(self) -> str:
        return f"<Budget {self.used_bytes} of {self.limit_bytes} bytes {self._place}>"

    def check(self, held: int, size: int) -> None:
        """Raise what a body is refused with that needs *size* bytes and has *held* of them.

        Raises: TooLarge when it never fits, NoRoom when others leave too little. Never switches.
        """
        limit = self.limit_bytes
        if size > limit:
            raise TooLarge(
                f"the body has {size} bytes or more, and {limit} may be held {self._place}; "
                f"{self._key} sets that"
            )
        if self.used_bytes + size - held > limit:
            raise NoRoom(
                f"the bodies of requests take up the {limit // MIB} MiB that may be held "
                f"{self._place} ({self._key}); try again when others are answered"
            )

    def change(self, held: int, size: int) -> None:
        """Count *size* bytes for a body that had *held*. Raises: as ``check``."""
        if size > held:
            self.check(held, size)
        self.used_bytes += size - held


class Bodies:
    """What may be held of all bodies; without a configuration without limit."""

    def __init__(self, config: Config | None = None) -> None:
        self.memory = Budget("in memory", "maxBodyMemory")
        self.disk = Budget("on disk", "maxSpool")
        if config is not None:
            self.configure(config)

    def __repr__(self) -> str:
        return f"<Bodies {self.memory!r}, {self.disk!r}>"

    def configure(self, config: Config) -> None:
        """Apply new settings; what is held stays. Never switches."""
        self.memory.limit_bytes = config.max_body_memory_bytes or min(
            MOST_MEMORY_BYTES, memory_bytes() // MEMORY_SHARE
        )
        self.disk.limit_bytes = config.max_spool_bytes or _free_bytes() // DISK_SHARE

    def held(self) -> Held:
        """Return the share of a new request, which holds nothing yet."""
        return Held(self)


class Held:
    """What one request holds of its body; ``close`` gives it back."""

    __slots__ = ("_bodies", "_in_memory", "_on_disk")

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._in_memory = self._on_disk = 0

    def __repr__(self) -> str:
        return f"<Held {self._in_memory} bytes in memory, {self._on_disk} on disk>"

    def expect(self, size: int, *, on_disk: bool = False) -> None:
        """Check that *size* bytes would fit, before any is read. Raises: TooLarge, NoRoom."""
        if on_disk:
            self._bodies.disk.check(self._on_disk, size)
        else:
            self._bodies.memory.check(self._in_memory, size)

    def in_memory(self, size: int) -> None:
        """Hold *size* bytes in memory from now on. Raises: TooLarge, NoRoom."""
        self._bodies.memory.change(self._in_memory, size)
        self._in_memory = size

    def on_disk(self, size: int) -> None:
        """Hold *size* bytes on disk from now on. Raises: TooLarge, NoRoom."""
        self._bodies.disk.change(self._on_disk, size)
        self._on_disk = size

    def close(self) -> None:
        """Hold nothing. Idempotent."""
        self.in_memory(0)
        self.on_disk(0)


def _free_bytes() -> int:
    """Return what is free where uploads are kept; without such a place an upload says so itself."""
    try:
        return shutil.disk_usage(tempfile.gettempdir()).free
    except OSError:
        return sys.maxsize
