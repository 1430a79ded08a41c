"""Keeps activity and swaps beyond a restart, without ever holding anybody up.

What happens is queued and written in batches by a thread of its own. A full disk, a locked or a
broken file costs history, one warning, and nothing else.
"""

from __future__ import annotations

import json
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from gevent.event import Event
from gevent.lock import BoundedSemaphore

from llmsnap.bus import EventBus, Subscription
from llmsnap.errors import LlmsnapError, StoreUnavailable
from llmsnap.events import ActivityRecord, ActivityRecorded, SwapFinished, SwapStarted
from llmsnap.tasks import TaskGroup
from llmsnap.telemetry.activity import EVERYTHING, MAX_NUMBER, MAX_PAGE, Filter, Order, Page
from llmsnap.telemetry.store.worker import Worker
from llmsnap.telemetry.views import swap_object

log = logging.getLogger(__name__)

T = TypeVar("T")

BATCH_S = 0.5  # what kill -9 may cost
BATCH_ROWS = 1000
QUEUE_ROWS = 20_000
WRITE_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 10.0
RETRY_S = 30.0
PRUNE_EVERY_S = 3600.0
SWAP_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Restored:
    """What an earlier run left: its last records, oldest first, and the ids to go on with."""

    records: list[ActivityRecord]
    next_id: int
    next_swap_id: int = 1


class Store:
    """Activity and swaps in the SQLite file at *path*.

    ``append`` and ``append_swap`` never wait and never fail; a queue bounds what is not written
    yet, and drops its oldest. A *max_age_days* or *max_rows* of 0 is no limit. *wall* is Unix time
    in seconds.
    """

    def __init__(
        self,
        path: str,
        *,
        max_age_days: float = 30.0,
        max_rows: int = 1_000_000,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.usable = False
        self.lost_rows = 0
        self._max_age_s, self._max_rows = max_age_days * 86400, max_rows
        self._wall = wall
        self._writer, self._reader = Worker("store writer"), Worker("store reader")
        self._db: Any = None
        self._reading: Any = None
        self._records: deque[ActivityRecord] = deque()
        self._swaps: deque[tuple[int, int, str, str, str]] = deque()
        self._begun = self._begun_noted = 0  # the last swap that began; as far as the file knows
        self._filled, self._closing = Event(), Event()
        self._tasks = TaskGroup("store")
        self._writing = BoundedSemaphore(1)
        self._pruned_at = 0.0
        self._failure = ""
        self._following: list[Subscription] = []

    def __repr__(self) -> str:
        state = "usable" if self.usable else "not usable"
        return f"<Store {self.path} {state}, {len(self._records)} records waiting>"

    @property
    def is_current(self) -> bool:
        """Whether the file can be asked, and has all but the last moment."""
        return self.usable and not self._failure

    def open(self, recent: int = MAX_PAGE) -> Restored:
        """Open the file, or say once why not and keep to memory for this run. Blocks briefly.

        Returns up to *recent* records of earlier runs.
        """
        try:
            restored = self._writer.run(self._open, recent, timeout_s=READ_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, history is not worth the start
            log.warning("store %s cannot be used (%s): history stays in memory", self.path, error)
            return Restored([], 0)
        self.usable = True
        self._tasks.spawn("flush", self._run)
        return restored

    def follow(self, bus: EventBus) -> None:
        """Keep every record and swap that *bus* tells of, until ``close``."""
        self._following = [
            bus.subscribe(ActivityRecorded, lambda event: self.append(event.record)),
            bus.subscribe(SwapStarted, lambda event: self.begin_swap(event.swap_id)),
            bus.subscribe(SwapFinished, self.append_swap),
        ]

    def append(self, record: ActivityRecord) -> None:
        """Queue a record. Never waits."""
        if self.usable:
            self._offer(self._records, record)

    def begin_swap(self, swap_id: int) -> None:
        """Note that the number is taken, whatever becomes of the swap. Never waits."""
        self._begun = max(self._begun, swap_id)
        self._filled.set()

    def append_swap(self, swap: SwapFinished) -> None:
        """Queue a swap. Never waits."""
        if self.usable:
            document = json.dumps({"schema_version": SWAP_SCHEMA_VERSION, **swap_object(swap)})
            row = (swap.swap_id, int(swap.at * 1000), swap.target, swap.outcome, document)
            self._offer(self._swaps, row)

    def page(
        self,
        wanted: Filter = EVERYTHING,
        order: Order | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Return records as ``ActivityLog.page`` does, of all runs. Blocks.

        Raises: BadRequest, StoreUnavailable.
        """
        self.flush()
        limit = max(1, min(limit, MAX_PAGE))
        found: Page = self._read(lambda db: db.page(wanted, order or Order(), cursor, limit))
        return found

    def swaps(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the last swaps, newest first. Blocks. Raises: StoreUnavailable."""
        self.flush()
        found: list[dict[str, Any]] = self._read(lambda db: db.swaps(limit))
        return found

    def flush(self) -> None:
        """Write what is queued, if that is possible. Blocks."""
        while self.usable and self._has_more:
            if not self._write_batch():
                return

    def close(self, timeout_s: float = 2.0) -> None:
        """Write what is queued and close the file. Blocks up to about *timeout_s*."""
        for subscription in self._following:
            subscription.close()
        self._closing.set()
        self._filled.set()
        self._tasks.close(timeout_s)
        self.usable = False
        for worker, close in ((self._writer, self._close_db), (self._reader, self._close_reading)):
            try:
                worker.run(close, timeout_s=timeout_s)
            except Exception as error:  # noqa: BLE001 - the file is safe whatever happens here
                log.debug("store: %s", error)
            worker.close()

    # --- in the event loop ---------------------------------------------------------------------

    def _offer(self, queue: deque[T], item: T) -> None:
        queue.append(item)
        if len(queue) > QUEUE_ROWS:
            queue.popleft()
            self.lost_rows += 1
        self._filled.set()

    def _run(self) -> None:
        """Write batches until the store is closed; wait longer after a failure."""
        failing = False
        while True:
            self._filled.wait()
            self._closing.wait(RETRY_S if failing else BATCH_S)
            self._filled.clear()
            worked = self._write_all()
            if worked and failing:
                log.info("store %s works again, %d rows were lost", self.path, self.lost_rows)
            failing = not worked
            if self._closing.is_set():
                return
            if failing:
                self._filled.set()

    @property
    def _has_more(self) -> bool:
        return bool(self._records or self._swaps) or self._begun > self._begun_noted

    def _write_all(self) -> bool:
        while self._has_more:
            if not self._write_batch():
                return False
        return True

    def _write_batch(self) -> bool:
        """Write up to a batch of what is queued; on failure it stays queued."""
        with self._writing:
            return self._write_first()

    def _write_first(self) -> bool:
        records = [self._records[n] for n in range(min(BATCH_ROWS, len(self._records)))]
        swaps = [self._swaps[n] for n in range(min(BATCH_ROWS, len(self._swaps)))]
        begun = self._begun
        try:
            self._writer.run(self._insert, records, swaps, begun, timeout_s=WRITE_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - a full disk costs history and nothing else
            self._say_failure(error)
            return False
        self._failure = ""
        self._begun_noted = begun
        _drop(self._records, records)
        _drop(self._swaps, swaps)
        return True

    def _say_failure(self, error: Exception) -> None:
        """Warn once for each kind of failure, until it works again."""
        text = str(error)
        if text != self._failure:
            self._failure = text
            log.warning("store %s cannot be written (%s): keeping to memory", self.path, text)

    def _read(self, query: Callable[[Any], T]) -> T:
        if not self.usable:
            raise StoreUnavailable("there is no store")
        try:
            found: T = self._reader.run(self._query, query, timeout_s=READ_TIMEOUT_S)
        except LlmsnapError:
            raise
        except Exception as error:
            raise StoreUnavailable(f"the store cannot be read: {error}") from error
        return found

    # --- in the threads ------------------------------------------------------------------------

    def _open(self, recent: int) -> Restored:
        # sqlite3 costs start-up time and memory: only those who asked for a store pay.
        from llmsnap.telemetry.store.database import Database  # noqa: PLC0415

        self._db = Database(self.path)
        db = self._db
        return Restored(db.last(recent), db.next_id(), db.next_swap_id())

    def _insert(self, records: list[ActivityRecord], swaps: list[Any], begun: int) -> None:
        self._db.insert(records, swaps, begun)
        if self._wall() - self._pruned_at > PRUNE_EVERY_S:
            self._prune()

    def _prune(self) -> None:
        self._pruned_at = self._wall()
        oldest_s = self._pruned_at - self._max_age_s if self._max_age_s else 0.0
        self._db.prune(int(oldest_s * 1000), self._max_rows or MAX_NUMBER)

    def _query(self, query: Callable[[Any], T]) -> T:
        from llmsnap.telemetry.store.database import Database  # noqa: PLC0415

        if self._reading is None:
            self._reading = Database(self.path, reader=True)
        result: T = query(self._reading)
        return result

    def _close_db(self) -> None:
        if self._db is not None:
            self._db.close()

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()


def _drop(queue: deque[T], written: list[T]) -> None:
    """Take *written* from the queue's beginning, where some may have been dropped meanwhile."""
    for item in written:
        if queue and queue[0] is item:
            queue.popleft()
