"""The log of ended requests: filters, order and pages; what the APIs show; statistics."""

import json

import pytest

from llmsnap.errors import BadRequest
from llmsnap.telemetry import activity as module
from llmsnap.telemetry.activity import ActivityLog, Filter, Order, metric_object, statistics
from llmsnap.telemetry.events import SwapFinished
from llmsnap.telemetry.record import ActivityRecord


def record(record_id: int, **facts) -> ActivityRecord:
    return ActivityRecord(id=record_id, **{"model_id": "llama", "status": 200, **facts})


def held(log: ActivityLog) -> list[int]:
    return [one.id for one in log.snapshot()]


def ids(page) -> list[int]:
    return [one.id for one in page.records]


def test_the_oldest_go_and_ids_go_on():
    log = ActivityLog(size=3)
    for _ in range(5):
        log.append(record(log.take_id()))
    assert (held(log), log.next_id, len(log)) == ([2, 3, 4], 5, 3)
    log.resize(2)
    assert held(log) == [3, 4]
    assert [ActivityLog(size=size).size for size in (0, -1)] == [1000, 1000], "it makes no sense"


def test_records_of_an_earlier_run_come_first():
    log = ActivityLog(first_id=7)
    log.append(record(log.take_id()))
    log.restore([record(5), record(6)])
    assert held(log) == [5, 6, 7]
    assert [one.id for one in log.after(5)] == [6, 7]
    assert log.take_id() == 8


def test_filters():
    log = ActivityLog()
    log.restore(
        [
            record(0, ended_ns=0),
            record(1, ended_ns=10**9, status=404, key_name="alice", selector="chat", peer="box"),
            record(2, ended_ns=2 * 10**9, status=502, requested="alias", selector="chat"),
            record(3, ended_ns=3 * 10**9, model_id="qwen", session="s-1"),
        ]
    )
    cases = [
        (Filter(model="llama"), [2, 1, 0]),
        (Filter(model="alias"), [2]),
        (Filter(status="200"), [3, 0]),
        (Filter(status="error"), [2, 1]),
        (Filter(key_name="alice"), [1]),
        (Filter(session="s-1"), [3]),
        (Filter(selector="chat", peer="box"), [1]),
        (Filter(since_ms=2000), [3, 2]),
        (Filter(until_ms=2000), [1, 0]),
        (Filter(model="llama", status="5xx", since_ms=2000, until_ms=2001), [2]),
    ]
    assert [(wanted, ids(log.page(wanted))) for wanted, _ in cases] == cases


def test_what_cannot_be_meant_is_refused():
    log = ActivityLog()
    log.append(record(0))
    for value in ("9xxx", "abc", "-1", "4x", "²00", "1234"):
        with pytest.raises(BadRequest, match="give a number"):
            log.page(Filter(status=value))
    for value in ("x", "!!!!", "WzFd", "WyJhIiwgMV0", "bnVsbA", "W1tdLCAxXQ", "é"):
        with pytest.raises(BadRequest, match="cursor"):
            log.page(cursor=value)
    with pytest.raises(BadRequest, match="sort"):
        Order.parse("-secret")


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
def test_pages_follow_each_other_in_every_order(limit):
    orders = {
        "-id": [5, 4, 3, 2, 1, 0],
        "id": [0, 1, 2, 3, 4, 5],
        "-load_ms": [2, 4, 0, 5, 3, 1],
        "load_ms": [0, 4, 2, 5, 3, 1],
        "model_id": [5, 3, 1, 4, 2, 0],
        "-ended_ms": [5, 4, 3, 2, 1, 0],
    }

    def found(sort: str) -> list[int]:
        log = ActivityLog()
        for n, wait in enumerate([1.0, None, 9.5, None, 5.0, None]):
            log.append(record(n, load_ms=wait, model_id="ab"[n % 2 == 0], ended_ns=10 * n))
        order, cursor, seen = Order.parse(sort), None, []
        while cursor or not seen:
            page = log.page(order=order, cursor=cursor, limit=limit)
            seen, cursor = seen + ids(page), page.cursor
            if sort == "-id":
                log.append(record(log.next_id + len(seen) + 10))  # new ones change nothing
        return seen

    assert {sort: found(sort) for sort in orders} == orders


KNOWN = ActivityRecord(
    id=9, ended_ns=1_795_293_112_273_789_305, requested="alias", model_id="llama", status=200,
    input_tokens=25, output_tokens=10, cached_tokens=0, prompt_per_second=150.5,
    tokens_per_second=25.5, duration_ms=3456.7, has_capture=True,
)  # fmt: skip


def test_the_published_metric_object_and_how_it_tells_the_unknown():
    shown = metric_object(ActivityRecord(id=0, requested="peer-model", duration_ms=12.9))
    assert (shown["model"], shown["duration_ms"]) == ("peer-model", 12)
    assert (shown["input_tokens"], shown["output_tokens"], shown["cache_tokens"]) == (0, 0, -1)
    assert (shown["prompt_per_second"], shown["tokens_per_second"]) == (-1, -1)
    assert metric_object(ActivityRecord(id=0, server_ms=2000.9))["duration_ms"] == 2000
    assert json.dumps(metric_object(KNOWN), separators=(",", ":")) == (
        '{"id":9,"timestamp":"2026-11-21T20:31:52.273789305Z","model":"llama","cache_tokens":0,'
        '"input_tokens":25,"output_tokens":10,"prompt_per_second":150.5,"tokens_per_second":25.5,'
        '"duration_ms":3456,"has_capture":true,"req_path":"","resp_status_code":200,'
        '"tokens":{"cache_tokens":0,"draft_tokens":-1,"draft_acc_tokens":-1,"input_tokens":25,'
        '"output_tokens":10,"prompt_per_second":150.5,"tokens_per_second":25.5}}'
    )
    instants = {0: "00Z", 1_500_000_000: "01.5Z", 10: "00.00000001Z"}
    shown = {ns: module.rfc3339(ns).removeprefix("1970-01-01T00:00:") for ns in instants}
    assert shown == instants


def test_the_named_frame_is_camel_case_with_null_for_unknown():
    shown = module.named_metric_object(KNOWN)
    assert (shown["outputTokens"], shown["inputTokens"], shown["cachedTokens"]) == (10, 25, 0)
    assert (shown["tokensPerSecond"], shown["hasCapture"], shown["swapId"]) == (25.5, True, None)
    assert (shown["model"], shown["timestamp"]) == ("llama", "2026-11-21T20:31:52.273789305Z")
    assert not [name for name in shown if "_" in name]
    whole = module.activity_object(KNOWN)
    assert (whole["ended_ms"], whole["load_ms"]) == (1_795_293_112_273, None)
    assert module.activity_export([KNOWN]) == {"schema_version": 1, "records": [whole]}


def test_a_swap():
    swap = SwapFinished(
        swap_id=3, target="llama", outcome="done", evicted=("qwen",), longest_wait_s=1.5,
        started_at=10.0, at=12.0, phases=(("wait", 3.0), ("drain", 0.25), ("load", 1.75)),
    )  # fmt: skip
    shown = module.swap_object(swap)
    assert (shown["id"], shown["evicted"], shown["longest_wait_ms"]) == (3, ["qwen"], 1500.0)
    assert (shown["started_ms"], shown["ended_ms"]) == (10_000, 12_000)
    assert shown["phases"] == [
        {"name": "wait", "ms": 3000.0, "started_ms": 7_000},
        {"name": "drain", "ms": 250.0, "started_ms": 10_000},
        {"name": "load", "ms": 1750.0, "started_ms": 10_250},
    ]


def test_sums_and_distributions_for_all_and_per_model():
    stats = statistics(
        [
            record(0, model_id="a", output_tokens=10, tokens_per_second=40.0),
            record(1, model_id="a", status=502, load_ms=8200.0, client_left=True),
            record(2, model_id="", requested="b", output_tokens=None),
        ]
    )
    total, (a, b) = stats["total"], stats["models"].values()
    assert (total["requests"], total["errors"], total["client_left"]) == (3, 1, 1)
    assert list(stats["models"]) == ["a", "b"]
    assert (a["output_tokens"], a["tokens_per_second"]["p50"], b["load_ms"]) == (10, 40.0, None)


def test_a_distribution_of_none_or_one():
    assert module.distribution([]) is None
    shown = module.distribution([7.0])
    assert (shown["count"], shown["min"], shown["p99"], shown["mean"]) == (1, 7.0, 7.0, 7.0)
    assert shown["histogram"] == {"start": 7.0, "width": 0.0, "counts": [1]}
    shares = {0.0: 1, 0.5: 51, 0.95: 96, 0.99: 100, 1.0: 100}
    assert {share: module.percentile(range(1, 101), share) for share in shares} == shares


def test_histograms_have_ten_to_thirty_bins_and_lose_nothing():
    for count, bins in ((2, 10), (60, 12), (1000, 30)):
        shown = module.histogram([float(n) for n in range(count)])
        assert (len(shown["counts"]), sum(shown["counts"]), shown["start"]) == (bins, count, 0.0)
