"""A target, its instance that runs all the time, and further ones where a fresh one is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from processes import Running
from targets import USUAL, Setup, Target

SHORT_S = 1.0
"""Loads below this only check that everything works."""

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Subject:
    """A target and its instance that runs all the time."""

    target: Target
    running: Running
    folder: Path
    upstream_port: int

    def another(self, setup: Setup = USUAL) -> Running:
        """Start a further instance."""
        folder = self.folder / f"another{next(_numbers)}"
        return self.target.start(folder, self.upstream_port, setup)

    @contextmanager
    def fresh(self, seconds: float) -> Iterator[Running]:
        """Yield a fresh instance; in a short run the existing one."""
        if seconds < SHORT_S:
            yield self.running
            return
        with self.another() as running:
            yield running
