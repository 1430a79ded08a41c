"""Measures the cost of a request as load and data grow: ``make bench BENCH=growth``.

    bench/growth.py [--batches N] [--only AXES] [--sizes SIZES] [--json FILE] [--svg FILE]

For each axis some instances run at the same time, the same but for one size, and answer batches
of short requests in turns, in another order each time. A figure is the CPU time of one request in
microseconds, the low quartile of the batches: other load of the machine only ever adds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

from axes import AXES, Axis
from cost import Asker
from plot import Panel, draw
from processes import SIGNALS, BenchFailed, Running, chat
from run import leave, say, some_of
from targets import TARGETS

from llmsnap import __version__
from llmsnap.limits import raise_open_files

CONNECTIONS = 8
BATCH = 80
"""Requests."""
FILED, FILED_PER_BATCH = 10_000, 100
"""Requests before anything is measured, if so many are: captureBuffer is full then everywhere."""


@dataclass(frozen=True, slots=True)
class Point:
    """The cost of a request at one size: each batch, in us of CPU time."""

    size: int
    cpu_us: float
    batches: list[float]


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the options in *argv*; wrong ones end the program."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, default=100, metavar="N", help="of each size (100)")
    parser.add_argument("--only", type=some_of(AXES), default=list(AXES), metavar="AXIS,...")
    parser.add_argument("--sizes", type=_sizes, metavar="N,...", help="instead of each axis' own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="draw the curves there")
    return parser.parse_args(argv)


def _sizes(text: str) -> list[int]:
    return sorted({int(word) for word in text.split(",")})


def measure(axis: Axis, sizes: Sequence[int], batches: int) -> list[Point]:
    """Measure one axis. Blocks for a minute or more. Raises: BenchFailed."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="llmsnap-growth-")))
        filed = min(FILED, FILED_PER_BATCH * batches)
        instances = [_start_at(axis, size, folder, filed, stack) for size in sizes]
        # Only now: connections that wait until all are so far would be closed for being idle.
        askers = [Asker(running, CONNECTIONS) for running in instances]
        for asker in askers:
            stack.callback(asker.close)
        for number in range(batches):
            first = number % len(askers)
            for asker in askers[first:] + askers[:first]:
                asker.measure(BATCH, axis.rest_s)
        return [
            Point(size, asker.costs.low_quartile_us(), asker.costs.cpu_us)
            for size, asker in zip(sizes, askers, strict=True)
        ]


def _start_at(axis: Axis, size: int, parent: Path, filed: int, stack: ExitStack) -> Running:
    """Start an instance, send it *filed* requests, and bring it to *size*."""
    folder, setup = parent / str(size), axis.setup(size)
    running = stack.enter_context(TARGETS["llmsnap"].start(folder, 0, setup))
    chat(running.port, "m")
    with closing(Asker(running, CONNECTIONS)) as asker:
        asker.ask(max(filed, axis.filed(size)))
    axis.prepare(running, size, stack)
    return running


def table(axis: Axis, points: Sequence[Point]) -> list[str]:
    """Return the lines to print."""
    first = points[0].cpu_us
    return [axis.title] + [
        f"  {point.size:>9,}{point.cpu_us:>10.1f} us{point.cpu_us / first:>10.3f}"
        for point in points
    ]


def run(options: argparse.Namespace) -> None:
    """Measure, print, write and draw. Blocks. Raises: BenchFailed."""
    found: dict[str, list[Point]] = {}
    print(f"{'':11}{'CPU/request':>13}{'ratio':>10}")
    for name in options.only:
        axis = AXES[name]
        sizes = options.sizes or axis.sizes
        say(f"{name}: {', '.join(f'{size:,}' for size in sizes)}")
        found[name] = measure(axis, sizes, options.batches)
        print("\n".join(table(axis, found[name])), flush=True)
    if options.json:
        options.json.write_text(json.dumps(document(options, found), indent=1))
    if options.svg:
        panels = [
            Panel(AXES[name].title, [(point.size, point.cpu_us) for point in points])
            for name, points in found.items()
        ]
        options.svg.write_text(draw(panels, "CPU time of a request, us"))


def document(options: argparse.Namespace, found: dict[str, list[Point]]) -> dict[str, object]:
    """Return what is written as JSON."""
    return {
        "llmsnap": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "requests_per_batch": BATCH,
        "batches": options.batches,
        "cpu_us": {name: {one.size: one.cpu_us for one in axis} for name, axis in found.items()},
        "measured": {name: {one.size: one.batches for one in axis} for name, axis in found.items()},
    }


def main() -> int:
    options = parse(sys.argv[1:])
    raise_open_files()
    for number in SIGNALS:
        signal.signal(number, leave)
    try:
        run(options)
    except BenchFailed as error:
        say(f"failed: {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
