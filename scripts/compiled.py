#!/usr/bin/env python3
"""Builds a copy of the checkout whose hot path is compiled, as in the release wheels.

    scripts/compiled.py COMMAND ...

updates ``build/compiled`` and runs the command there. The checkout itself is left unchanged: Python
imports an extension beside a module in its place, even after later edits of the module.
"""

# ruff: noqa: T201 - a command that talks to a person

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "compiled"
LEFT_OUT = {f"tests/e2e/test_{name}.py" for name in ("bench", "development", "wheel")}
"""Tests that build copies and distributions of their own."""
TAIL_LINES = 15


def tracked() -> list[str]:
    """Return the tracked and not ignored files: paths below the checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(  # noqa: S603 - fixed words
        command, cwd=ROOT, capture_output=True, check=True, text=True
    )
    return [name for name in found.stdout.split("\0") if name and (ROOT / name).is_file()]


def copy() -> bool:
    """Copy changed files, remove deleted ones; return whether anything has to be compiled."""
    names = [name for name in tracked() if name not in LEFT_OUT]
    changed = False
    for name in names:
        source, target = ROOT / name, COPY / name
        if target.is_file() and target.read_bytes() == source.read_bytes():
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        changed = changed or name == "setup.py" or name.startswith("llmsnap/")
    known = set(names)
    for path in [path for top in ("llmsnap", "tests") for path in (COPY / top).rglob("*.py")]:
        if path.relative_to(COPY).as_posix() not in known:
            path.unlink()
    return changed or not list(COPY.glob("llmsnap__mypyc*"))


def compile_there() -> bool:
    """Compile the copy's modules in place; return whether that succeeded."""
    for path in [*COPY.glob("llmsnap__mypyc*"), *COPY.glob("llmsnap/**/*.so")]:
        path.unlink()
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=COPY,
        env={**os.environ, "LLMSNAP_COMPILE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode == 0 and list(COPY.glob("llmsnap__mypyc*")):
        return True
    print("\n".join(done.stdout.splitlines()[-TAIL_LINES:]))
    return False


def main(command: list[str]) -> int:
    """Update the copy, run *command* there, and return its exit code."""
    if copy():
        print("Compiling the hot path", flush=True)
        if not compile_there():
            print("The hot path could not be compiled: gcc or clang, and Python's headers?")
            return 1
    return subprocess.run(command, cwd=COPY, check=False).returncode  # noqa: S603 - as asked for


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
