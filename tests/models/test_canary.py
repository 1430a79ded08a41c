"""The question to a server, what counts as an answer, and what is expected of it."""

import json
from dataclasses import replace

import pytest

from llmsnap.models.canary import (
    TOKENS,
    CanaryReply,
    Expected,
    Question,
    Rule,
    agree,
    answer_in,
    ask,
    expected_of,
    fault_in,
    kind_of,
)
from llmsnap.models.control import parse_address
from tests.fakes.upstream import FakeUpstream


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/chat/completions", Question.CHAT),
        ("/v1/messages?beta=true", Question.CHAT),
        ("/v1/responses", Question.CHAT),
        ("/v1/completions", Question.COMPLETIONS),
        ("/v1/embeddings", Question.EMBEDDINGS),
        ("/rerank", Question.RERANK),
        ("/v1/reranking", Question.RERANK),
        ("/v1/messages/count_tokens", None),
        ("/v1/audio/speech", None),
    ],
)
def test_what_a_server_serves_decides_what_it_is_asked(path: str, kind: Question | None) -> None:
    assert kind_of(path) is kind


def chat(**message: object) -> dict:
    return {"choices": [{"message": message}]}


@pytest.mark.parametrize(
    ("kind", "document", "answer"),
    [
        (Question.CHAT, chat(content="1 2 3"), "1 2 3"),
        (Question.CHAT, chat(content=None, reasoning_content="Let me"), "Let me"),
        (Question.CHAT, chat(content=""), None),
        (Question.CHAT, {"choices": []}, None),
        (Question.CHAT, [], None),
        (Question.COMPLETIONS, {"choices": [{"text": " 11 12"}]}, " 11 12"),
        (Question.EMBEDDINGS, {"data": [{"embedding": [0.5, -1]}]}, (0.5, -1.0)),
        (Question.EMBEDDINGS, {"data": [{"embedding": [float("nan")]}]}, None),
        (Question.EMBEDDINGS, {"data": [{"embedding": []}]}, None),
        (
            Question.RERANK,
            {"results": [{"index": 1, "relevance_score": 0.1}, {"index": 0, "relevance_score": 1}]},
            (1.0, 0.1),
        ),
        (Question.RERANK, {"results": [{"index": 0}]}, None),
    ],
)
def test_the_answer_is_found_in_the_body(kind: Question, document: object, answer: object) -> None:
    assert answer_in(kind, json.dumps(document).encode()) == answer
    assert answer_in(kind, b"<html>") is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("1 2 3", "1 2 3", True),
        ("One two", " ONE\n two ", True),
        ("1 2 3", "1 2 4", False),
        ("1 2 3", (1.0, 2.0, 3.0), False),
        ((1.0, 0.02), (0.98, 0.04), True),
        ((1.0, 0.02), (0.98, 0.2), False),
        ((1.0, 0.02), (1.0,), False),
        ((0.0,), (0.0,), True),
    ],
)
def test_case_blanks_and_rounding_are_no_difference(one, other, same: bool) -> None:
    assert agree(one, other) is same
    assert agree(other, one) is same


GOOD, OTHER = CanaryReply(200, "1 2 3"), CanaryReply(200, "# # #")
REFUSED, FAILED, EMPTY = CanaryReply(404), CanaryReply(500), CanaryReply(200)
BROKEN = CanaryReply(problem="POST /v1/chat/completions failed: reset")
LATE = CanaryReply(problem="too late", is_late=True)
ANYTHING = [GOOD, OTHER, REFUSED, EMPTY, LATE]


@pytest.mark.parametrize(
    ("first", "second", "rule", "fine"),
    [
        (GOOD, GOOD, Rule.SAME, [GOOD, LATE]),
        (GOOD, OTHER, Rule.ANY, [GOOD, OTHER, LATE]),
        (REFUSED, REFUSED, Rule.UNFIT, ANYTHING),
        (GOOD, BROKEN, Rule.UNFIT, ANYTHING),
        (GOOD, replace(GOOD, took_s=3.5), Rule.UNFIT, ANYTHING),
        (replace(GOOD, took_s=20.0), GOOD, Rule.SAME, [GOOD, LATE]),
        (None, None, Rule.UNKNOWN, ANYTHING),
    ],
)
def test_the_answers_after_a_start_decide_what_is_wrong_after_a_wake(
    first: CanaryReply | None, second: CanaryReply | None, rule: Rule, fine: list[CanaryReply]
) -> None:
    expected = Expected(Question.CHAT)
    if first is not None and second is not None:
        expected = expected_of(Question.CHAT, first, second, 3.0)
    assert expected.rule is rule
    replies = [GOOD, OTHER, REFUSED, FAILED, EMPTY, BROKEN, LATE]
    assert [reply for reply in replies if not fault_in(reply, expected)] == fine


@pytest.mark.parametrize("kind", list(Question))
def test_a_question_is_the_same_each_time_and_short(upstream: FakeUpstream, kind: Question) -> None:
    seen: list[tuple[str, dict]] = []

    def answer(environ, start_response):
        seen.append((environ["PATH_INFO"], json.load(environ["wsgi.input"])))
        start_response("503 -", [])
        return [b""]

    upstream.handler = answer
    upstream.start()
    address = parse_address(f"{upstream.url}/base")
    assert [ask(address, kind, "llama", 3.0).status for _ in range(2)] == [503, 503]
    (path, body), again = seen
    assert again == (path, body)
    assert path.startswith("/base/v1/")
    assert kind_of(path) is kind
    assert body["model"] == "llama"
    if kind in (Question.CHAT, Question.COMPLETIONS):
        assert (body["temperature"], body["max_tokens"]) == (0, TOKENS)
