import pytest

from llmsnap.telemetry import prometheus as module
from llmsnap.telemetry.events import (
    ActivityRecord,
    ActivityRecorded,
    EventBus,
    ProcessStateChanged,
    SwapFinished,
)
from llmsnap.telemetry.prometheus import OTHER, Counters, Histogram, inter_token_s
from tests.fakes.clock import Clock


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def counters(clock):
    return Counters(clock)


def record(**facts) -> ActivityRecord:
    return ActivityRecord(**{"id": 0, "model_id": "llama", "status": 200, **facts})


def test_a_histogram_counts_up_to_each_bound():
    histogram = Histogram((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        histogram.observe(value)
    assert histogram.cumulative() == [("0.1", 2.0), ("1.0", 3.0), ("+Inf", 4.0)]
    assert histogram.total == pytest.approx(7.65)


def test_requests_by_model_and_status(counters):
    for status in (200, 200, 502, 0, 999):
        counters.count_request(record(status=status))
    counters.count_request(record(model_id="", status=404, client_left=True))
    assert dict(counters.requests) == {
        ("llama", "200"): 2,
        ("llama", "502"): 1,
        ("llama", OTHER): 2,
        (OTHER, "404"): 1,
    }
    assert dict(counters.clients_left) == {(OTHER,): 1}


def test_tokens_of_all_kinds(counters):
    counters.count_request(record(input_tokens=5, output_tokens=7, cached_tokens=3))
    counters.count_request(record(output_tokens=1, draft_tokens=9, draft_accepted=4))
    assert dict(counters.tokens) == {
        ("llama", "input"): 5,
        ("llama", "output"): 8,
        ("llama", "cached"): 3,
        ("llama", "draft"): 9,
        ("llama", "draft_accepted"): 4,
    }


def test_waits_that_are_unknown_are_not_counted(counters):
    counters.count_request(record(queue_ms=3100.0, duration_ms=5000.0))
    assert counters.queue_waits.histograms["llama",].total == 3.1
    assert counters.durations.histograms["llama",].total == 5.0
    assert counters.load_waits.histograms == {}


@pytest.mark.parametrize(
    ("first_ms", "duration_ms", "tokens", "seconds"),
    [
        (100.0, 1100.0, 11, 0.1),
        (None, 1100.0, 11, None),
        (100.0, 1100.0, 1, None),
        (100.0, 1100.0, None, None),
        (100.0, 100.0, 11, None),
    ],
)
def test_the_time_between_tokens(first_ms, duration_ms, tokens, seconds):
    facts = {"first_token_ms": first_ms, "duration_ms": duration_ms, "output_tokens": tokens}
    assert inter_token_s(record(**facts)) == seconds


@pytest.mark.parametrize(
    ("states", "kind"),
    [
        (("stopped", "starting", "ready"), "load"),
        (("asleep", "waking", "ready"), "wake"),
        (("ready", "sleepPending", "asleep"), "sleep"),
        (("ready", "stopping", "stopped"), "stop"),
    ],
)
def test_how_long_a_move_takes(counters, clock, states, kind):
    counters.count_move(ProcessStateChanged("llama", states[0], states[1]))
    clock.now = 8.25
    counters.count_move(ProcessStateChanged("llama", states[1], states[2]))
    assert {labels: h.total for labels, h in counters.moves.histograms.items()} == {
        ("llama", kind): 8.25
    }


def test_a_move_that_fails_is_not_measured(counters):
    counters.count_move(ProcessStateChanged("llama", "stopped", "starting"))
    counters.count_move(ProcessStateChanged("llama", "starting", "stopped"))
    counters.count_move(ProcessStateChanged("llama", "stopped", "shutdown"))
    assert counters.moves.histograms == {}
    assert counters._since == {}


def test_swaps_by_reason_and_outcome(counters):
    swap = SwapFinished(
        swap_id=1, target="llama", outcome="done", reason="request", started_at=10.0, at=14.5
    )
    counters.count_swap(swap)
    assert dict(counters.swaps) == {("llama", "request", "done"): 1}
    assert counters.swap_durations.histograms["llama",].total == 4.5


def test_the_number_of_labels_is_bounded(counters, monkeypatch):
    monkeypatch.setattr(module, "MAX_MODELS", 2)
    assert [counters.label(name) for name in ("a", "b", "c", "a")] == ["a", "b", OTHER, "a"]


def test_it_follows_the_bus(counters):
    bus = EventBus()
    subscriptions = counters.follow(bus)
    bus.publish(ActivityRecorded(record()))
    bus.publish(ProcessStateChanged("llama", "stopped", "starting"))
    bus.publish(SwapFinished(swap_id=1, target="llama", outcome="failed"))
    for subscription in subscriptions:
        subscription.close()
    bus.publish(ActivityRecorded(record()))
    assert counters.requests["llama", "200"] == 1
    assert counters.swaps["llama", "", "failed"] == 1
