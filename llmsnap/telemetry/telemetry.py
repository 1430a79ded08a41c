"""Telemetry, the owner of records, captures, metrics, samples and the store."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gevent.event import Event
from msgspec import structs

from llmsnap.config import Config
from llmsnap.deferred import Defer, run_now
from llmsnap.errors import StoreUnavailable
from llmsnap.http import WrongKeys
from llmsnap.models import State
from llmsnap.tasks import TaskGroup
from llmsnap.telemetry.activity import EVERYTHING, ActivityLog, Filter, Order, Page, swap_object
from llmsnap.telemetry.capture_files import CaptureFiles
from llmsnap.telemetry.captures import Capture, CapturePolicy, Captures
from llmsnap.telemetry.events import EventBus, EventSubscription, ProcessStateChanged, SwapFinished
from llmsnap.telemetry.hardware import HardwareProbe
from llmsnap.telemetry.prometheus import Metrics
from llmsnap.telemetry.record import ActivityRecord
from llmsnap.telemetry.recorder import Recorder
from llmsnap.telemetry.sampling import Performance
from llmsnap.telemetry.workers import Offload

if TYPE_CHECKING:
    from llmsnap.telemetry.store import Store

log = logging.getLogger(__name__)

KEPT_S = 7 * 24 * 3600.0
MAX_BARS = 2000
"""Per model: a crash loop must not fill the memory."""
PACK_AFTER_S = 0.5
"""Delay before captures are compressed: under load most are evicted before."""
SWAPS_KEPT = 500
MOST_RESTORED = 10_000
"""Limit of records of earlier runs held in memory, for the sake of a short start."""


class StateHistory:
    """States of each model over the last hours: the bars of the timeline. Never switches."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._changes: dict[str, deque[tuple[float, str, str]]] = {}

    def __repr__(self) -> str:
        return f"<StateHistory of {len(self._changes)} models>"

    def know(self, model_ids: Iterable[str]) -> None:
        """Keep the history of these models only; that of a new one begins with stopped."""
        wanted = frozenset(model_ids)
        for gone in self._changes.keys() - wanted:
            del self._changes[gone]
        for model_id in wanted - self._changes.keys():
            self._changes[model_id] = deque(
                [(self._wall(), str(State.STOPPED), "")], maxlen=MAX_BARS
            )

    def follow(self, bus: EventBus) -> EventSubscription:
        """Note the changes on *bus*, until the returned subscription is closed."""
        return bus.subscribe(ProcessStateChanged, self.note)

    def note(self, event: ProcessStateChanged) -> None:
        """Add a change of state of a configured model."""
        changes = self._changes.get(event.model_id)
        if changes is None:
            return  # removed from the configuration, and stopping
        changes.append((event.at, event.new, event.reason))
        # The last state before the window extends into it.
        while len(changes) > 1 and changes[1][0] < self._wall() - KEPT_S:
            changes.popleft()

    def bars(self, model_id: str, since_ms: int = 0) -> list[dict[str, Any]]:
        """Return the states in order, each with begin and end in Unix ms; the last has no end.

        Those that ended before *since_ms* are left out. One that has a reason says it.
        """
        changes = list(self._changes.get(model_id, ()))
        ends: list[float | None] = [at for at, _, _ in changes[1:]]
        return [
            {"state": state, "from_ms": int(at * 1000), "to_ms": end and int(end * 1000)}
            | ({"reason": reason} if reason else {})
            for (at, state, reason), end in zip(changes, [*ends, None], strict=False)
            if end is None or end * 1000 >= since_ms
        ]


class Telemetry:
    """Owns all data about requests, swaps and the machine.

    *pids* returns the process of each running model, *defer* schedules the filing of a request.
    """

    def __init__(
        self,
        config: Config,
        bus: EventBus,
        pids: Callable[[], Mapping[str, int]],
        defer: Defer = run_now,
    ) -> None:
        self.bus = bus
        self.run = f"{time.time_ns() // 1_000_000:x}"
        """Identifies this run of the server: ids of another run may mean something else."""
        self.activity = ActivityLog(config.metrics_max_in_memory)
        self._offload = Offload(after_s=PACK_AFTER_S)
        self._capture_files = _capture_files(config, self._forget_capture)
        self.captures = Captures(
            config.capture_buffer_bytes,
            on_evict=self._forget_capture,
            offload=self._offload,
            keep=self._capture_files.keep if self._capture_files is not None else None,
        )
        self.recorder = Recorder(self.activity, self.captures, bus, policy=_policy(config))
        self.recorder.defer = defer
        self.wrong_keys = WrongKeys(time.monotonic)
        self.metrics = Metrics()
        self.metrics.names = _names(config)
        self.performance = Performance(pids)
        self._configure_sampling(config)
        self.hardware = HardwareProbe()
        self.states = StateHistory()
        self.states.know(config.models)
        self.swaps: deque[SwapFinished] = deque(maxlen=SWAPS_KEPT)
        self.swaps_ended = 0
        self.next_swap_id = 1
        self.store: Store | None = _store(config)
        self._tasks = TaskGroup("telemetry")
        self._ended = Event()
        self._subscriptions = [
            *self.metrics.follow(bus),
            self.states.follow(bus),
            bus.subscribe(SwapFinished, self._note_swap),
        ]

    def __repr__(self) -> str:
        return f"<Telemetry {self.activity!r}, {self.store!r}>"

    def open(self) -> None:
        """Restore records from the store, start writing and sampling. Blocks briefly."""
        if self.store is not None:
            restored = self.store.open(min(self.activity.size, MOST_RESTORED))
            self.activity.next_id = restored.next_id
            self._open_capture_files(restored.next_id)
            self.activity.restore([self._with_capture(one) for one in restored.records])
            self.next_swap_id = restored.next_swap_id
            self.store.follow(self.bus)
        self._tasks.spawn("sampler", self.performance.run, self._ended.wait)
        self._tasks.spawn("hardware", self.hardware.run)

    def page(
        self,
        wanted: Filter = EVERYTHING,
        order: Order | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Return a page of the selected records: of all runs, or of memory without a store. Blocks.

        Raises: BadRequest.
        """
        if self.store is not None and self.store.is_current:
            try:
                page = self.store.page(wanted, order, cursor, limit)
            except StoreUnavailable as error:
                log.debug("%s", error)
            else:
                return replace(page, records=[self._with_capture(one) for one in page.records])
        return self.activity.page(wanted, order, cursor, limit)

    def numbered_page(
        self, wanted: Filter, order: Order, number: int, limit: int
    ) -> tuple[list[ActivityRecord], int]:
        """Return one page of the records *wanted* and how many there are in all. Blocks.

        *number* counts pages from 1. Of all runs, or of memory without a store. Raises: BadRequest.
        """
        if self.store is not None and self.store.is_current:
            try:
                records, total = self.store.numbered_page(wanted, order, number, limit)
            except StoreUnavailable as error:
                log.debug("%s", error)
            else:
                return [self._with_capture(one) for one in records], total
        return self.activity.numbered_page(wanted, order, number, limit)

    def count(self, wanted: Filter = EVERYTHING) -> int:
        """Return how many records *wanted* selects, of all runs or of memory. Blocks."""
        return self.numbered_page(wanted, Order(), 1, 1)[1]

    def last_swaps(self, limit: int = SWAPS_KEPT) -> list[dict[str, Any]]:
        """Return the last swaps, oldest first: of all runs, or of this one without a store. Blocks.

        Ids continue from run to run.
        """
        if self.store is not None and self.store.is_current:
            try:
                return self.store.swaps(limit)[::-1]
            except StoreUnavailable as error:
                log.debug("%s", error)
        return [swap_object(swap) for swap in list(self.swaps)[-limit:]]

    def swaps_after(self, count: int) -> list[SwapFinished]:
        """Return the swaps that ended after the first *count* of this run, oldest first."""
        missed = min(self.swaps_ended - count, len(self.swaps))
        return list(islice(self.swaps, len(self.swaps) - missed, None)) if missed > 0 else []

    def configure(self, config: Config) -> None:
        """Apply new settings; changed paths of the store take effect at the next start."""
        self.activity.resize(config.metrics_max_in_memory)
        self.captures.resize(config.capture_buffer_bytes)
        self.recorder.policy = _policy(config)
        self.metrics.names = _names(config)
        self.states.know(config.models)
        self._configure_sampling(config)

    def _configure_sampling(self, config: Config) -> None:
        wanted = config.performance
        self.performance.configure(enabled=not wanted.disabled, every_s=wanted.every_s)

    def close(self) -> None:
        """Write the queued rows, and end all tasks. Blocks, bounded."""
        self._ended.set()
        self._tasks.close()
        for subscription in self._subscriptions:
            subscription.close()
        self._offload.close()
        if self._capture_files is not None:
            self.captures.finish()
            self._capture_files.close()
        self.performance.close()
        if self.store is not None:
            self.store.close()

    def _note_swap(self, swap: SwapFinished) -> None:
        self.swaps.append(swap)
        self.swaps_ended += 1

    def capture(self, capture_id: int) -> Capture | None:
        """Return a capture; None when there never was one, or it was evicted. Blocks."""
        found = self.captures.get(capture_id)
        if found is None and self._capture_files is not None:
            found = self._capture_files.read(capture_id)
        return found

    def _open_capture_files(self, next_id: int) -> None:
        files = self._capture_files
        if files is None or self.store is None or not self.store.is_current:
            return  # without the store, ids mean something else
        try:
            files.open(next_id)
        except OSError as error:
            log.warning("captures are kept in memory only: %s", error)

    def _has_capture(self, record_id: int) -> bool:
        files = self._capture_files
        return record_id in self.captures or (files is not None and record_id in files)

    def _forget_capture(self, record_id: int) -> None:
        """Clear ``has_capture`` of a record whose capture is neither in memory nor on disk."""
        if not self._has_capture(record_id):
            self.activity.forget_capture(record_id)

    def _with_capture(self, record: ActivityRecord) -> ActivityRecord:
        """Set ``has_capture``, which is not in the store."""
        return structs.replace(record, has_capture=True) if self._has_capture(record.id) else record


def _names(config: Config) -> frozenset[str]:
    """Return all model names of the configuration; other names get no label of their own."""
    remote = (name for peer in config.peers.values() for name in peer.models)
    return frozenset({*config.models, *remote})


def _store(config: Config) -> Store | None:
    settings = config.store
    if settings.path is None:
        return None
    # sqlite3 costs start-up time and memory, so it is loaded only for a configured store.
    from llmsnap.telemetry.store import Store  # noqa: PLC0415

    return Store(settings.path, max_age_days=settings.max_age_days, max_rows=settings.max_rows)


def _capture_files(config: Config, on_evict: Callable[[int], None]) -> CaptureFiles | None:
    store = config.store
    if store.path is None or store.capture_dir is None:
        return None
    return CaptureFiles(Path(store.capture_dir).expanduser(), store.capture_bytes, on_evict)


def store_file(path: str) -> str:
    """Return the file in which history is kept for ``store.path``, see ``store.own_path``. Blocks.

    Raises: StoreUnavailable.
    """
    from llmsnap.telemetry.store import own_path  # noqa: PLC0415

    return own_path(path)


def _policy(config: Config) -> CapturePolicy:
    return CapturePolicy(
        max_body=config.capture_max_body_bytes,
        redact=config.capture_redact,
        masks=config.capture_mask,
    )
