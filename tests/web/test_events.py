"""The event feed: what one reader gets, in which frames."""

import base64
import json
from typing import Any

import gevent
import pytest

from llmsnap.models import Facts
from llmsnap.telemetry import (
    ConfigReload,
    ModelPreloaded,
    ProcessStateChanged,
    ProfileChanged,
    ReloadPhase,
    SwapStarted,
)
from llmsnap.telemetry.activity import metric_object, named_metric_object
from llmsnap.web import events as feeds
from llmsnap.web import frames as inflight
from llmsnap.web.events import EventFeed, Form, Position
from llmsnap.web.frames import LogPiece, envelope, split_utf8, wrapped
from llmsnap.web.frames import named as named_frame
from tests.fakes.clock import Clock
from tests.parity import parity
from tests.web.watched import World, envelopes, named


def told(feed: EventFeed) -> list:
    return feed.wait(0.0)


def test_log_data_and_the_content_of_records_can_be_left_out(world) -> None:
    brief = EventFeed(world.service, Form.NAMED, logs=False, records=False)
    full = EventFeed(world.service, Form.NAMED)
    for feed in (brief, full):
        feed.open()
    world.service.logs.proxy.write(b"a line\n")
    world.record()
    world.record()
    world.publish(ConfigReload(ReloadPhase.END, ""))
    found = told(brief)
    assert [frame.event for frame in found] == ["configReload", "activity"]
    assert json.loads(found[1].data) == {"id": 1}
    events = ["configReload", "metrics", "metrics", "logData"]
    assert [frame.event for frame in told(full)] == events
    for feed in (brief, full):
        feed.close()


@parity("Event stream", "logs and models at the beginning")
def test_it_begins_with_both_logs_the_models_and_all_metrics(world) -> None:
    world.service.logs.proxy.write(b"[INFO] hello\n")
    alpha = world.service.runtime.config.models["alpha"]
    world.service.facts.note(alpha, Facts(8192, ("image",)))
    assert envelopes(told(world.feed()), "metrics") == [[]]
    record = world.record()
    world.record(status=502)
    first = envelopes(told(world.feed(Form.MESSAGE)))
    model = {"name": "", "description": "", "state": "stopped", "unlisted": False, "peerID": ""}
    alpha = {"id": "alpha", "sleepMode": "enable", "aliases": ["first"], "context_length": 8192}
    beta = {"id": "beta", "name": " Beta ", "unlisted": True, "sleepMode": "disable"}
    remote = {"id": "box2/m-remote", "state": "", "sleepMode": "", "peerID": "box2"}
    models = [model | alpha | {"capabilities": {"vision": True}}, model | beta, model | remote]
    assert first == [
        ("logData", {"data": "[INFO] hello\n", "source": "proxy"}),
        ("logData", {"data": "", "source": "upstream"}),
        ("modelStatus", models),
        ("uiConfig", {"activity": {"session_id": ["X-Session-ID", "X-Litellm-Session-Id"]}}),
        ("profileChanged", {"active": None}),
        ("inflight", {"operation": "snapshot", "requests": []}),
        ("metrics", [metric_object(record)]),
    ]
    assert told(world.feed(Form.NAMED)) == []


@parity("Profiles", "event `profileChanged`")
def test_a_change_of_models_is_the_whole_list_and_the_change_itself(world) -> None:
    feed = world.feed()
    told(feed)
    world.publish(ProcessStateChanged("alpha", "stopped", "starting", swap_id=4))
    frames = told(feed)
    (listed,) = envelopes(frames, "modelStatus")
    assert [model["id"] for model in listed] == ["alpha", "beta", "box2/m-remote"]
    states = {"newState": "starting", "oldState": "stopped"}
    change = {"processName": "alpha", **states, "swapId": 4, "reason": ""}
    assert named(frames, "modelStatus") == [change]
    world.publish(ConfigReload(ReloadPhase.FAILED, "c.yaml", ("models: is not a mapping",)))
    frames = told(feed)
    assert len(envelopes(frames, "modelStatus")) == 1
    failure = {"phase": "failed", "source": "c.yaml", "errors": ["models: is not a mapping"]}
    assert named(frames, "configReload") == [failure]
    world.publish(ProfileChanged("work"))
    frames = told(feed)
    assert [kind for kind, _ in envelopes(frames)] == ["modelStatus", "profileChanged"]
    assert named(frames, "profileChanged") == [{"active": None}]


def test_metrics_and_logs_have_a_form_of_their_own_in_envelopes_and_by_name(world) -> None:
    feed = world.feed()
    told(feed)
    record = world.record(model_id="beta", cached_tokens=None, queue_ms=3100.0)
    frames = told(feed)
    assert envelopes(frames, "metrics") == [[metric_object(record)]]
    assert named(frames, "metrics") == [json.loads(json.dumps(named_metric_object(record)))]
    world.record(status=502, reason="alpha: ended with exit code 3")
    world.record(method="GET")
    frames = told(feed)
    assert envelopes(frames) == [("activity", {"id": 1}), ("activity", {"id": 2})]
    assert [metric["status"] for metric in named(frames, "metrics")] == [502, 200]
    world.service.logs.model("alpha").feed(b"\xff ok\x1b[0m\n")
    world.publish()
    frames = told(feed)
    assert envelopes(frames, "logData") == [{"data": "\ufffd ok\x1b[0m\n", "source": "upstream"}]
    (by_name,) = named(frames, "logData")
    assert list(by_name) == ["data", "source"]
    assert base64.b64decode(by_name["data"]) == b"\xff ok\x1b[0m\n"


def test_swaps_and_preloads_are_told_by_name(world) -> None:
    feed = world.feed(Form.NAMED)
    world.publish(SwapStarted(swap_id=1, target="alpha", evicted=("beta",), at=5.0))
    world.swap(evicted=("beta",), reason="request", phases=(("drain", 3.1),))
    world.publish(ModelPreloaded("alpha", success=False, reason="no", swap_id=1))
    frames = told(feed)
    started = {"id": 1, "target": "alpha", "evicted": ["beta"], "started_ms": 5000}
    assert named(frames, "swapStarted") == [started]
    (swap,) = named(frames, "swap")
    assert (swap["id"], swap["outcome"], swap["evicted"]) == (1, "done", ["beta"])
    assert [(phase["name"], phase["ms"]) for phase in swap["phases"]] == [("drain", 3100.0)]
    preload = {"modelName": "alpha", "success": False, "reason": "no", "swapId": 1}
    assert named(frames, "preload") == [preload]


def test_ids_stand_on_metrics_and_swaps_alone(world) -> None:
    feed = world.feed()
    world.service.logs.proxy.write(b"x\n")
    world.begin().finish()
    world.service.deferred.flush()
    world.swap()
    world.publish(
        ProcessStateChanged("alpha", "stopped", "starting"), ConfigReload(ReloadPhase.END)
    )
    world.publish(ModelPreloaded("alpha", success=True), SwapStarted(swap_id=2, target="beta"))
    frames = told(feed)
    assert {frame.event for frame in frames if frame.id} == {"metrics", "swap"}
    assert len({frame.event for frame in frames}) > 5


def test_a_reader_that_comes_back_misses_no_metric_and_no_swap(world) -> None:
    feed = world.feed()
    world.record()
    world.swap()
    last = [frame.id for frame in told(feed) if frame.id][-1]
    feed.close()
    world.swap("beta")
    world.record(status=500)
    world.record()
    frames = told(world.feed(resume=last))
    assert [metric["id"] for metric in named(frames, "metrics")] == [1, 2]
    assert [swap["target"] for swap in named(frames, "swap")] == ["beta"]
    (metrics,) = envelopes(frames, "metrics")
    assert [metric["id"] for metric in metrics] == [0, 2], "the list has them all"


def test_swaps_are_told_in_the_order_they_ended_whatever_their_ids(world) -> None:
    feed = world.feed(Form.NAMED)
    first = world.swap("late")
    assert [swap["target"] for swap in named(told(feed), "swap")] == ["late"]
    at = str(feed._at)
    assert Position.parse(at) == feed._at
    world.service.bus.publish(type(first)(swap_id=0, target="early", outcome="done"))
    assert [swap["target"] for swap in named(told(world.feed(Form.NAMED, at)), "swap")] == ["early"]


def test_an_id_of_another_run_means_that_all_is_new_and_what_is_none_resumes_nothing(world) -> None:
    ahead = world.feed(Form.NAMED, f"{world.service.telemetry.run}-999-999")
    world.record()
    world.swap()
    assert len(told(ahead)) == 2
    frames = told(world.feed(Form.NAMED, resume="abc-57-12"))
    assert [metric["id"] for metric in named(frames, "metrics")] == [0]
    assert len(named(frames, "swap")) == 1
    for resume in ("", "x", "1-2", "--", "a-b-c", "a-1-2-3", "a--1-2", "a-\u0661-2"):
        assert told(world.feed(Form.NAMED, resume)) == []


def test_a_slow_reader_gets_the_newest_model_list_once_and_every_metric_in_memory(
    world, monkeypatch
) -> None:
    monkeypatch.setattr(feeds, "MAX_RECORDS", 20)
    envelopes_only, by_name = world.feed(Form.MESSAGE), world.feed(Form.NAMED)
    told(envelopes_only)
    for _ in range(20):
        world.publish(ProcessStateChanged("alpha", "stopped", "starting"))
    assert [frame.event for frame in told(envelopes_only)] == ["message"]
    told(by_name)
    for _ in range(3 * feeds.MAX_RECORDS):
        world.record()
    ids: list[int] = []
    while frames := told(by_name):
        ids += [metric["id"] for metric in named(frames, "metrics")]
        assert len(frames) <= feeds.MAX_RECORDS
    assert ids == list(range(3 * feeds.MAX_RECORDS))


def test_a_slow_reader_loses_the_oldest_log_and_is_told_how_much(world) -> None:
    feed = world.feed(Form.NAMED)
    for number in range(100):
        world.service.logs.proxy.write(b"%09d\n" % number * 1000)
        world.publish()
    marker, *rest = named(told(feed), "logData")
    kept = b"".join(base64.b64decode(piece["data"]) for piece in rest)
    assert marker["dropped"] + len(kept) == 1_000_000
    assert b"%d bytes of log dropped" % marker["dropped"] in base64.b64decode(marker["data"])
    assert kept.endswith(b"000000099\n")
    assert len(kept) <= feeds.LOG_BYTES


def test_readers_that_are_as_far_share_the_frames_of_records_and_others_do_not(world) -> None:
    first, second, behind = (world.feed(Form.NAMED) for _ in range(3))
    both = world.feed(Form.BOTH)
    ids = [world.record().id]
    for reader in (first, second, both):
        told(reader)
    ids.append(world.record().id)
    (one,), (other,) = told(first), told(second)
    assert one is other
    assert [frame.event for frame in told(both)] == ["message", "message", "metrics"]
    assert [json.loads(frame.data)["id"] for frame in told(behind)] == ids
    assert json.loads(one.data)["id"] == ids[1]
    assert not any(map(told, (first, second, behind, both)))


def test_of_too_many_changes_the_newest_of_each_model_stays(world, monkeypatch) -> None:
    monkeypatch.setattr(feeds, "MAX_NOTES", 50)
    feed = world.feed(Form.NAMED)
    world.publish(ModelPreloaded("beta", success=True))
    for number in range(feeds.MAX_NOTES):
        world.service.bus.publish(ProcessStateChanged("alpha", "x", str(number)))
    world.publish(ProcessStateChanged("beta", "x", "ready"))
    frames = told(feed)
    assert len(frames) < feeds.MAX_NOTES
    assert len(named(frames, "preload")) == 1
    newest = {change["processName"]: change["newState"] for change in named(frames, "modelStatus")}
    assert newest == {"alpha": str(feeds.MAX_NOTES - 1), "beta": "ready"}


def test_what_happens_and_its_end_wake_the_reader_of_a_feed(world) -> None:
    feed = world.feed(Form.NAMED)
    assert feed.wait(0.001) == []
    preloaded = ModelPreloaded("alpha", success=True)
    for happen, event in (
        (lambda: world.service.bus.publish(preloaded), "preload"),
        (world.service.end_feeds, ""),
    ):
        reading = gevent.spawn(feed.wait, 5)
        gevent.sleep(0)
        assert not feed.is_over
        happen()
        assert [frame.event for frame in reading.get()] == [event] * bool(event)
    assert feed.is_over


@parity("Event stream", "envelopes of `type` and `data`")
def test_an_envelope_is_byte_for_byte_what_clients_of_the_original_read() -> None:
    assert LogPiece("proxy", b"[INFO] hello\n").envelope().sse() == (
        b"event:message\n"
        b'data:{"type":"logData",'
        b'"data":"{\\"data\\":\\"[INFO] hello\\\\n\\",\\"source\\":\\"proxy\\"}"}\n'
        b"\n"
    )


def test_a_frame_as_an_event_and_as_a_message_of_a_websocket() -> None:
    one = envelope("modelStatus", [])
    assert one.text() == one.data == '{"type":"modelStatus","data":"[]"}'
    assert wrapped("metrics", "[1]").data == '{"type":"metrics","data":"[1]"}', "JSON already"
    swap, preload = named_frame("swap", {"id": 4}, "7f-1-2"), named_frame("preload", {"a": "ä\n"})
    assert swap.sse() == b'event: swap\nid: 7f-1-2\ndata: {"id":4}\n\n'
    assert preload.sse() == 'event: preload\ndata: {"a":"ä\\n"}\n\n'.encode()
    assert json.loads(swap.text()) == {"event": "swap", "id": "7f-1-2", "data": {"id": 4}}
    assert json.loads(preload.text()) == {"event": "preload", "data": {"a": "ä\n"}}


def test_characters_are_not_cut_in_two() -> None:
    rests = {
        b"": b"",
        "ä".encode(): b"",
        b"a\xc3": b"\xc3",
        b"a\xe2\x82": b"\xe2\x82",
        "🦙".encode()[:3]: "🦙".encode()[:3],
        "🦙".encode(): b"",
        b"\x80\x80\x80\x80\x80": b"",
        b"\xff": b"\xff",
        b"\xffa": b"",
    }
    expected = {data: (data.removesuffix(rest), rest) for data, rest in rests.items()}
    assert {data: split_utf8(data) for data in rests} == expected


JSON = [("Content-Type", "application/json"), ("Set-Cookie", "id=s3cret")]


@pytest.fixture
def clock() -> Clock:
    return Clock(100.0)


@pytest.fixture
def timed(world: World, clock: Clock) -> World:
    world.service.telemetry.recorder._clock = clock
    return world


def in_flight_envelopes(timed: World, feed: EventFeed) -> list[Any]:
    timed.publish()
    return envelopes(told(feed), "inflight")


def operations(timed: World, feed: EventFeed) -> list[str]:
    return [one["operation"] for one in in_flight_envelopes(timed, feed)]


@parity("Requests in flight", "event `inflight` with `snapshot`, `upsert` and `remove`")
def test_a_request_is_told_from_its_begin_to_its_end(timed, clock) -> None:
    feed = timed.feed(Form.MESSAGE)
    assert in_flight_envelopes(timed, feed) == [{"operation": "snapshot", "requests": []}]
    headers = [("X-Session-ID", "s-1"), ("Authorization", "Bearer s3cret"), ("X-Session-ID", "2")]
    observer = timed.begin(client_ip="10.0.0.9", headers=headers, received_at=clock.now)
    clock.now += 1.5
    (upsert,) = in_flight_envelopes(timed, feed)
    assert upsert["operation"] == "upsert"
    assert upsert["request"].pop("timestamp").endswith("Z")
    assert upsert["request"] == {
        "id": str(observer.serial), "model": "alpha", "method": "POST", "remote_ip": "10.0.0.9",
        "req_path": "/v1/chat/completions", "resp_headers": {}, "resp_bytes": 0,
        "req_headers": {"X-Session-ID": "s-1", "Authorization": "[REDACTED]"},
        "elapsed_ms": 1500.0,
    }  # fmt: skip
    assert in_flight_envelopes(timed, feed) == []
    observer.context.profile = "work"
    observer.head(200, JSON)
    (upsert,) = in_flight_envelopes(timed, feed)
    assert upsert["request"]["metadata"] == {"profile": "work"}
    assert upsert["request"]["resp_headers"] == dict(JSON) | {"Set-Cookie": "[REDACTED]"}
    observer.finish()
    assert in_flight_envelopes(timed, feed) == [{"operation": "remove", "id": str(observer.serial)}]
    assert in_flight_envelopes(timed, feed) == []


@pytest.mark.parametrize("others", [0, 1])
def test_who_comes_later_begins_with_what_there_is_and_misses_nothing(timed, others) -> None:
    early = [timed.feed(Form.MESSAGE) for _ in range(others)]
    for feed in early:
        in_flight_envelopes(timed, feed)
    observers = [timed.begin(), timed.begin("beta")]
    late = timed.feed(Form.MESSAGE)
    (snapshot,) = in_flight_envelopes(timed, late)
    assert [one["model"] for one in snapshot["requests"]] == ["alpha", "beta"]
    for feed in early:
        assert operations(timed, feed) == ["upsert", "upsert"]
    for observer in observers:
        observer.finish()
    for feed in (*early, late):
        assert operations(timed, feed) == ["remove", "remove"]


@parity("Requests in flight", "byte counts at most every 250 ms")
def test_bytes_are_counted_four_times_a_second_of_so_many_requests(
    timed, clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflight, "MOST_BYTES_TOLD", 2)
    feed = timed.feed(Form.MESSAGE)
    observers = [timed.begin() for _ in range(3)]
    in_flight_envelopes(timed, feed)
    clock.now += inflight.BYTES_EVERY_S
    in_flight_envelopes(timed, feed)

    def stream() -> list[str]:
        for observer in observers:
            observer.feed(b"token")
        return [one["request"]["id"] for one in in_flight_envelopes(timed, feed)]

    assert stream() == [], "too early"
    clock.now += inflight.BYTES_EVERY_S
    first = stream()
    clock.now += inflight.BYTES_EVERY_S
    second = stream()
    assert (len(first), len(second)) == (2, 2)
    assert {*first, *second} == {str(observer.serial) for observer in observers}


@parity("Requests in flight", "only inference requests are listed")
def test_what_is_no_inference_is_not_listed(timed) -> None:
    feed = timed.feed(Form.MESSAGE)
    in_flight_envelopes(timed, feed)
    for path in ("/slots", "/v1/embeddings"):
        timed.begin(path=path)
    for model in ("alpha", "beta"):
        timed.begin(model, path="/v1/responses").head(101, [])
    listed = [one["request"] for one in in_flight_envelopes(timed, feed)]
    shown = [("alpha", "/v1/embeddings"), ("alpha", "/v1/responses")]
    assert [(one["model"], one["req_path"]) for one in listed] == shown


@parity("Requests in flight", "a slow reader gets a snapshot")
def test_a_reader_that_is_behind_gets_a_snapshot_instead(timed, monkeypatch) -> None:
    monkeypatch.setattr(feeds, "MAX_NOTES", 3)
    feed, quick = timed.feed(Form.MESSAGE), timed.feed(Form.MESSAGE)
    for each in (feed, quick):
        in_flight_envelopes(timed, each)
    observers = []
    for _ in range(4):
        observers.append(timed.begin())
        assert operations(timed, quick) == ["upsert"]
    observers.pop(0).finish()
    assert operations(timed, quick) == ["remove"]
    snapshot, *changes = in_flight_envelopes(timed, feed)
    assert snapshot["operation"] == "snapshot"
    known = {one["id"] for one in snapshot["requests"]}
    known -= {change["id"] for change in changes if change["operation"] == "remove"}
    assert known == {str(observer.serial) for observer in observers}
