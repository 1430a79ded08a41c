"""The requests in flight as llama-swap's clients read them: the list, then what changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from llmsnap.web import feed as feeds
from llmsnap.web import inflight
from llmsnap.web.feed import Feed, Form
from tests.web.watched import World, envelopes

JSON = [("Content-Type", "application/json"), ("Set-Cookie", "id=s3cret")]


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(clock: Clock) -> Iterator[World]:
    made = World()
    made.service.telemetry.recorder._clock = clock
    yield made
    made.close()


def told(world: World, feed: Feed) -> list[Any]:
    world.publish()
    return envelopes(feed.wait(0), "inflight")


def test_a_request_is_told_from_its_begin_to_its_end(world: World, clock: Clock) -> None:
    feed = world.feed(Form.MESSAGE)
    assert told(world, feed) == [{"operation": "snapshot", "requests": []}]
    headers = [("X-Session-ID", "s-1"), ("Authorization", "Bearer s3cret"), ("X-Session-ID", "2")]
    observer = world.begin(client_ip="10.0.0.9", headers=headers, received_at=clock.now)
    clock.now += 1.5
    (upsert,) = told(world, feed)
    assert upsert["operation"] == "upsert"
    assert upsert["request"].pop("timestamp").endswith("Z")
    assert upsert["request"] == {
        "id": str(observer.serial),
        "model": "alpha",
        "req_path": "/v1/chat/completions",
        "method": "POST",
        "req_headers": {"X-Session-ID": "s-1", "Authorization": "[REDACTED]"},
        "remote_ip": "10.0.0.9",
        "resp_headers": {},
        "resp_bytes": 0,
        "elapsed_ms": 1500.0,
    }
    assert told(world, feed) == []
    observer.head(200, JSON)
    (upsert,) = told(world, feed)
    assert upsert["request"]["resp_headers"] == {
        "Content-Type": "application/json",
        "Set-Cookie": "[REDACTED]",
    }
    observer.finish()
    assert told(world, feed) == [{"operation": "remove", "id": str(observer.serial)}]
    assert told(world, feed) == []


@pytest.mark.parametrize("others", [0, 1])
def test_who_comes_later_begins_with_what_there_is_and_misses_nothing(
    world: World, others: int
) -> None:
    early = [world.feed(Form.MESSAGE) for _ in range(others)]
    for feed in early:
        told(world, feed)
    observers = [world.begin(), world.begin("beta")]
    late = world.feed(Form.MESSAGE)
    (snapshot,) = told(world, late)
    assert [one["model"] for one in snapshot["requests"]] == ["alpha", "beta"]
    for feed in early:
        assert [one["operation"] for one in told(world, feed)] == ["upsert", "upsert"]
    for observer in observers:
        observer.finish()
    for feed in (*early, late):
        assert [one["operation"] for one in told(world, feed)] == ["remove", "remove"]


def test_bytes_are_counted_four_times_a_second_of_so_many_requests(
    world: World, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflight, "MOST_BYTES_TOLD", 2)
    feed = world.feed(Form.MESSAGE)
    observers = [world.begin() for _ in range(3)]
    told(world, feed)
    clock.now += inflight.BYTES_EVERY_S
    told(world, feed)

    def stream() -> list[str]:
        for observer in observers:
            observer.feed(b"token")
        return [one["request"]["id"] for one in told(world, feed)]

    assert stream() == [], "too early"
    clock.now += inflight.BYTES_EVERY_S
    first = stream()
    clock.now += inflight.BYTES_EVERY_S
    second = stream()
    assert (len(first), len(second)) == (2, 2)
    assert {*first, *second} == {str(observer.serial) for observer in observers}
    for observer in observers:
        observer.finish()


def test_what_is_no_inference_is_not_listed(world: World) -> None:
    feed = world.feed(Form.MESSAGE)
    told(world, feed)
    observers = [world.begin(path="/slots"), world.begin(path="/v1/embeddings")]
    assert [one["request"]["req_path"] for one in told(world, feed)] == ["/v1/embeddings"]
    for observer in observers:
        observer.finish()


def test_a_reader_that_is_behind_gets_a_snapshot_instead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feeds, "MAX_NOTES", 3)
    feed, quick = world.feed(Form.MESSAGE), world.feed(Form.MESSAGE)
    told(world, feed)
    told(world, quick)
    observers = []
    for _ in range(4):
        observers.append(world.begin())
        assert [one["operation"] for one in told(world, quick)] == ["upsert"]
    observers.pop(0).finish()
    last = told(world, quick)
    changes = told(world, feed)
    assert changes[0]["operation"] == "snapshot"
    known = {one["id"] for one in changes[0]["requests"]}
    for change in changes[1:]:
        known.discard(change.get("id")) if change["operation"] == "remove" else None
    assert known == {str(observer.serial) for observer in observers}
    assert [one["operation"] for one in last] == ["remove"]
    for observer in observers:
        observer.finish()


def test_nothing_is_made_for_readers_of_named_frames(world: World) -> None:
    world.feed(Form.NAMED)
    observer = world.begin()
    world.publish()
    assert world.broadcast._requests.is_empty
    observer.finish()
