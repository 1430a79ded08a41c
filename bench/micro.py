"""Measures the cost of each piece of the hot path: ``make bench BENCH=micro``.

    bench/micro.py [--batches N] [--json FILE]

Microseconds of CPU time for each request and for each chunk of a stream, the cheapest of many
batches, all pieces in turns. The last lines are the cost of the system calls alone.
"""

import llmsnap._monkey  # noqa: F401, I001 - first, as in the product

import argparse
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pieces
from pieces import BATCH, CHUNKS, Batch, timed

BATCHES = 200
LABEL_WIDTH = 40


@dataclass(frozen=True, slots=True)
class Line:
    """A piece, with its batches: of requests, of chunks, of whole streams of CHUNKS."""

    name: str
    request: Batch | None = None
    chunk: Batch | None = None
    stream: Batch | None = None

    def batches(self) -> Iterator[tuple[str, Batch, int]]:
        """Yield the measured batches, and the divisor of the time of each."""
        for kind, batch, share in (
            ("request", self.request, BATCH),
            ("chunk", self.chunk, BATCH),
            ("stream", self.stream, 1),
        ):
            if batch is not None:
                yield kind, batch, share


def lines(stack: ExitStack) -> list[Line]:
    """Return all pieces, in the order in which a request meets them."""
    listener, client, watched = pieces.Listener(), pieces.Client(), pieces.Watched()
    enter = stack.enter_context
    return [
        Line(
            "listener: head in, answer out",
            timed(listener.requests, 1),
            stream=timed(listener.stream, 1),
        ),
        Line("body: parsed", timed(pieces.parse_body)),
        Line("headers: rewritten, both ways", timed(pieces.headers)),
        Line("scheduler: grant, and lease back", pieces.scheduler()),
        Line("upstream client", timed(client.request), stream=timed(client.stream, 1)),
        Line("observer", watched.observers, pieces.fed()),
        Line("record and capture filed", watched.files),
        Line("access log line", enter(pieces.access_log())),
        Line("send and recv of the system", chunk=enter(pieces.system_calls())),
        Line("the same, waited for", chunk=enter(pieces.waits())),
    ]


def measure(found: list[Line], batches: int) -> dict[str, dict[str, float]]:
    """Return the cheapest of each, in us, by name."""
    best: dict[str, dict[str, float]] = {line.name: {} for line in found}
    for _ in range(batches):
        for line in found:
            for kind, batch, share in line.batches():
                took_us = batch() / share * 1e6
                best[line.name][kind] = min(took_us, best[line.name].get(kind, took_us))
    for costs in best.values():
        if "stream" in costs:
            costs["chunk"] = max(0.0, costs["stream"] - costs["request"]) / CHUNKS
    return best


def table(best: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    """Yield the lines to print."""
    yield f"{'CPU time, us':{LABEL_WIDTH}}{'request':>10}{'chunk':>10}"
    for name, costs in best.items():
        cells = (costs.get(kind) for kind in ("request", "chunk"))
        shown = "".join(f"{'-' if us is None else f'{us:.2f}':>10}" for us in cells)
        yield f"{name:{LABEL_WIDTH}}{shown}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batches", type=int, default=BATCHES, metavar="N", help="of each piece")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    options = parser.parse_args()
    with ExitStack() as stack:
        best = measure(lines(stack), options.batches)
    for line in table(best):
        print(line)
    if options.json:
        options.json.write_text(json.dumps(best, indent=1))


if __name__ == "__main__":
    main()
