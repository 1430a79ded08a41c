"""Requests of clients during a soak, and checks that their responses are complete."""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests
from gevent import socket

LIMIT_S = 180
TEXTS = ("What is a llama?", "Count to ten.", "Name three rivers in France.", "Once upon a time")


class Incomplete(Exception):
    """A response that ended without an error, but is incomplete."""


@dataclass
class Outcome:
    """One request; times are monotonic. *began* is that of the model's first byte."""

    kind: str
    model: str
    sent: float
    began: float | None = None
    ended: float = 0.0
    error: str = ""

    def was_cut_by(self, kills: list[tuple[float, str]]) -> bool:
        """Whether the model was killed during the request."""
        return self.began is not None and any(
            model == self.model and self.began <= killed <= self.ended for killed, model in kills
        )


@dataclass
class Client:
    """Sends one request after the other over one connection."""

    url: str
    chance: random.Random
    session: requests.Session = field(default_factory=requests.Session)

    def ask(self, kind: str) -> Outcome:
        """Send a request of *kind*, and read its response to the end."""
        model, path, body, read = KINDS[kind]
        outcome = Outcome(kind, model, time.monotonic())
        try:
            document = body(self.chance.choice(TEXTS), self.chance.randint(2, 12))
            with self.session.post(
                f"{self.url}{path}", json={"model": model, **document}, stream=True, timeout=LIMIT_S
            ) as answer:
                if answer.status_code == 200:
                    read(noted(answer.iter_lines(), outcome))
                else:
                    outcome.error = f"{answer.status_code} {answer.text[:300]}"
        except (requests.RequestException, OSError, ValueError, LookupError, Incomplete) as error:
            outcome.error = f"{type(error).__name__}: {error}"
        outcome.ended = time.monotonic()
        return outcome

    def leave(self, kind: str) -> None:
        """Send a request of *kind* and disconnect, before its response or within it."""
        model, path, body, _ = KINDS[kind]
        document = json.dumps({"model": model, **body(self.chance.choice(TEXTS), 64)}).encode()
        host, _, port = self.url.removeprefix("http://").partition(":")
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
        with socket.create_connection((host, int(port)), timeout=self.chance.uniform(0, 3)) as sock:
            try:
                sock.sendall(f"{head}Content-Length: {len(document)}\r\n\r\n".encode() + document)
                for _ in range(self.chance.randint(0, 4)):
                    sock.recv(1000)
            except TimeoutError:
                pass

    def close(self) -> None:
        self.session.close()


def noted(lines: Iterator[bytes], outcome: Outcome) -> Iterator[bytes]:
    """Yield all lines but comments, and note when the first arrives."""
    for line in lines:
        if line and not line.startswith(b":"):
            outcome.began = outcome.began or time.monotonic()
            yield line


def messages(text: str, tokens: int) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": tokens}


def streamed(body: Callable[[str, int], dict[str, Any]]) -> Callable[[str, int], dict[str, Any]]:
    return lambda text, tokens: {**body(text, tokens), "stream": True}


def prompt(text: str, tokens: int) -> dict[str, Any]:
    return {"prompt": text, "max_tokens": tokens, "n_predict": tokens}


def until(is_last: Callable[[bytes], bool]) -> Callable[[Iterator[bytes]], None]:
    """Return the check of a stream whose last line *is_last*."""

    def check(lines: Iterator[bytes]) -> None:
        last = b""
        for line in lines:
            if line.startswith((b"event: error", b'data: {"error"')):
                raise Incomplete(line.decode() + next(lines, b"").decode())
            last = line
        if not is_last(last):
            raise Incomplete(f"ended with {last[:200]!r}")

    return check


until_done = until(lambda line: line == b"data: [DONE]")
until_message_stop = until(lambda line: b'"message_stop"' in line)
until_stop = until(lambda line: b'"stop":true' in line)


def choice(lines: Iterator[bytes]) -> None:
    """A whole chat."""
    document = json.loads(b"".join(lines))
    if not document["choices"][0]["message"]["role"] or not document["usage"]:
        raise Incomplete(str(document)[:300])


def vector(lines: Iterator[bytes]) -> None:
    if len(json.loads(b"".join(lines))["data"][0]["embedding"]) < 64:
        raise Incomplete("no vector")


def tokens(lines: Iterator[bytes]) -> None:
    if not json.loads(b"".join(lines))["tokens"]:
        raise Incomplete("no tokens")


Kind = tuple[str, str, Callable[[str, int], dict[str, Any]], Callable[[Iterator[bytes]], None]]
KINDS: dict[str, Kind] = {
    "chat": ("gemma", "/v1/chat/completions", streamed(messages), until_done),
    "whole chat": ("gemma", "/v1/chat/completions", messages, choice),
    "completion": ("gemma", "/v1/completions", streamed(prompt), until_done),
    "messages": ("gemma", "/v1/messages", streamed(messages), until_message_stop),
    "upstream": ("gemma", "/upstream/gemma/completion", streamed(prompt), until_stop),
    "upstream tokens": (
        "gemma",
        "/upstream/gemma/tokenize",
        lambda text, _: {"content": text},
        tokens,
    ),
    "embeddings": ("gemma-embed", "/v1/embeddings", lambda text, _: {"input": text}, vector),
    "story": ("gemma-story", "/v1/chat/completions", streamed(messages), until_done),
    "sleeper": ("sleeper", "/v1/chat/completions", streamed(messages), until_done),
}
WEIGHTS = {"story": 0.3, "sleeper": 0.3}
"""Relative frequency of kinds, default 1: these cause swaps."""


def any_kind(chance: random.Random) -> str:
    return chance.choices(list(KINDS), [WEIGHTS.get(kind, 1.0) for kind in KINDS])[0]
