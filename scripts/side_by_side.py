#!/usr/bin/env python3
"""Runs tests in several pytest processes at once, and prints what each said when it has ended.

    scripts/side_by_side.py unit|e2e [pytest arguments]

Unit tests: one process for each core. End-to-end tests, which mostly wait: one for those of the
interface and of the wheel, two for the others or for the files named, each with ports of its own.
pytest-xdist would do the same, but its workers talk through threads, which are greenlets here.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NO_TESTS = 5  # pytest's exit code when nothing was selected
COMPILES = "tests/e2e/test_wheel.py"
"""Takes a minute and a half, as much as the tests of the interface."""
SLOW = {
    "tests/commands/test_shells.py",
    "tests/config/test_fuzz.py",
    "tests/routing/test_scheduler_properties.py",
    "tests/scripts/test_compiled.py",
    "tests/scripts/test_environment.py",
    "tests/upstream/test_child.py",
}
SLOWER = 20
"""Files that take so many times as long as others of their size."""
LANE = "LLMSNAP_TEST_LANE"
"""Tells the tests of one process which ports are theirs (tests/e2e/harness.py)."""


@dataclass(frozen=True)
class Run:
    """One pytest process."""

    title: str
    process: subprocess.Popen[str]
    began: float

    def finish(self) -> int:
        """Wait, print what it said, and return its exit code."""
        output, _ = self.process.communicate()
        took_s = time.monotonic() - self.began
        sys.stdout.write(f"-- {self.title}, {took_s:.0f} s\n{output}")
        sys.stdout.flush()
        return self.process.returncode


def main(arguments: list[str]) -> int:
    """Run all groups side by side; return 0 when every one passed."""
    kind, *more = arguments
    named = [each for each in more if each.startswith("tests")]
    options = [each for each in more if each not in named]
    groups = unit_groups(named) if kind == "unit" else end_to_end_groups(named)
    marker = "e2e" if kind == "e2e" else "not e2e"
    runs = [
        start(lane, title, [marker, *options, *what]) for lane, (title, what) in enumerate(groups)
    ]
    codes = [run.finish() for run in runs]
    return next((code for code in codes if code not in (0, NO_TESTS)), 0)


def start(lane: int, title: str, arguments: list[str]) -> Run:
    """Start pytest."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", *arguments]
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        command,
        cwd=ROOT,
        env={**os.environ, LANE: str(lane)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Run(title, process, time.monotonic())


def end_to_end_groups(named: list[str]) -> list[tuple[str, list[str]]]:
    """Return (title, what to run) of each process, of what is *named* if something is."""
    if named and all(each.endswith(".py") for each in named):
        return shared((ROOT / each for each in named), 2)
    if named:
        return [("the tests named", named)]
    files = set(ROOT.glob("tests/e2e/**/test_*.py")) - {ROOT / COMPILES}
    return [("tests/ui and the wheel", ["tests/ui", COMPILES]), *shared(files, 2)]


def unit_groups(named: list[str]) -> list[tuple[str, list[str]]]:
    """Return (title, what to run) of each process; just one for what is *named*."""
    if named:
        return [("the tests named", named)]
    files = ROOT.glob("tests/**/test_*.py")
    units = (path for path in files if "e2e" not in path.relative_to(ROOT).parts)
    return shared(units, os.cpu_count() or 1)


def shared(files: Iterable[Path], count: int) -> list[tuple[str, list[str]]]:
    """Share out test files, so that each group has about as much to do."""
    shares: list[list[str]] = [[] for _ in range(count)]
    weights = [0] * count
    for path in sorted(files, key=weight, reverse=True):
        lightest = weights.index(min(weights))
        shares[lightest].append(str(path.relative_to(ROOT)))
        weights[lightest] += weight(path)
    return [(f"{len(share)} test files", sorted(share)) for share in shares if share]


def weight(path: Path) -> int:
    """Return how long *path* takes: in bytes, of which each is about as much work."""
    size = path.stat().st_size
    return size * SLOWER if str(path.relative_to(ROOT)) in SLOW else size


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
