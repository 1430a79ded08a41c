"""One measured request: how long until the first token, how many tokens, how fast."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llmsnap.commands.client import Answer, Client
from llmsnap.errors import CommandFailed
from llmsnap.http import sse
from llmsnap.telemetry.stats import percentile

PATH = "/v1/chat/completions"
DONE = "[DONE]"
TEXT_FIELDS = ("content", "reasoning_content", "reasoning", "tool_calls")


@dataclass(frozen=True, slots=True)
class Sample:
    """What one request came to. Seconds from its start; *error* is empty when it went well.

    *tokens* is what the server counted, else the number of pieces (*is_counted* tells which).
    *waited_s* is what it says to have spent in line and on loading.
    """

    first_token_s: float | None = None
    total_s: float = 0.0
    tokens: int = 0
    is_counted: bool = False
    waited_s: float = 0.0
    error: str = ""

    @property
    def tokens_per_s(self) -> float | None:
        """The speed after the first token; None where there is none to speak of."""
        if self.first_token_s is None or self.tokens < 2 or self.total_s <= self.first_token_s:
            return None
        return (self.tokens - 1) / (self.total_s - self.first_token_s)


def chat(model: str, prompt: str, max_tokens: int) -> dict[str, Any]:
    """Return a request for a streamed chat."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def take(
    client: Client, document: Mapping[str, Any], clock: Callable[[], float] = time.monotonic
) -> Sample:
    """Send *document* and return what came of it; a failure is a sample too. Blocks.

    Raises: NoServer, KeyRefused, NoSuchModel, with which no other request would fare better.
    """
    reader = _Reader(clock)
    began = clock()
    try:
        with client.send("POST", PATH, document) as answer:
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


class _Reader:
    """Reads a streamed chat for what it says of itself."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.first_at: float | None = None
        self.pieces = 0
        self.counted: int | None = None
        self.error = "the answer ended before it was complete"

    def read(self, answer: Answer) -> None:
        """Read the answer to its end."""
        parser = sse.Parser()
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
            return  # a frame that is no part of a chat
        if any(texts):
            self.pieces += 1
            self.first_at = self.first_at or self._clock()
        if usage and isinstance(usage.get("completion_tokens"), int):
            self.counted = usage["completion_tokens"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A quantity over many requests. *most* bounds nine of ten of them, *worst* all."""

    median: float
    most: float
    worst: float


def spread(values: Sequence[float | None], *, high_is_good: bool = False) -> Spread | None:
    """Return the spread of what is known of *values*; None of nothing."""
    ordered = sorted(value for value in values if value is not None)
    if not ordered:
        return None
    if high_is_good:
        return Spread(percentile(ordered, 0.5), percentile(ordered, 0.1), ordered[0])
    return Spread(percentile(ordered, 0.5), percentile(ordered, 0.9), ordered[-1])
