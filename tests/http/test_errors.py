import json

import pytest

from llmsnap import errors
from llmsnap.errors import LlmsnapError
from llmsnap.http.errors import Dialect, envelope, error_answer, sse_error, status_line
from llmsnap.http.sse import SseParser


def test_status_lines() -> None:
    assert [status_line(status) for status in (200, 499, 799)] == [
        "200 OK",
        "499 Client Closed Request",
        "799 Unknown",
    ]


MODEL_NOT_FOUND = {"type": "not_found_error", "param": "model", "code": "model_not_found"}
JSON, TEXT = "application/json", "text/plain; charset=utf-8"


@pytest.mark.parametrize(
    ("error", "asked", "status", "kind", "told"),
    [
        (errors.UnknownModel("x"), {}, 404, JSON, {"error": {"message": "x", **MODEL_NOT_FOUND}}),
        (
            errors.TooManyInFlight("busy"),
            {"path": "/v1/messages"},
            429,
            JSON,
            {"type": "error", "error": {"type": "rate_limit_error", "message": "busy"}},
        ),
        (errors.StartFailed("ü"), {"accept": "text/html,*/*;q=0.8"}, 502, TEXT, "ü\n"),
        (LlmsnapError("\ud800"), {"accept": "text/plain"}, 500, TEXT, "?\n"),
    ],
)
def test_an_error_is_told_in_the_clients_way(error, asked, status, kind, told) -> None:
    found, headers, body = error_answer(error, **asked)
    length = ("Content-Length", str(len(body)))
    assert headers[:2] == [("Content-Type", kind), length]
    assert ("X-Content-Type-Options", "nosniff") in headers
    assert (found, body.decode() if kind == TEXT else json.loads(body)) == (status, told)
    assert b"\\ud800" in error_answer(LlmsnapError("\ud800"))[2]


TYPES = [
    (errors.BadRequest("x"), "invalid_request_error", "invalid_request_error"),
    (errors.Unauthorized("x"), "authentication_error", "authentication_error"),
    (errors.Forbidden("x"), "permission_error", "permission_error"),
    (errors.NotFound("x"), "not_found_error", "not_found_error"),
    (errors.NotReady("x"), "invalid_request_error", "conflict_error"),
    (errors.TooLarge("x"), "invalid_request_error", "request_too_large"),
    (errors.TooManyInFlight("x"), "rate_limit_error", "rate_limit_error"),
    (errors.StartFailed("x"), "server_error", "api_error"),
    (errors.Draining("x"), "server_error", "overloaded_error"),
    (errors.UpstreamTimeout("x"), "server_error", "timeout_error"),
    (LlmsnapError("x"), "server_error", "api_error"),
]


def test_types_are_those_of_the_api() -> None:
    for error, openai_type, anthropic_type in TYPES:
        assert envelope(error)["error"]["type"] == openai_type
        assert envelope(error, Dialect.ANTHROPIC)["error"]["type"] == anthropic_type


NEXT = [
    (errors.Unauthorized("x"), ("WWW-Authenticate", 'Basic realm="llmsnap"')),
    (errors.MethodNotAllowed("x", ["GET", "HEAD"]), ("Allow", "GET, HEAD")),
    (errors.TooManyInFlight("x"), ("Retry-After", "1")),
    (errors.TooManyInFlight("x", 2.5), ("Retry-After", "3")),
    (errors.Draining("x", 0.1), ("Retry-After", "1")),
]


def test_an_error_says_what_to_do_next() -> None:
    for error, advice in NEXT:
        assert advice in error_answer(error)[1]


MODEL_FAILED = [
    errors.ProcessError("x", 60.0),
    errors.StartFailed("x", 60.0),
    errors.HealthTimeout("x", 600.0),
    errors.ChildExited("x"),
    errors.WakeFailed("x", 3.0),
    errors.ModelDoesNotFit("x", 3.0),
]
CONFLICTS = [errors.NotReady("x", 3.0), errors.SleepNotConfigured("x")]

MAY_PASS = "LoadAborted QueueTimeout Draining Unreachable UpstreamTimeout UpstreamBroke"
BUSY = errors.TooManyInFlight("x")

RETRIES = [
    *((error, "false", False) for error in MODEL_FAILED),
    *((error, "false", None) for error in CONFLICTS),
    *((getattr(errors, name)("x"), None, False) for name in MAY_PASS.split()),
    (BUSY, None, True),
]


def test_which_failures_are_worth_a_retry() -> None:
    """Client libraries ask three times on 409 alone; the request has said that it will not wait."""
    for error, should_retry, says_when in RETRIES:
        headers = dict(error_answer(error)[1])
        assert headers.get("X-Should-Retry") == should_retry, error
        assert says_when is None or ("Retry-After" in headers) is says_when


def events(stream: bytes) -> list[tuple[str, dict]]:
    return [(frame.event, json.loads(frame.data)) for frame in SseParser().feed(stream)]


BROKE = errors.UpstreamBroke("the upstream broke off")


def test_a_stream_ends_with_an_error_event_of_its_dialect() -> None:
    assert events(sse_error(BROKE)) == [("", envelope(BROKE))]
    stream = sse_error(BROKE, Dialect.ANTHROPIC)
    assert events(stream) == [("error", envelope(BROKE, Dialect.ANTHROPIC))]
    ((event, document),) = events(sse_error(BROKE, Dialect.RESPONSES, sequence=7))
    assert (event, document["type"], document["sequence_number"]) == ("error", "error", 7)
    assert document["message"] == document["error"]["message"] == "the upstream broke off"
    assert document["code"] == "upstream_error"


def test_half_a_frame_is_closed_before_the_error() -> None:
    sent = b'data: {"cho'
    frames = SseParser().feed(sent + sse_error(BROKE, sent=sent))
    assert [frame.data[:7] for frame in frames] == ['{"cho', '{"error']
    assert sse_error(BROKE, sent=b"data: {}\n\n") == sse_error(BROKE)
