"""A service that was never opened, to which things happen as a test says."""

import json
from itertools import count
from typing import Any

from llmsnap.telemetry import ActivityRecord, ActivityRecorded, ResponseObserver, SwapFinished
from llmsnap.web.broadcast import Broadcast, broadcast_of
from llmsnap.web.events import EventFeed, Form
from llmsnap.web.frames import FeedFrame
from tests.fakes.calls import observed
from tests.web.serving import service_of

TEXT = """
startPort: 17000
logToStdout: none
captureBuffer: 1
models:
  beta: {cmd: serve beta --port ${PORT}, name: " Beta ", unlisted: true,
    compat: {ignoreWebsockets: true}}
  alpha:
    cmd: serve --port ${PORT}
    aliases: [first]
    sleepMode: enable
    sleepEndpoints: [{endpoint: /sleep}]
    wakeEndpoints: [{endpoint: /wake}]
peers:
  box2: {proxy: "http://127.0.0.1:9", models: [m-remote]}
"""


class World:
    def __init__(self, text: str = TEXT) -> None:
        self.service = service_of(text)
        self.broadcast: Broadcast = broadcast_of(self.service)
        self.broadcast.pace_s = 0.0
        self.feeds: list[EventFeed] = []
        self._swap_ids = count(1)

    def feed(self, form: Form = Form.BOTH, resume: str = "") -> EventFeed:
        feed = EventFeed(self.service, form, resume)
        self.feeds.append(feed)
        feed.open()
        return feed

    def close(self) -> None:
        for feed in self.feeds:
            feed.close()
        for reader in list(self.broadcast._readers):
            self.broadcast.leave(reader)

    def publish(self, *events: Any) -> None:
        """Tell of events, and have the readers told at once."""
        for event in events:
            self.service.bus.publish(event)
        if self.broadcast.publish():
            for reader in self.broadcast._readers:
                reader.wake()

    def record(self, **facts: Any) -> ActivityRecord:
        activity = self.service.telemetry.activity
        known: dict[str, Any] = {
            "id": activity.take_id(), "request_id": "r-1", "model_id": "alpha", "status": 200,
            "requested": "alpha", "input_tokens": 25, "output_tokens": 10, "duration_ms": 30.4,
            "tokens_per_second": 10.0, "prompt_per_second": 0.0,
            "ended_ns": 1_795_293_112_273_789_305,
        }  # fmt: skip
        record = ActivityRecord(**{**known, **facts})
        activity.append(record)
        self.publish(ActivityRecorded(record))
        return record

    def swap(self, target: str = "alpha", **facts: Any) -> SwapFinished:
        swap = SwapFinished(swap_id=next(self._swap_ids), target=target, outcome="done", **facts)
        self.publish(swap)
        return swap

    def begin(self, model: str = "alpha", **facts: Any) -> ResponseObserver:
        """A request in flight."""
        context = observed(model, **{"request_id": "r-1", "model_id": model, **facts})
        return self.service.telemetry.recorder.begin(context)


def named(frames: list[FeedFrame], event: str) -> list[dict[str, Any]]:
    return [json.loads(frame.data) for frame in frames if frame.event == event]


def envelopes(frames: list[FeedFrame], kind: str = "") -> list[Any]:
    """What the envelopes of a *kind* hold; (kind, content) pairs of all without one."""
    outer = [json.loads(frame.data) for frame in frames if frame.event == "message"]
    if not kind:
        return [(one["type"], json.loads(one["data"])) for one in outer]
    return [json.loads(one["data"]) for one in outer if one["type"] == kind]
