"""Runs the fuzzers, as many at once as there are cores.

    python -m tests.fuzz [--minutes 1] [--seed N] [NAME ...]

Exits with 1 when an input failed; it is kept in ``tests/fuzz/corpus``.
"""

import argparse
import os
import random
import sys

from gevent import subprocess
from gevent.pool import Pool

from tests.fuzz.engine import INPUT_LIMIT_S, ROOT, TARGETS, WORK

TAIL_LINES = 40
SPARE_S = 60


def main() -> int:
    options = parse()
    WORK.mkdir(parents=True, exist_ok=True)
    print(f"seed {options.seed}, {options.minutes:g} minutes each", flush=True)
    names = options.names or TARGETS
    return int(any(Pool(options.jobs).map(lambda name: run(name, options), names)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(TARGETS))
    parser.add_argument("--minutes", type=float, default=1.0, help="for each fuzzer")
    parser.add_argument("--seed", type=int, default=random.randrange(1, 2**31))
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if unknown := set(options.names) - set(TARGETS):
        parser.error(
            f"no such fuzzer: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}"
        )
    return options


def run(name: str, options: argparse.Namespace) -> int:
    """Run one fuzzer in a process of its own, and return its exit code."""
    seconds = max(1, round(options.minutes * 60))
    command = [sys.executable, "-m", "tests.fuzz.engine", name, str(seconds), str(options.seed)]
    log = WORK / f"{name}.log"
    with log.open("w") as output:
        ended = subprocess.run(
            command,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=seconds + INPUT_LIMIT_S + SPARE_S,
            check=False,
        )
    lines = log.read_text(errors="replace").splitlines()
    said = [line for line in lines if line.startswith((f"{name}: ", "stat::number_of_executed"))]
    if ended.returncode:
        said = [f"{name}: FAILED ({ended.returncode}), {log}", *lines[-TAIL_LINES:]]
    print("\n".join(said), flush=True)
    return ended.returncode


if __name__ == "__main__":
    sys.exit(main())
