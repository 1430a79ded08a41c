#!/usr/bin/env python3
"""Runs the unit tests in as many pytest processes as there are cores, and prints what each said.

    scripts/unit.py [pytest arguments]

pytest-xdist would do the same, but its workers talk through threads, which are greenlets here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NO_TESTS = 5  # pytest's exit code when nothing was selected


def main(arguments: list[str]) -> int:
    """Run all groups side by side; return 0 when every one passed."""
    runs = [(group, start(group, arguments)) for group in groups(os.cpu_count() or 1)]
    worst = 0
    for group, run in runs:
        output, _ = run.communicate()
        sys.stdout.write(f"-- {len(group)} test files\n{output}")
        sys.stdout.flush()
        if run.returncode != NO_TESTS:
            worst = worst or run.returncode
    return worst


def start(group: list[str], arguments: list[str]) -> subprocess.Popen[str]:
    """Start pytest on some test files."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not e2e", *arguments, *group]
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def groups(count: int) -> list[list[str]]:
    """Share out the test files, so that each group has about as much text to run."""
    files = [
        path
        for path in ROOT.glob("tests/**/test_*.py")
        if not {"e2e", "ui"} & set(path.relative_to(ROOT).parts)
    ]
    shares: list[list[str]] = [[] for _ in range(count)]
    sizes = [0] * count
    for path in sorted(files, key=lambda path: path.stat().st_size, reverse=True):
        smallest = sizes.index(min(sizes))
        shares[smallest].append(str(path.relative_to(ROOT)))
        sizes[smallest] += path.stat().st_size
    return [sorted(share) for share in shares if share]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
