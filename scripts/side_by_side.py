#!/usr/bin/env python3
"""Runs tests in several pytest processes at once, and prints their output when all have ended.

    scripts/side_by_side.py unit|e2e [pytest arguments]

Unit tests: one process for each core. End-to-end tests, which mostly wait: five, two of them with a
browser, or three for named files, each with ports of its own. Meanwhile it prints the number of
finished tests and the estimated remaining time.
pytest-xdist would do the same, but its workers talk through threads, which are greenlets here.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
NO_TESTS = 5  # pytest's exit code when nothing was selected
TOGETHER = ("tests/launchers", "tests/e2e/raw")
"""Folders of one process: the first stops all that a dead owner left, the other shares servers."""
UI = "tests/ui"
LANES, LANES_WITH_BROWSER = 5, 2
ALONE = "tests/e2e/test_kills.py"
"""Checks processes left by a killed llmsnap, which any other starting llmsnap would stop."""
FACTORS = {
    "tests/e2e/test_api_clients.py": 0.3,
    "tests/e2e/test_api_inference.py": 0.2,
    "tests/e2e/test_api_keys.py": 0.2,
    "tests/e2e/test_api_real.py": 3,
    "tests/e2e/test_api_routes.py": 0.2,
    "tests/e2e/test_api_streams.py": 0.5,
    "tests/e2e/test_bench.py": 3,
    "tests/e2e/test_client_libraries.py": 0.1,
    "tests/e2e/test_client_matrix.py": 0.4,
    "tests/e2e/test_cluster.py": 0.8,
    "tests/e2e/test_demo.py": 4,
    "tests/e2e/test_doors.py": 3.5,
    "tests/e2e/test_memory.py": 2.5,
    "tests/e2e/test_pages_of_models.py": 0.4,
    "tests/e2e/test_prompt_cache.py": 4.5,
    "tests/e2e/test_reload.py": 2,
    "tests/e2e/test_tools.py": 0.3,
    "tests/e2e/test_warm_swaps.py": 2,
    "tests/e2e/test_wheel.py": 2.5,
    "tests/e2e/raw/test_crowd.py": 2.5,
    "tests/e2e/raw/test_framing.py": 0.1,
    "tests/e2e/raw/test_smuggling.py": 0.1,
    "tests/e2e/raw/test_websockets.py": 0.3,
    "tests/launchers": 11,
    "tests/scripts/test_compiled.py": 20,
    "tests/scripts/test_environment.py": 20,
    "tests/telemetry/test_store.py": 0.1,
    "tests/test_architecture.py": 0.1,
    "tests/ui/test_firefox.py": 2.5,
    "tests/ui/test_pages.py": 2,
    "tests/ui/test_real.py": 5,
    "tests/ui/test_standing.py": 2,
}
"""Factors of files, or of all in a folder, that take longer than others of their size, or less."""
MARK = "pytest.mark.e2e"
"""Marks an end-to-end test in a file of unit tests."""
WHOLE = f"pytestmark = {MARK}"
"""Marks all tests of a file."""
LANE = "LLMSNAP_TEST_LANE"
"""The variable that selects the ports of one process (tests/fakes/ports.py)."""
PROGRESS = "LLMSNAP_TEST_PROGRESS"
"""The file in which a pytest process counts its tests (tests/conftest.py)."""
REPORT_EVERY_S = 15.0
REPEATED = 6000
"""Bytes of a failed process's output that are printed once more at the end, where readers look."""


@dataclass(frozen=True)
class Result:
    """Exit code of one pytest process, and the end of its output."""

    title: str
    code: int
    end: str

    @property
    def failed(self) -> bool:
        """Whether a test failed, or pytest itself."""
        return self.code not in (0, NO_TESTS)


@dataclass(frozen=True)
class Run:
    """One pytest process."""

    title: str
    process: subprocess.Popen[bytes]
    output: IO[bytes]
    progress: Path

    def counts(self) -> tuple[int, int]:
        """Return the numbers of finished tests and of all; zeros before collection."""
        with contextlib.suppress(OSError, ValueError):
            done, total = self.progress.read_text(encoding="ascii").split()
            return int(done), int(total)
        return 0, 0

    def print_output(self) -> Result:
        """Print what pytest printed, and return its end with the exit code."""
        self.output.seek(0)
        text = self.output.read().decode(errors="replace")
        sys.stdout.write(f"-- {self.title}\n{text}")
        sys.stdout.flush()
        return Result(self.title, self.process.returncode, text[-REPEATED:])


def main(arguments: list[str]) -> int:
    """Run all groups side by side; return 0 when every one passed."""
    kind, *more = arguments
    named = [each for each in more if each.startswith("tests")]
    options = [each for each in more if each not in named]
    groups = unit_groups(named) if kind == "unit" else end_to_end_groups(named)
    marker = "e2e" if kind == "e2e" else "not e2e"
    results = run_all(groups, [marker, *options])
    if kind == "e2e" and (not named or ALONE in named):
        results += run_all([("what a killed llmsnap leaves", [ALONE])], [marker, *options])
    failures = [result for result in results if result.failed]
    for failure in failures:
        sys.stdout.write(f"-- failed: {failure.title}\n{failure.end}")
    sys.stdout.flush()
    return failures[0].code if failures else 0


def run_all(groups: list[tuple[str, list[str]]], arguments: list[str]) -> list[Result]:
    """Run *groups* side by side, print their output, and return their results."""
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        runs = [
            start(lane, title, [*arguments, *what], stack, scratch)
            for lane, (title, what) in enumerate(groups)
        ]
        wait(runs)
        return [run.print_output() for run in runs]


def start(
    lane: int, title: str, arguments: list[str], stack: contextlib.ExitStack, scratch: Path
) -> Run:
    """Start pytest; *stack* closes the file of its output."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", *arguments]
    output = stack.enter_context((scratch / f"output{lane}").open("w+b"))
    progress = scratch / f"progress{lane}"
    process = subprocess.Popen(  # noqa: S603 - our own interpreter
        command,
        cwd=ROOT,
        env={**os.environ, LANE: str(lane), PROGRESS: str(progress)},
        stdout=output,
        stderr=subprocess.STDOUT,
    )
    return Run(title, process, output, progress)


def wait(runs: list[Run]) -> None:
    """Wait for all *runs*, and report their progress every 15 s."""
    began = time.monotonic()
    reported = began
    for run in runs:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(max(0.0, reported + REPORT_EVERY_S - time.monotonic()))
                break
            reported = time.monotonic()
            text = progress_of([each.counts() for each in runs], reported - began)
            print(f"   {text}", flush=True)  # noqa: T201 - a command that talks to a person


def progress_of(counts: list[tuple[int, int]], elapsed_s: float) -> str:
    """Return the progress of the runs: "120 of 400 tests, about 40 s left"."""
    done, total = (sum(numbers) for numbers in zip(*counts, strict=True))
    if not all(some for some, _ in counts):
        return f"{elapsed_s:.0f} s, collecting tests"
    left_s = max(elapsed_s / some * (most - some) for some, most in counts)
    return f"{done} of {total} tests, about {left_s:.0f} s left"


def end_to_end_groups(named: list[str]) -> list[tuple[str, list[str]]]:
    """Return (title, arguments) of each process; for the *named* files alone if there are any."""
    if named and all(each.endswith(".py") for each in named):
        return shared((ROOT / each for each in named if each != ALONE), 3)
    if named:
        return [("the tests named", named)]
    files = set(ROOT.glob("tests/e2e/**/test_*.py")) - {ROOT / ALONE}
    files |= {path for path in unit_files() if MARK in path.read_text(encoding="utf-8")}
    with_browser = set(ROOT.glob(f"{UI}/test_*.py"))
    return shared(files - with_browser, LANES, shared(with_browser, LANES_WITH_BROWSER))


def unit_groups(named: list[str]) -> list[tuple[str, list[str]]]:
    """Return (title, arguments) of each process; only one for *named* files."""
    if named:
        return [("the tests named", named)]
    mixed = (path for path in unit_files() if WHOLE not in path.read_text(encoding="utf-8"))
    return shared(mixed, os.cpu_count() or 1)


def unit_files() -> Iterable[Path]:
    """Return the test files outside tests/e2e."""
    files = ROOT.glob("tests/**/test_*.py")
    return (path for path in files if "e2e" not in path.relative_to(ROOT).parts)


def shared(
    files: Iterable[Path], count: int, begun: Iterable[tuple[str, list[str]]] = ()
) -> list[tuple[str, list[str]]]:
    """Distribute test files into *count* groups of about equal duration, the first ones *begun*."""
    shares = [names for _, names in begun]
    shares += [[] for _ in range(count - len(shares))]
    weights = [sum(weight(ROOT / name) for name in share) for share in shares]
    names = {path: str(path.relative_to(ROOT)) for path in files}
    for folder in TOGETHER:
        lightest = weights.index(min(weights))
        for path in [each for each in names if each.parent == ROOT / folder]:
            shares[lightest].append(names.pop(path))
            weights[lightest] += weight(path)
    for path in sorted(names, key=weight, reverse=True):
        lightest = weights.index(min(weights))
        shares[lightest].append(names[path])
        weights[lightest] += weight(path)
    return [(f"{len(share)} test files", sorted(share)) for share in shares if share]


def weight(path: Path) -> float:
    """Return the estimated duration of *path*, in bytes of source."""
    name = path.relative_to(ROOT)
    return path.stat().st_size * FACTORS.get(str(name), FACTORS.get(str(name.parent), 1))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
