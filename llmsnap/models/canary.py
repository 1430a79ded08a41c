"""The canary: a short question to a server, whose answer shows whether it works as it did before.

The question and the server's settings are the same each time, so that the answer is, too, as far as
the server computes the same way twice. Embeddings and scores differ in their last digits.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from llmsnap.errors import UpstreamError, UpstreamTimeout
from llmsnap.models.control import Address, ControlCall, send

TEXT = "Write the numbers from one to twenty as digits, separated by spaces."
"""The most likely next token is far ahead of all others, whatever the model."""
BEGINNING = "1 2 3 4 5 6 7 8 9 10"
DOCUMENTS = ("Water boils at 100 degrees Celsius.", "The meeting is on Monday.")
TOKENS = 8
NUMBERS_KEPT = 128
"""Of an embedding: enough to tell whether the weights are the same."""
TOLERANCE = 0.05
"""Of the largest number: half precision computed in another order differs by up to 0.01."""
SHOWN_CHARS = 40

Answer = str | tuple[float, ...]
"""Text, or the numbers of an embedding or a ranking."""


class Question(StrEnum):
    """What is asked, by what a server serves."""

    CHAT = "chat"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RERANK = "rerank"


ENDINGS = {
    "/chat/completions": Question.CHAT,
    "/messages": Question.CHAT,
    "/responses": Question.CHAT,
    "/completions": Question.COMPLETIONS,
    "/embeddings": Question.EMBEDDINGS,
    "/rerank": Question.RERANK,
    "/reranking": Question.RERANK,
}
_SAMPLING: dict[str, Any] = {"temperature": 0, "seed": 1, "max_tokens": TOKENS, "stream": False}
QUESTIONS: Mapping[Question, tuple[str, dict[str, Any]]] = {
    Question.CHAT: (
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": TEXT}], **_SAMPLING},
    ),
    Question.COMPLETIONS: ("/v1/completions", {"prompt": BEGINNING, **_SAMPLING}),
    Question.EMBEDDINGS: ("/v1/embeddings", {"input": TEXT, "encoding_format": "float"}),
    Question.RERANK: ("/v1/rerank", {"query": "When does water boil?", "documents": DOCUMENTS}),
}


def kind_of(path: str) -> Question | None:
    """Return the kind of question for a server that has answered a request to *path*."""
    plain = path.partition("?")[0]
    return next((kind for ending, kind in ENDINGS.items() if plain.endswith(ending)), None)


@dataclass(frozen=True, slots=True)
class CanaryReply:
    """What came of a question. *status* is 0 where the connection failed, *problem* says how.

    *answer* is None unless the status is 200 and the body has an answer. *is_late*: it did not come
    within the limit.
    """

    status: int = 0
    answer: Answer | None = None
    took_s: float = 0.0
    problem: str = ""
    is_late: bool = False


def ask(address: Address, kind: Question, model_name: str, limit_s: float) -> CanaryReply:
    """Ask the server at *address* and return its reply. Blocks, up to *limit_s*."""
    path, question = QUESTIONS[kind]
    body = json.dumps({"model": model_name, **question})
    call = ControlCall("POST", address.base_path + path, body, limit_s)
    began = time.monotonic()
    try:
        status, received = send(address, call)
    except UpstreamTimeout as error:
        return CanaryReply(problem=str(error), took_s=time.monotonic() - began, is_late=True)
    except UpstreamError as error:
        return CanaryReply(problem=str(error), took_s=time.monotonic() - began)
    answer = answer_in(kind, received) if status == 200 else None
    return CanaryReply(status, answer, time.monotonic() - began)


def answer_in(kind: Question, body: bytes) -> Answer | None:
    """Return the answer in the body of a response; None where it has none, or none that is sane."""
    try:
        found = _FINDERS[kind](json.loads(body))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return found or None


def agree(one: Answer, other: Answer) -> bool:
    """Whether two answers are the same, apart from case, blanks and rounding."""
    if isinstance(one, str) or isinstance(other, str):
        return isinstance(one, str) and isinstance(other, str) and _plain(one) == _plain(other)
    if len(one) != len(other):
        return False
    largest = max(map(abs, (*one, *other)), default=0.0)
    return all(abs(a - b) <= TOLERANCE * largest for a, b in zip(one, other, strict=True))


def shown(answer: Answer | None) -> str:
    """Return the beginning of *answer* for a log line."""
    if isinstance(answer, str):
        return repr(answer[:SHOWN_CHARS])
    return "nothing" if answer is None else f"{[round(number, 4) for number in answer[:4]]}"


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _chat(document: Any) -> str:
    message = document["choices"][0]["message"]
    names = ("reasoning_content", "reasoning", "content")  # a model may think for all its tokens
    return "".join(text for name in names if isinstance(text := message.get(name), str))


def _completion(document: Any) -> str:
    return str(document["choices"][0]["text"])


def _embedding(document: Any) -> tuple[float, ...]:
    return _numbers(document["data"][0]["embedding"])


def _ranking(document: Any) -> tuple[float, ...]:
    ordered = sorted(document["results"], key=lambda result: result["index"])
    return _numbers([result["relevance_score"] for result in ordered])


def _numbers(values: Any) -> tuple[float, ...]:
    numbers = tuple(float(value) for value in values[:NUMBERS_KEPT])
    if not all(map(math.isfinite, numbers)):
        raise ValueError("not a number")
    return numbers


_FINDERS: Mapping[Question, Callable[[Any], Answer]] = {
    Question.CHAT: _chat,
    Question.COMPLETIONS: _completion,
    Question.EMBEDDINGS: _embedding,
    Question.RERANK: _ranking,
}


# --- what is expected of an answer ----------------------------------------------------------------


class Rule(StrEnum):
    """What an answer is held against.

    ``UNKNOWN``: the question was never asked, so only the failure of the server itself counts.
    ``UNFIT``: it does not answer the question when all is well, or too slowly.
    """

    UNKNOWN = "unknown"
    UNFIT = "unfit"
    ANY = "any"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class Expected:
    """What a server is expected to answer."""

    kind: Question
    rule: Rule = Rule.UNKNOWN
    answer: Answer | None = None


def expected_of(
    kind: Question, first: CanaryReply, second: CanaryReply, limit_s: float
) -> Expected:
    """Return what is expected after two replies of a server that was just started.

    *limit_s* is the time there will be for an answer.
    """
    if first.answer is None or second.answer is None or second.took_s > limit_s:
        return Expected(kind, Rule.UNFIT)
    if not agree(first.answer, second.answer):
        return Expected(kind, Rule.ANY)
    return Expected(kind, Rule.SAME, first.answer)


def fault_in(reply: CanaryReply, expected: Expected) -> str:
    """Return what is wrong with *reply*, "" if nothing is. One that is late has no fault."""
    has_failed = not reply.status or reply.status >= 500
    if reply.is_late or (expected.rule in (Rule.UNKNOWN, Rule.UNFIT) and not has_failed):
        return ""
    if reply.answer is None:
        return reply.problem or f"the server answered {reply.status}, without what was asked for"
    if expected.answer is None or agree(reply.answer, expected.answer):
        return ""
    return f"the server answered {shown(reply.answer)}, not {shown(expected.answer)} as before"
