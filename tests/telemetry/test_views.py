import json

import pytest

from llmsnap.telemetry.activity import (
    activity_export,
    activity_object,
    is_metric,
    metric_object,
    named_metric_object,
    rfc3339,
    swap_object,
)
from llmsnap.telemetry.events import ActivityRecord, SwapFinished

KNOWN = ActivityRecord(
    id=9,
    ended_ns=1_795_293_112_273_789_305,
    requested="alias",
    model_id="llama",
    status=200,
    input_tokens=25,
    output_tokens=10,
    cached_tokens=0,
    prompt_per_second=150.5,
    tokens_per_second=25.5,
    duration_ms=3456.7,
    has_capture=True,
)


def test_the_published_metric_object():
    assert json.dumps(metric_object(KNOWN), separators=(",", ":")) == (
        '{"id":9,"timestamp":"2026-11-21T20:31:52.273789305Z","model":"llama","cache_tokens":0,'
        '"input_tokens":25,"output_tokens":10,"prompt_per_second":150.5,"tokens_per_second":25.5,'
        '"duration_ms":3456,"has_capture":true}'
    )


def test_unknown_is_minus_one_for_speeds_and_cache_and_zero_for_counts():
    shown = metric_object(ActivityRecord(id=0, requested="peer-model", duration_ms=12.9))
    assert shown["model"] == "peer-model"
    assert (shown["input_tokens"], shown["output_tokens"], shown["cache_tokens"]) == (0, 0, -1)
    assert (shown["prompt_per_second"], shown["tokens_per_second"]) == (-1, -1)
    assert shown["duration_ms"] == 12


def test_the_servers_own_duration_wins():
    assert metric_object(ActivityRecord(id=0, server_ms=2000.9))["duration_ms"] == 2000


def test_the_named_frame_is_camel_case_with_null_for_unknown():
    shown = named_metric_object(KNOWN)
    assert (shown["outputTokens"], shown["inputTokens"], shown["cachedTokens"]) == (10, 25, 0)
    assert (shown["tokensPerSecond"], shown["hasCapture"], shown["swapId"]) == (25.5, True, None)
    assert (shown["model"], shown["timestamp"]) == ("llama", "2026-11-21T20:31:52.273789305Z")
    assert not [name for name in shown if "_" in name]


def test_all_that_is_known():
    shown = activity_object(KNOWN)
    assert shown["ended_ms"] == 1_795_293_112_273
    assert "ended_ns" not in shown
    assert shown["load_ms"] is None
    export = activity_export([KNOWN])
    assert export == {"schema_version": 1, "records": [shown]}


def test_a_swap():
    swap = SwapFinished(
        swap_id=3,
        target="llama",
        outcome="done",
        kind="wake",
        evicted=("qwen",),
        longest_wait_s=1.5,
        started_at=10.0,
        at=12.0,
        phases=(("drain", 0.25),),
    )
    shown = swap_object(swap)
    assert (shown["id"], shown["evicted"], shown["longest_wait_ms"]) == (3, ["qwen"], 1500.0)
    assert (shown["started_ms"], shown["ended_ms"]) == (10_000, 12_000)
    assert shown["phases"] == [{"name": "drain", "ms": 250.0}]


@pytest.mark.parametrize(("status", "listed"), [(200, True), (201, False), (404, False)])
def test_the_published_list_has_status_200_only(status, listed):
    assert is_metric(ActivityRecord(id=0, status=status)) is listed


@pytest.mark.parametrize(
    ("unix_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_500_000_000, "1970-01-01T00:00:01.5Z"),
        (10, "1970-01-01T00:00:00.00000001Z"),
    ],
)
def test_instants(unix_ns, text):
    assert rfc3339(unix_ns) == text
