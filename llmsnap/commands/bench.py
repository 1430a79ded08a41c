"""``llmsnap bench``: measures a model's time to first token and speed."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, TextIO

from llmsnap.commands.client import Answer, ServerClient, add_server, connect, new_parser
from llmsnap.commands.terminal import Terminal, duration
from llmsnap.errors import CommandFailed
from llmsnap.http import SseParser
from llmsnap.tasks import TaskGroup
from llmsnap.telemetry import percentile

CHAT_PATH = "/v1/chat/completions"
DONE = "[DONE]"
TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "tool_calls")


@dataclass(frozen=True, slots=True)
class Sample:
    """The measurements of one request, in seconds from its start; *error* is empty on success.

    *tokens* is the server's count if *is_counted*, else the number of chunks. *waited_s* is the
    server's figure for queueing and loading.
    """

    first_token_s: float | None = None
    total_s: float = 0.0
    tokens: int = 0
    is_counted: bool = False
    waited_s: float = 0.0
    error: str = ""

    @property
    def tokens_per_s(self) -> float | None:
        """The speed after the first token; None if it cannot be measured."""
        if self.first_token_s is None or self.tokens < 2 or self.total_s <= self.first_token_s:
            return None
        return (self.tokens - 1) / (self.total_s - self.first_token_s)


def chat(model: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    """Return the document of a streaming chat request."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def take(
    client: ServerClient, document: Mapping[str, Any], clock: Callable[[], float] = time.monotonic
) -> Sample:
    """Send *document* and return its sample, also if the request failed. Blocks.

    Raises: NoServer, KeyRefused, NoSuchModel, with which every other request would fail too.
    """
    reader = _ChatReader(clock)
    began = clock()
    try:
        with client.send("POST", CHAT_PATH, document) as answer:
            waited_s = _waited_s(answer)
            reader.read(answer)
    except CommandFailed as error:
        if type(error) is not CommandFailed:
            raise
        return Sample(total_s=clock() - began, error=str(error))
    return Sample(
        first_token_s=None if reader.first_at is None else reader.first_at - began,
        total_s=clock() - began,
        tokens=reader.pieces if reader.counted is None else reader.counted,
        is_counted=reader.counted is not None,
        waited_s=waited_s,
        error=reader.error,
    )


def _waited_s(answer: Answer) -> float:
    told = 0.0
    for name in ("X-Queue-Ms", "X-Load-Ms"):
        with suppress(ValueError):
            told += float(answer.headers.get(name, 0)) / 1000
    return told


class _ChatReader:
    """Reads a streamed chat response and records its token counts and times."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.first_at: float | None = None
        self.pieces = 0
        self.counted: int | None = None
        self.error = "the answer ended before it was complete"

    def read(self, answer: Answer) -> None:
        """Read the response to its end."""
        parser = SseParser()
        for chunk in answer.iter_content(None):
            for frame in parser.feed(chunk):
                self._take(frame.data)

    def _take(self, data: str) -> None:
        if data == DONE:
            self.error = ""
            return
        try:
            document = json.loads(data)
            if "error" in document:
                self.error = str(document["error"]["message"])
            choices, usage = document.get("choices") or [], document.get("usage")
            texts = [choice["delta"].get(name) for choice in choices for name in TEXT_FIELDS]
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # not a chat chunk
        if any(texts):
            self.pieces += 1
            self.first_at = self.first_at or self._clock()
        if usage and isinstance(usage.get("completion_tokens"), int):
            self.counted = usage["completion_tokens"]


@dataclass(frozen=True, slots=True)
class Spread:
    """The distribution of a quantity. *most* is the 90th percentile, *worst* the maximum."""

    median: float
    most: float
    worst: float


def spread(values: Sequence[float | None], *, high_is_good: bool = False) -> Spread | None:
    """Return the distribution of the known *values*; None without any."""
    ordered = sorted(value for value in values if value is not None)
    if not ordered:
        return None
    if high_is_good:
        return Spread(percentile(ordered, 0.5), percentile(ordered, 0.1), ordered[0])
    return Spread(percentile(ordered, 0.5), percentile(ordered, 0.9), ordered[-1])


DESCRIPTION = "Measure a chat model of a running server, with streamed requests."
PROMPT = "Explain in a few sentences how a heat pump works."
LOOK_EVERY_S = 0.25


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("bench", DESCRIPTION, "MODEL")
    add = parser.add_argument
    add("model", metavar="MODEL", help="id or alias; a peer's model too")
    add("-n", "--requests", type=_positive, default=8, metavar="N", help="how many (8)")
    add("-c", "--concurrency", type=_positive, default=1, metavar="N", help="at once (1)")
    add("--max-tokens", type=_positive, default=128, metavar="N", help="per response (128)")
    add("--prompt", default=PROMPT, metavar="TEXT", help="the prompt")
    add("--json", action="store_true", help="write JSON: every sample, and the totals")
    return add_server(parser)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def main(
    argv: Sequence[str], out: TextIO | None = None, environ: Mapping[str, str] = os.environ
) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = build_parser().parse_args(argv)
    out = out or sys.stdout
    terminal = Terminal(sys.stderr if args.json else out, environ)
    client = connect(args, environ)
    document = chat(args.model, args.prompt, args.max_tokens)
    terminal.status(f"{args.model}: a first request, which is not counted")
    first = take(client, document)
    if first.error:
        raise CommandFailed(first.error)
    result = measure(client, document, args.requests, args.concurrency, terminal)
    terminal.clear()
    if args.json:
        json.dump(_as_json(args, first, result), out, indent=2)
        out.write("\n")
    else:
        _write(args, first, result, terminal)
    return 1 if result.errors else 0


@dataclass(frozen=True, slots=True)
class Result:
    """All samples, and the total duration in seconds."""

    samples: tuple[Sample, ...]
    wall_s: float

    @property
    def good(self) -> list[Sample]:
        """The successful samples."""
        return [one for one in self.samples if not one.error]

    @property
    def errors(self) -> list[str]:
        """The errors of the failed samples."""
        return [one.error for one in self.samples if one.error]

    @property
    def tokens_per_s(self) -> float:
        """The throughput over all clients."""
        return sum(one.tokens for one in self.good) / self.wall_s

    def spreads(self) -> dict[str, Spread | None]:
        """Return the distribution of each quantity over the successful samples."""
        good = self.good
        return {
            "first_token_s": spread([one.first_token_s for one in good]),
            "tokens_per_s": spread([one.tokens_per_s for one in good], high_is_good=True),
            "total_s": spread([one.total_s for one in good]),
        }


def measure(
    client: ServerClient,
    document: Mapping[str, Any],
    count: int,
    concurrency: int,
    terminal: Terminal,
) -> Result:
    """Send *count* requests, at most *concurrency* at once. Blocks. Raises: as ``take``."""
    samples: list[Sample] = []
    failed: list[CommandFailed] = []
    tasks, numbers = TaskGroup("bench"), iter(range(count))
    began = time.monotonic()
    workers = [
        tasks.spawn(str(n), _work, client, document, numbers, (samples, failed))
        for n in range(min(count, concurrency))
    ]
    try:
        while not failed and not all(worker.dead for worker in workers):
            terminal.status(f"{len(samples)} of {count} answered")
            next(worker for worker in workers if not worker.dead).join(LOOK_EVERY_S)
    finally:
        tasks.kill()
    if failed:
        raise failed[0]
    return Result(tuple(samples), time.monotonic() - began)


def _work(
    client: ServerClient,
    document: Mapping[str, Any],
    numbers: Iterator[int],
    found: tuple[list[Sample], list[CommandFailed]],
) -> None:
    """Take samples until *numbers*, which all workers share, is exhausted."""
    samples, failed = found
    try:
        for _ in numbers:
            samples.append(take(client, document))
    except CommandFailed as error:
        failed.append(error)


def _write(args: argparse.Namespace, first: Sample, result: Result, terminal: Terminal) -> None:
    said = terminal.line
    at_once = f"{args.concurrency} at once" if args.concurrency > 1 else "one after the other"
    said(f"{args.model}: {len(result.good)} of {args.requests} answered, {at_once}")
    if first.waited_s >= 0.1:
        said(f"before that, {duration(first.waited_s)} until it was loaded")
    shown = {name: found for name, found in result.spreads().items() if found is not None}
    if shown:
        said()
        terminal.table([HEAD, *(_row(name, found) for name, found in shown.items())])
        said()
        rate = len(result.good) / result.wall_s
        said(f"together: {result.tokens_per_s:.1f} tokens/s, {rate:.2f} answers/s")
    if not all(one.is_counted for one in result.good):
        said("the server does not count tokens: pieces of the answer were counted instead")
    for error in sorted(set(result.errors)):
        said(f"{result.errors.count(error)} failed: {error}")


HEAD = ("", "MEDIAN", "9 OF 10", "WORST")
LABELS = {
    "first_token_s": ("first token", "{:.3f} s"),
    "tokens_per_s": ("speed", "{:.1f} tokens/s"),
    "total_s": ("whole answer", "{:.2f} s"),
}


def _row(name: str, found: Spread) -> tuple[str, ...]:
    label, form = LABELS[name]
    return label, form.format(found.median), form.format(found.most), form.format(found.worst)


def _as_json(args: argparse.Namespace, first: Sample, result: Result) -> dict[str, Any]:
    spreads = result.spreads().items()
    return {
        "model": args.model,
        "requests": args.requests,
        "concurrency": args.concurrency,
        "wall_s": result.wall_s,
        "tokens_per_s": result.tokens_per_s,
        "spreads": {name: found and asdict(found) for name, found in spreads},
        "first": asdict(first),
        "samples": [asdict(one) for one in result.samples],
    }
