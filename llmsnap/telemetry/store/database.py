"""Activity and swaps in an SQLite file. Everything here blocks: call it in a worker thread."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmsnap.events import ActivityRecord
from llmsnap.telemetry.activity import MAX_PAGE, Filter, Order, Page, cursor_after, parse_cursor

BUSY_S = 2.0

_FIELDS = tuple(name for name in ActivityRecord.__struct_fields__ if name != "has_capture")
_FLAGS = frozenset({"stream", "client_left"})

# Each script takes the file from the version of its index to the next; never change one that was
# released, add another.
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
    # Numbers never come back, not even when all rows that had them are gone.
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
)
SCHEMA_VERSION = len(MIGRATIONS)

SwapRow = tuple[int, int, str, str, str]
"""Id, ended_ms, target, outcome, document."""


class NewerSchema(Exception):
    """The file was written by a newer version of the program."""


class Database:
    """One connection to the file at *path*; a reader never writes."""

    def __init__(self, path: str, *, reader: bool = False) -> None:
        self.path = path
        if reader:
            source, uri = Path(path).absolute().as_uri() + "?mode=ro", True
        else:
            # Made by us first, so that nobody else may read it.
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
            source, uri = path, False
        # A thread pool may replace its thread; only one uses the connection at a time.
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
        """Close the connection; the last one to close tidies the file."""
        self._db.close()

    def insert(
        self, records: Sequence[ActivityRecord], swaps: Sequence[SwapRow], last_swap: int = 0
    ) -> None:
        """Add records and swaps, all or none; *last_swap* is the last that has begun.

        What is there already was written by an attempt that was given up too early.
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
        """Return the id after the greatest one ever filed."""
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
        direction = "DESC" if order.descending else "ASC"
        by = f"{order.field} IS NULL, {order.field} {direction}, id DESC"
        if order.field == "id":
            by = f"id {direction}"
        rows = self._db.execute(
            f"SELECT {', '.join(_FIELDS)} FROM activity WHERE {' AND '.join(where)} "  # noqa: S608 - names are ours, values bound
            f"ORDER BY {by} LIMIT ?",
            [*values, limit + 1],
        ).fetchall()
        records = [_record(row) for row in rows[:limit]]
        more_to_come = len(rows) > limit
        return Page(records, cursor_after(records[-1], order) if more_to_come else None)

    def swaps(self, limit: int) -> list[dict[str, Any]]:
        """Return the documents of the last swaps, newest first."""
        rows = self._db.execute(
            "SELECT document FROM swaps ORDER BY number DESC LIMIT ?", [min(limit, MAX_PAGE)]
        )
        return [_without_schema(json.loads(document)) for (document,) in rows]

    def prune(self, before_ms: int, max_rows: int) -> int:
        """Delete what ended before *before_ms* and all but the last *max_rows*; say how many."""
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
        if version > SCHEMA_VERSION:  # before anything is changed in the file
            raise NewerSchema(
                f"written by a newer llmsnap: schema version {version}, this one reads up to "
                f"{SCHEMA_VERSION}: update llmsnap or name another store.path"
            )
        self._db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._db.execute("PRAGMA journal_mode = WAL")
        # With WAL this loses at most the last commits when the power fails, and nothing to kill -9.
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
    where, values = ["status >= ?", "status < ?"], [first, after]
    conditions: Sequence[tuple[str, list[Any]]] = (
        ("(model_id = ? OR requested = ?)", [wanted.model, wanted.model]),
        ("key_name = ?", [wanted.key_name]),
        ("ended_ns >= ?", [_ns(wanted.since_ms)]),
        ("ended_ns < ?", [_ns(wanted.until_ms)]),
    )
    for condition, bound in conditions:
        if bound[0] is not None:
            where.append(condition)
            values += bound
    return where, values


def _ns(ms: int | None) -> int | None:
    """Return milliseconds as nanoseconds that SQLite can hold."""
    return None if ms is None else max(-(2**43), min(ms, 2**43)) * 1_000_000


def _after(order: Order, value: Any, record_id: int) -> tuple[str, list[Any]]:
    """Return the condition for what comes after a record in this order."""
    name, beyond = order.field, "<" if order.descending else ">"
    if name == "id":
        return f"id {beyond} ?", [record_id]
    if value is None:
        return f"({name} IS NULL AND id < ?)", [record_id]
    condition = f"({name} {beyond} ? OR ({name} = ? AND id < ?) OR {name} IS NULL)"
    return condition, [value, value, record_id]


def _without_schema(swap: dict[str, Any]) -> dict[str, Any]:
    """Return a swap as it is shown: which shape it has is said of the whole list."""
    swap.pop("schema_version", None)
    return swap


def _record(row: Sequence[Any]) -> ActivityRecord:
    values = dict(zip(_FIELDS, row, strict=True))
    for name in _FLAGS:
        values[name] = bool(values[name])
    return ActivityRecord(**values)
