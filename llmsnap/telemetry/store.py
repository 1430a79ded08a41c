"""Activity and swaps in an SQLite file, so that they survive a restart.

Records are queued and written in batches by a thread of its own. A full disk, a locked or a broken
file costs history and one warning, nothing else. To add a field of a record: a script in
``MIGRATIONS`` that adds the column, named as the field.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gevent.event import Event
from gevent.lock import BoundedSemaphore

from llmsnap.errors import LlmsnapError, StoreUnavailable
from llmsnap.tasks import TaskGroup
from llmsnap.telemetry.activity import (
    EVERYTHING,
    MAX_NUMBER,
    MAX_PAGE,
    Filter,
    Order,
    Page,
    cursor_after,
    parse_cursor,
    swap_object,
)
from llmsnap.telemetry.events import (
    ActivityRecorded,
    EventBus,
    EventSubscription,
    SwapFinished,
    SwapStarted,
)
from llmsnap.telemetry.record import ActivityRecord
from llmsnap.telemetry.workers import WorkerThread

log = logging.getLogger(__name__)

# --- the file -------------------------------------------------------------------------------------

BUSY_S = 2.0

_FIELDS = tuple(name for name in ActivityRecord.__struct_fields__ if name != "has_capture")
_FLAGS = frozenset({"stream", "client_left"})

# Each script upgrades the file from the version of its index to the next. Never change one that was
# released; add another.
MIGRATIONS = (
    """
    CREATE TABLE activity (
        id INTEGER PRIMARY KEY,
        request_id TEXT NOT NULL, swap_id INTEGER, started_ms INTEGER NOT NULL,
        ended_ns INTEGER NOT NULL, requested TEXT NOT NULL, model_id TEXT NOT NULL, peer TEXT,
        method TEXT NOT NULL, path TEXT NOT NULL, key_name TEXT, status INTEGER NOT NULL,
        reason TEXT NOT NULL, stream INTEGER NOT NULL, client_left INTEGER NOT NULL,
        queue_ms REAL, load_ms REAL, first_byte_ms REAL, first_token_ms REAL,
        duration_ms REAL NOT NULL, server_ms REAL, input_tokens INTEGER, output_tokens INTEGER,
        cached_tokens INTEGER, draft_tokens INTEGER, draft_accepted INTEGER,
        prompt_per_second REAL, tokens_per_second REAL, request_bytes INTEGER NOT NULL,
        response_bytes INTEGER NOT NULL
    );
    CREATE INDEX activity_ended ON activity (ended_ns);
    CREATE INDEX activity_model ON activity (model_id, id);
    CREATE TABLE swaps (
        number INTEGER PRIMARY KEY,
        ended_ms INTEGER NOT NULL, target TEXT NOT NULL, outcome TEXT NOT NULL,
        document TEXT NOT NULL
    );
    CREATE INDEX swaps_ended ON swaps (ended_ms);
    """,
    # Ids are never reused, not even when all rows that had them are deleted.
    """
    ALTER TABLE swaps ADD COLUMN id INTEGER NOT NULL DEFAULT 0;
    UPDATE swaps SET id = json_extract(document, '$.id');
    DELETE FROM swaps WHERE number NOT IN (SELECT MIN(number) FROM swaps GROUP BY id, ended_ms);
    CREATE UNIQUE INDEX swaps_once ON swaps (id, ended_ms);
    CREATE TABLE numbers (name TEXT PRIMARY KEY, last INTEGER NOT NULL);
    INSERT INTO numbers SELECT 'record', COALESCE(MAX(id), -1) FROM activity;
    INSERT INTO numbers SELECT 'swap', COALESCE(MAX(id), 0) FROM
        (SELECT id FROM swaps UNION ALL SELECT swap_id FROM activity)
    """,
    "ALTER TABLE activity ADD COLUMN content_type TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE activity ADD COLUMN session TEXT NOT NULL DEFAULT ''",
    """
    ALTER TABLE activity ADD COLUMN selector TEXT NOT NULL DEFAULT '';
    ALTER TABLE activity ADD COLUMN profile TEXT NOT NULL DEFAULT '';
    ALTER TABLE activity ADD COLUMN priority INTEGER NOT NULL DEFAULT 0
    """,
)
SCHEMA_VERSION = len(MIGRATIONS)

SwapRow = tuple[int, int, str, str, str]
"""Id, ended_ms, target, outcome, document."""


OURS = frozenset({"activity", "swaps"})
"""Tables of a file of ours, whatever its version."""


def own_path(path: str) -> str:
    """Return where history is kept for a configured *path*: there, unless another program's is.

    llama-swap keeps its own history under the same key; then ours is in a file beside it. Blocks.
    Raises: StoreUnavailable.
    """
    file = Path(path).expanduser()
    try:
        rows = _tables(file) if file.is_file() and file.stat().st_size else []
    except (OSError, sqlite3.Error) as error:
        raise StoreUnavailable(f"{path} cannot be read as an SQLite file: {error}") from error
    is_ours = not rows or {name for (name,) in rows} >= OURS
    return str(file if is_ours else file.with_name(f"{file.stem}-llmsnap{file.suffix}"))


def _tables(file: Path) -> list[tuple[str]]:
    db = sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", timeout=BUSY_S, uri=True)
    try:
        return db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    finally:
        db.close()


class NewerSchema(Exception):
    """The file was written by a newer version of the program."""


class Database:
    """One connection to the file at *path*; a reader never writes."""

    def __init__(self, path: str, *, reader: bool = False) -> None:
        self.path = path
        if reader:
            source, uri = Path(path).absolute().as_uri() + "?mode=ro", True
        else:
            # Created with this mode first, so that other users cannot read it.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            source, uri = path, False
        # A thread pool may replace its thread; one thread at a time uses the connection.
        self._db = sqlite3.connect(
            source, timeout=BUSY_S, isolation_level=None, check_same_thread=False, uri=uri
        )
        try:
            if not reader:
                self._prepare()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the connection; the last one to close checkpoints the file."""
        self._db.close()

    def insert(
        self, records: Sequence[ActivityRecord], swaps: Sequence[SwapRow], last_swap: int = 0
    ) -> None:
        """Add records and swaps, all or none; *last_swap* is the last one that began.

        Rows that exist already were written by an attempt that timed out.
        """
        marks = ", ".join("?" * len(_FIELDS))
        rows = [[getattr(record, name) for name in _FIELDS] for record in records]
        with _Transaction(self._db):
            self._db.executemany(
                f"INSERT OR IGNORE INTO activity ({', '.join(_FIELDS)}) VALUES ({marks})",  # noqa: S608 - our own names
                rows,
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO swaps (id, ended_ms, target, outcome, document) "
                "VALUES (?, ?, ?, ?, ?)",
                swaps,
            )
            self._use_number("record", max((record.id for record in records), default=-1))
            self._use_number("swap", max((last_swap, *(swap[0] for swap in swaps))))

    def next_id(self) -> int:
        """Return the id after the greatest one ever used."""
        return self._last_number("record") + 1

    def next_swap_id(self) -> int:
        """Return the id after that of any swap ever begun."""
        return self._last_number("swap") + 1

    def last(self, count: int) -> list[ActivityRecord]:
        """Return the last *count* records, oldest first."""
        page = self.page(Filter(), Order(), None, count)
        return page.records[::-1]

    def page(self, wanted: Filter, order: Order, cursor: str | None, limit: int) -> Page:
        """Return records as ``ActivityLog.page`` does. Raises: BadRequest."""
        where, values = _conditions(wanted)
        if cursor:
            condition, more = _after(order, *parse_cursor(cursor, order))
            where.append(condition)
            values += more
        records = self._select(where, values, order, limit + 1)
        more_to_come = len(records) > limit
        records = records[:limit]
        return Page(records, cursor_after(records[-1], order) if more_to_come else None)

    def numbered_page(
        self, wanted: Filter, order: Order, number: int, limit: int
    ) -> tuple[list[ActivityRecord], int]:
        """Return records as ``ActivityLog.numbered_page`` does. Raises: BadRequest."""
        where, values = _conditions(wanted)
        sql = f"SELECT COUNT(*) FROM activity WHERE {' AND '.join(where)}"  # noqa: S608 - names are ours, values bound
        total = int(self._db.execute(sql, values).fetchone()[0])
        return self._select(where, values, order, limit, (number - 1) * limit), total

    def _select(
        self, where: list[str], values: list[Any], order: Order, limit: int, offset: int = 0
    ) -> list[ActivityRecord]:
        direction = "DESC" if order.descending else "ASC"
        by = f"{order.field} IS NULL, {order.field} {direction}, id DESC"
        if order.field == "id":
            by = f"id {direction}"
        rows = self._db.execute(
            f"SELECT {', '.join(_FIELDS)} FROM activity WHERE {' AND '.join(where)} "  # noqa: S608 - names are ours, values bound
            f"ORDER BY {by} LIMIT ? OFFSET ?",
            [*values, limit, offset],
        )
        return [_record(row) for row in rows.fetchall()]

    def swaps(self, limit: int) -> list[dict[str, Any]]:
        """Return the documents of the last swaps, newest first."""
        rows = self._db.execute(
            "SELECT document FROM swaps ORDER BY number DESC LIMIT ?", [min(limit, MAX_PAGE)]
        )
        return [_without_schema(json.loads(document)) for (document,) in rows]

    def prune(self, before_ms: int, max_rows: int) -> int:
        """Delete rows older than *before_ms* and all but the last *max_rows*; return the count."""
        gone = 0
        with _Transaction(self._db):
            for sql, value in (
                ("DELETE FROM activity WHERE ended_ns < ?", before_ms * 1_000_000),
                ("DELETE FROM activity WHERE id <= (SELECT MAX(id) FROM activity) - ?", max_rows),
                ("DELETE FROM swaps WHERE ended_ms < ?", before_ms),
                ("DELETE FROM swaps WHERE number <= (SELECT MAX(number) FROM swaps) - ?", max_rows),
            ):
                gone += self._db.execute(sql, [value]).rowcount
        self._db.execute("PRAGMA incremental_vacuum(1000)")
        return gone

    def _use_number(self, name: str, number: int) -> None:
        sql = "UPDATE numbers SET last = MAX(last, ?) WHERE name = ?"
        self._db.execute(sql, [number, name])

    def _last_number(self, name: str) -> int:
        found = self._db.execute("SELECT last FROM numbers WHERE name = ?", [name])
        return int(found.fetchone()[0])

    def _prepare(self) -> None:
        version = int(self._db.execute("PRAGMA user_version").fetchone()[0])
        if version > SCHEMA_VERSION:  # before the file is changed
            raise NewerSchema(
                f"written by a newer llmsnap: schema version {version}, this one reads up to "
                f"{SCHEMA_VERSION}: update llmsnap or name another store.path"
            )
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._db.execute("PRAGMA journal_mode = WAL")
        # With WAL a power failure costs at most the last commits, and kill -9 nothing.
        self._db.execute("PRAGMA synchronous = NORMAL")
        for number in range(version, SCHEMA_VERSION):
            self._migrate(MIGRATIONS[number], number + 1)

    def _migrate(self, script: str, version: int) -> None:
        with _Transaction(self._db):
            for statement in script.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {version}")


class _Transaction:
    """``BEGIN IMMEDIATE`` to ``COMMIT``, or ``ROLLBACK`` if anything failed."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        try:
            self._db.execute("COMMIT" if kind is None else "ROLLBACK")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if kind is None:
                raise


def _conditions(wanted: Filter) -> tuple[list[str], list[Any]]:
    first, after = wanted.status_range()
    where: list[str] = ["status >= ?", "status < ?"]
    values: list[Any] = [first, after]
    conditions: Sequence[tuple[str, list[Any]]] = (
        ("(model_id = ? OR requested = ?)", [wanted.model, wanted.model]),
        ("key_name = ?", [wanted.key_name]),
        ("session = ?", [wanted.session]),
        ("ended_ns >= ?", [_ns(wanted.since_ms)]),
        ("ended_ns < ?", [_ns(wanted.until_ms)]),
        ("id >= ?", [wanted.min_id]),
        ("id <= ?", [wanted.max_id]),
        ("request_id = ?", [wanted.request_id]),
        ("selector = ?", [wanted.selector]),
        ("peer = ?", [wanted.peer]),
    )
    for condition, bound in conditions:
        if bound[0] is not None:
            where.append(condition)
            values += bound
    if wanted.models:
        marks = ", ".join("?" * len(wanted.models))
        where.append(f"(CASE model_id WHEN '' THEN requested ELSE model_id END) IN ({marks})")
        values += wanted.models
    return where, values


def _ns(ms: int | None) -> int | None:
    """Return milliseconds as nanoseconds that SQLite can hold."""
    return None if ms is None else max(-(2**43), min(ms, 2**43)) * 1_000_000


def _after(order: Order, value: Any, record_id: int) -> tuple[str, list[Any]]:
    """Return the condition of the rows after a record in this order."""
    name, beyond = order.field, "<" if order.descending else ">"
    if name == "id":
        return f"id {beyond} ?", [record_id]
    if value is None:
        return f"({name} IS NULL AND id < ?)", [record_id]
    condition = f"({name} {beyond} ? OR ({name} = ? AND id < ?) OR {name} IS NULL)"
    return condition, [value, value, record_id]


def _without_schema(swap: dict[str, Any]) -> dict[str, Any]:
    """Return a swap as the API shows it: the schema version is that of the whole list."""
    swap.pop("schema_version", None)
    return swap


def _record(row: Sequence[Any]) -> ActivityRecord:
    values = dict(zip(_FIELDS, row, strict=True))
    for name in _FLAGS:
        values[name] = bool(values[name])
    return ActivityRecord(**values)


# --- the queue in front of it ---------------------------------------------------------------------

T = TypeVar("T")

BATCH_S = 0.5  # kill -9 costs at most the records of this time
BATCH_ROWS = 1000
QUEUE_ROWS = 20_000
WRITE_TIMEOUT_S = 30.0
READ_TIMEOUT_S = 10.0
RETRY_S = 30.0
PRUNE_EVERY_S = 3600.0
SWAP_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class Restored:
    """State of an earlier run: its last records, oldest first, and the next ids."""

    records: list[ActivityRecord]
    next_id: int
    next_swap_id: int = 1


class Store:
    """Activity and swaps in the SQLite file at *path*.

    ``append`` and ``append_swap`` never wait and never fail; rows that are not written yet wait in
    a bounded queue, which drops its oldest. A *max_age_days* or *max_rows* of 0 is no limit. *wall*
    is Unix time in seconds.
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
        self._own = path
        self.usable = False
        self.lost_rows = 0
        self._max_age_s, self._max_rows = max_age_days * 86400, max_rows
        self._wall = wall
        self._writer, self._reader = WorkerThread("store writer"), WorkerThread("store reader")
        self._db: Any = None
        self._reading: Any = None
        self._records: deque[ActivityRecord] = deque()
        self._swaps: deque[tuple[int, int, str, str, str]] = deque()
        self._begun = self._begun_noted = 0  # the last swap that began; the last one in the file
        self._filled, self._closing = Event(), Event()
        self._tasks = TaskGroup("store")
        self._writing = BoundedSemaphore(1)
        self._pruned_at = 0.0
        self._failure = ""
        self._following: list[EventSubscription] = []

    def __repr__(self) -> str:
        state = "usable" if self.usable else "not usable"
        return f"<Store {self.path} {state}, {len(self._records)} records waiting>"

    @property
    def is_current(self) -> bool:
        """Whether the file is readable, and contains all but rows still queued."""
        return self.usable and not self._failure

    def open(self, recent: int = MAX_PAGE) -> Restored:
        """Open the file, or log the reason once and keep to memory for this run. Blocks briefly.

        Returns up to *recent* records of earlier runs.
        """
        try:
            restored = self._writer.run(self._open, recent, timeout_s=READ_TIMEOUT_S)
        except Exception as error:  # noqa: BLE001 - whatever it is, history is not worth the start
            reason = getattr(error, "strerror", None) or error
            log.warning("store %s cannot be used (%s): history stays in memory", self.path, reason)
            return Restored([], 0)
        self.usable = True
        if Path(self._own).name != Path(self.path).name:
            log.info("store %s belongs to another program: history is in %s", self.path, self._own)
        self._tasks.spawn("flush", self._run)
        return restored

    def follow(self, bus: EventBus) -> None:
        """Keep every record and swap published on *bus*, until ``close``."""
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
        """Note that the id is used, whether or not the swap ends well. Never waits."""
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

    def numbered_page(
        self, wanted: Filter, order: Order, number: int, limit: int
    ) -> tuple[list[ActivityRecord], int]:
        """Return records as ``ActivityLog.numbered_page`` does, of all runs. Blocks.

        Raises: BadRequest, StoreUnavailable.
        """
        self.flush()
        found: tuple[list[ActivityRecord], int] = self._read(
            lambda db: db.numbered_page(wanted, order, number, limit)
        )
        return found

    def swaps(self, limit: int = 100) -> list[dict[str, Any]]:
        """Return the last swaps, newest first. Blocks. Raises: StoreUnavailable."""
        self.flush()
        found: list[dict[str, Any]] = self._read(lambda db: db.swaps(limit))
        return found

    def flush(self) -> None:
        """Write the queue, if that is possible. Blocks."""
        while self.usable and self._has_more:
            if not self._write_batch():
                return

    def close(self, timeout_s: float = 2.0) -> None:
        """Write the queue and close the file. Blocks up to about *timeout_s*."""
        for subscription in self._following:
            subscription.close()
        self._closing.set()
        self._filled.set()
        self._tasks.close(timeout_s)
        self.usable = False
        for worker, close in ((self._writer, self._close_db), (self._reader, self._close_reading)):
            try:
                worker.run(close, timeout_s=timeout_s)
            except Exception as error:  # noqa: BLE001 - the file stays consistent in any case
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
        """Write up to a batch of the queue; on failure it stays queued."""
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
        self._own = own_path(self.path)
        self._db = Database(self._own)
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
        if self._reading is None:
            self._reading = Database(self._own, reader=True)
        result: T = query(self._reading)
        return result

    def _close_db(self) -> None:
        if self._db is not None:
            self._db.close()

    def _close_reading(self) -> None:
        if self._reading is not None:
            self._reading.close()


def _drop(queue: deque[T], written: list[T]) -> None:
    """Remove *written* from the front of the queue; some may have been dropped meanwhile."""
    for item in written:
        if queue and queue[0] is item:
            queue.popleft()
