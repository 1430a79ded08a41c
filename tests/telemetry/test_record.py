import pytest

from llmsnap.errors import ClientGone, HealthTimeout, TooManyInFlight, UpstreamBroke
from llmsnap.telemetry.observer import ResponseObserver
from llmsnap.telemetry.recorder import in_flight_object, outcome_status, record_of
from tests.fakes.calls import grant, observed
from tests.fakes.clock import Clock

SSE = [("Content-Type", "text/event-stream")]
JSON = [("Content-Type", "application/json")]
TOKEN = b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def filed():
    return []


@pytest.fixture
def observer(clock, filed):
    context = observed(
        "alias", model_id="llama", key_name="alice", client_ip="10.0.0.7", received_at=0.0
    )
    return ResponseObserver(
        5,
        context,
        clock=clock,
        now_ns=10**18,
        body_bytes=321,
        on_finish=lambda observer: filed.append(record_of(observer, 9, captured=True)),
    )


def usage(tokens: int) -> bytes:
    return b'data: {"usage":{"prompt_tokens":7,"completion_tokens":%d}}\n\n' % tokens


def test_why_was_that_answer_slow(observer, clock, filed):
    grant(observer.context, 3.1, 8.2, swap_id=12)
    observer.head(200, SSE)
    clock.now = 11.7
    observer.feed(TOKEN)
    clock.now = 12.7
    observer.feed(usage(42))
    observer.finish()
    (record,) = filed
    assert (record.id, record.request_id, record.swap_id) == (9, "r1", 12)
    assert (record.queue_ms, record.load_ms) == (3100.0, 8200.0)
    assert (record.first_byte_ms, record.first_token_ms) == (11700.0, 11700.0)
    assert record.duration_ms == 12700.0
    assert record.tokens_per_second == 41.0
    assert (record.input_tokens, record.output_tokens, record.cached_tokens) == (7, 42, None)
    assert (record.requested, record.model_id, record.key_name) == ("alias", "llama", "alice")
    assert (record.request_bytes, record.response_bytes) == (321, observer.response_bytes)
    assert (record.stream, record.client_left, record.has_capture) == (True, False, True)
    assert record.ended_ns - record.started_ms * 1_000_000 == 12_700_000_000


@pytest.mark.parametrize(
    ("answer", "speed"),
    [
        ((20, 2.0, None, None), 10.0),
        ((20, 12.0, 4.0, 6.0), 10.0),
        ((0, 2.0, None, None), None),
        ((20, 0.0005, None, None), None),
    ],
)
def test_without_a_first_token_the_speed_leaves_the_waits_out(
    observer, clock, filed, answer, speed
):
    tokens, seconds, queue_s, load_s = answer
    if queue_s is not None:
        grant(observer.context, queue_s, load_s)
    observer.head(200, JSON)
    observer.feed(b'{"usage":{"prompt_tokens":10,"completion_tokens":%d}}' % tokens)
    clock.now = seconds
    observer.finish()
    (record,) = filed
    assert (record.tokens_per_second, record.prompt_per_second) == (speed, None)


def test_a_stream_that_came_in_one_piece_has_the_speed_of_the_whole(observer, clock, filed):
    observer.head(200, SSE)
    clock.now = 2.0
    observer.feed(TOKEN + usage(20))
    observer.finish()
    assert filed[0].tokens_per_second == 10.0


def test_what_the_server_says_wins(observer, clock, filed):
    observer.head(200, JSON)
    observer.feed(b'{"timings":{"predicted_n":50,"predicted_per_second":25.5,"predicted_ms":2000}}')
    clock.now = 9.0
    observer.finish()
    (record,) = filed
    assert (record.tokens_per_second, record.server_ms) == (25.5, 2000.0)


@pytest.mark.parametrize(
    ("head", "end", "status", "reason"),
    [
        (None, (HealthTimeout("llama: not healthy in 120 s"), False), 502, "llama: not healthy"),
        (None, (TooManyInFlight("llama: queue is full"), False), 429, "llama: queue is full"),
        (None, (ClientGone("the client left while waiting"), True), 499, "the client left while"),
        (200, (UpstreamBroke("connection reset"), False), 502, "connection reset"),
        (200, (ClientGone(""), True), 200, "ClientGone"),
        (200, (None, True), 200, "the client left"),
        (None, (None, True), 499, "the client left"),
        (None, (ValueError("bug"), False), 500, "bug"),
        (None, (None, False), 500, "upstream answered 500 Internal Server Error"),
        (200, (None, False), 200, ""),
    ],
)
def test_failures_are_recorded_with_status_and_reason(observer, filed, head, end, status, reason):
    if head:
        observer.head(head, JSON)
    error, left = end
    observer.finish(error, client_left=left)
    (record,) = filed
    assert record.status == outcome_status(observer) == status
    assert record.reason.startswith(reason)
    assert bool(record.reason) is bool(reason)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, b'{"error":{"message":"the prompt is\\n too long","code":400}}', "the prompt is"),
        (401, b'{"detail":"wrong key sk-abcdef123456"}', "wrong key [REDACTED]"),
        (503, b"<html>", "upstream answered 503 Service Unavailable"),
        (599, b"", "upstream answered 599"),
    ],
)
def test_the_reason_of_an_upstreams_refusal_is_its_own_message(
    observer, status, body, reason, filed
):
    observer.head(status, JSON)
    observer.feed(body)
    observer.finish()
    (record,) = filed
    assert record.reason.startswith(reason)
    assert record.output_tokens is None


def test_reasons_are_short(observer, filed):
    observer.finish(ValueError("x" * 5000))
    assert len(filed[0].reason) == 200


def test_a_request_in_flight(observer, clock):
    grant(observer.context, 1.5, 0.0)
    clock.now = 4.0
    shown = in_flight_object(observer, clock())
    assert (shown["id"], shown["phase"], shown["age_ms"]) == (5, "sent", 4000.0)
    assert (shown["queue_ms"], shown["load_ms"], shown["first_byte_ms"]) == (1500.0, 0.0, None)
    assert (shown["client"], shown["can_cancel"]) == ("10.0.0.7", True)
