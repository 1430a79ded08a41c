"""Everything that is measured and kept: records, captures, counters, samples, the store."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from gevent.event import Event

from llmsnap.config.settings import Config
from llmsnap.events import EventBus, SwapFinished
from llmsnap.metrics.activity import ActivityLog, Filter, Order, Page
from llmsnap.metrics.captures import Captures
from llmsnap.metrics.counters import Counters
from llmsnap.metrics.performance import Performance
from llmsnap.metrics.policy import CapturePolicy
from llmsnap.metrics.recorder import Recorder
from llmsnap.metrics.store.store import Store
from llmsnap.metrics.store.worker import Offload
from llmsnap.tasks import TaskGroup

SWAPS_KEPT = 500


class History(Protocol):
    """Pages of activity records."""

    def page(
        self,
        wanted: Filter = ...,
        order: Order | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Return some of the records *wanted*. May block. Raises: BadRequest."""


class Observations:
    """Owns what is kept about requests, swaps and the machine. *pids* tells who runs."""

    def __init__(
        self, config: Config, bus: EventBus, pids: Callable[[], Mapping[str, int]]
    ) -> None:
        self.bus = bus
        self.activity = ActivityLog(config.metrics_max_in_memory)
        self._offload = Offload()
        self.captures = Captures(
            config.capture_buffer_bytes,
            on_evict=self.activity.forget_capture,
            offload=self._offload,
        )
        self.recorder = Recorder(self.activity, self.captures, bus, policy=_policy(config))
        self.counters = Counters()
        self.performance = Performance(pids)
        self.swaps: deque[SwapFinished] = deque(maxlen=SWAPS_KEPT)
        self.store: Store | None = _store(config)
        self._tasks = TaskGroup("observations")
        self._ended = Event()

    def __repr__(self) -> str:
        return f"<Observations {self.activity!r}, {self.store!r}>"

    @property
    def history(self) -> History:
        """Where records are paged through: the store while it can be used, else memory."""
        return self.store if self.store is not None and self.store.usable else self.activity

    def open(self) -> None:
        """Restore what the store has, begin to count and to sample. Blocks briefly."""
        if self.store is not None:
            restored = self.store.open()
            self.activity.next_id = restored.next_id
            self.activity.restore(restored.records)
            self.store.follow(self.bus)
        self.counters.follow(self.bus)
        self.bus.subscribe(SwapFinished, self.swaps.append)
        self._tasks.spawn("sampler", self.performance.run, self._ended.wait)

    def configure(self, config: Config) -> None:
        """Apply new settings; a changed store path takes effect at the next start."""
        self.activity.resize(config.metrics_max_in_memory)
        self.captures.resize(config.capture_buffer_bytes)
        self.recorder.policy = _policy(config)

    def close(self) -> None:
        """Write what is not written yet, and end all tasks. Blocks, bounded."""
        self._ended.set()
        self._tasks.close()
        self._offload.close()
        self.performance.close()
        if self.store is not None:
            self.store.close()


def _store(config: Config) -> Store | None:
    settings = config.store
    if settings.path is None:
        return None
    return Store(settings.path, max_age_days=settings.max_age_days, max_rows=settings.max_rows)


def _policy(config: Config) -> CapturePolicy:
    return CapturePolicy(
        max_body=config.capture_max_body_bytes,
        redact=config.capture_redact,
        masks=config.capture_mask,
    )
