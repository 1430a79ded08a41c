"""The SQLite file, and the queue in front of it."""

import os
import signal
import sqlite3
import subprocess
import sys
from itertools import product
from pathlib import Path

import gevent
import pytest
from msgspec.structs import replace

from llmsnap.errors import BadRequest, StoreUnavailable
from llmsnap.telemetry import store
from llmsnap.telemetry.activity import ActivityLog, Filter, Order
from llmsnap.telemetry.events import ActivityRecorded, EventBus, SwapFinished, SwapStarted
from llmsnap.telemetry.record import ActivityRecord
from llmsnap.telemetry.store import MIGRATIONS, SCHEMA_VERSION, Database, NewerSchema, Store
from tests.parity import parity

FULL = ActivityRecord(
    id=3, request_id="r", swap_id=4, started_ms=5, ended_ns=6_000_000_007, requested="alias",
    model_id="llama", peer="box2", method="POST", path="/v1/x", key_name="alice", status=200,
    reason="", stream=True, client_left=False, queue_ms=1.5, load_ms=2.5, first_byte_ms=3.5,
    first_token_ms=4.5, duration_ms=5.5, server_ms=6.5, input_tokens=7, output_tokens=8,
    cached_tokens=9, draft_tokens=10, draft_accepted=11, prompt_per_second=12.5,
    tokens_per_second=13.5, request_bytes=14, response_bytes=15, content_type="audio/wav",
    selector="chat", profile="work", priority=-2,
)  # fmt: skip

SWAP = (1, 5, "llama", "done", '{"target": "llama", "schema_version": 1}')


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "history.db")


@pytest.fixture
def db(path):
    database = Database(path)
    yield database
    database.close()


def test_a_record_comes_back_as_it_was_but_its_capture_does_not_outlive_the_program(db, path):
    assert (db.next_id(), db.last(5), db.swaps(5)) == (0, [], [])
    unknown = ActivityRecord(id=9)
    with pytest.raises(sqlite3.Error):
        db.insert([FULL], [(1, 5, "llama", "done")])
    assert (db.last(10), db.next_id()) == ([], 0), "a batch is written whole or not at all"
    for _ in range(2):  # again changes nothing
        db.insert([replace(FULL, has_capture=True), unknown], [SWAP])
        assert db.last(10) == [FULL, unknown]
        assert db.swaps(10) == [{"target": "llama"}]
        assert db.next_id() == 10
    assert Path(path).stat().st_mode & 0o077 == 0


SORTS = ["-id", "id", "-load_ms", "load_ms", "model_id", "-status", "key_name", "-stream"]
FILTERS = [
    Filter(),
    Filter(model="m1"),
    Filter(status="error", model="m0"),
    Filter(key_name="k1", since_ms=4, until_ms=15),
    Filter(session="s-1"),
    Filter(selector="chat", peer="box"),
    Filter(since_ms=-(2**70), until_ms=2**70),
    Filter(models=("m1", "alone"), min_id=3, max_id=17),
]


def test_pages_equal_those_of_the_log_in_memory(db):
    records = [
        ActivityRecord(
            id=n,
            ended_ns=n * 1_000_000,
            model_id="" if n == 16 else f"m{n % 3}",
            requested="alone" if n == 16 else f"m{n % 2}",
            status=(200, 404, 502)[n % 3],
            key_name=None if n % 4 == 0 else f"k{n % 4}",
            session="s-1" if n % 3 else "",
            selector="chat" if n % 2 else "",
            peer="box" if n % 3 else None,
            load_ms=None if n % 5 == 0 else float(n % 7),
            stream=n % 2 == 0,
        )
        for n in range(20)
    ]
    db.insert(records, [])
    memory = ActivityLog()
    memory.restore(records)
    for wanted, sort in product(FILTERS, SORTS):
        order, cursor, is_last = Order.parse(sort), None, False
        while not is_last:
            stored = db.page(wanted, order, cursor, 3)
            held = memory.page(wanted, order, cursor, 3)
            found = (stored.records, stored.cursor)
            assert found == (held.records, held.cursor), (wanted, sort)
            cursor = stored.cursor
            is_last = cursor is None
        for number in (1, 2, 9):
            found = db.numbered_page(wanted, order, number, 3)
            assert found == memory.numbered_page(wanted, order, number, 3), (wanted, sort)


def test_old_rows_and_too_many_rows_go(db):
    records = [ActivityRecord(id=n, ended_ns=n * 1_000_000) for n in range(100)]
    db.insert(records, [(n, n, "llama", "done", f'{{"n": {n}}}') for n in range(100)])
    assert db.prune(before_ms=50, max_rows=1000) == 100
    assert db.prune(before_ms=0, max_rows=10) == 80
    assert [record.id for record in db.last(100)] == list(range(90, 100))
    assert db.next_id() == 100


def test_numbers_go_on_when_all_that_had_them_is_gone(db, path):
    db.insert([FULL], [SWAP])
    assert (db.next_id(), db.next_swap_id()) == (4, 2)
    db.insert([], [SWAP], last_swap=7)
    assert db.prune(before_ms=2**40, max_rows=1000) == 2
    again = Database(path)
    assert (again.next_id(), again.next_swap_id()) == (4, 8)
    again.close()


def test_reading_goes_on_beside_writing(db, path):
    reader = Database(path, reader=True)
    db.insert([FULL], [])
    assert reader.last(5) == [FULL]
    with pytest.raises(sqlite3.OperationalError):
        reader.insert([FULL], [])
    reader.close()


def test_a_file_of_a_newer_program_is_left_alone(db, path):
    raw = sqlite3.connect(path)
    raw.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    raw.close()
    with pytest.raises(NewerSchema, match="schema version"):
        Database(path)
    Path(f"{path}.txt").write_bytes(b"not a database" * 1000)
    with pytest.raises(sqlite3.DatabaseError):
        Database(f"{path}.txt")


def test_a_file_of_the_first_schema_goes_on_with_its_numbers(path):
    raw = sqlite3.connect(path)
    raw.executescript(MIGRATIONS[0] + "; PRAGMA user_version = 1")
    documents = [(5, '{"id": 3}'), (5, '{"id": 3}'), (9, '{"id": 1}'), (9, '{"id": 2}')]
    raw.executemany("INSERT INTO swaps VALUES (NULL, ?, 'llama', 'done', ?)", documents)
    for record_id in (8, 2):  # of requests that waited for swap 41
        values = [str(record_id), "'r'", "41", *["0"] * 27]
        raw.execute(f"INSERT INTO activity VALUES ({', '.join(values)})")
    raw.commit()
    raw.close()
    database = Database(path)
    assert [swap["id"] for swap in database.swaps(9)] == [2, 1, 3], "one written twice is one"
    assert (database.next_id(), database.next_swap_id()) == (9, 42)
    assert [record.id for record in database.last(9)] == [2, 8]
    database.close()
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    raw.close()


NOW = 1_795_000_000.0


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    monkeypatch.setattr(store, "BATCH_S", 0.001)
    monkeypatch.setattr(store, "RETRY_S", 0.005)
    monkeypatch.setattr(store, "BUSY_S", 0.01)


@pytest.fixture
def opened():
    """Open a store; it is closed at the end, unless the test has closed it."""
    made = []

    def open_store(path: str, **settings) -> Store:
        made.append(Store(path, wall=lambda: NOW, **settings))
        made[-1].open()
        return made[-1]

    yield open_store
    for one in made:
        one.close()


def record(record_id: int, **facts) -> ActivityRecord:
    return ActivityRecord(id=record_id, **{"status": 200, "ended_ns": int(NOW * 1e9), **facts})


def ids(history: Store) -> list[int]:
    return [one.id for one in history.page().records]


def swap(number: int) -> SwapFinished:
    return SwapFinished(swap_id=number, target="llama", outcome="done", at=NOW)


def test_what_one_run_filed_the_next_one_finds(path):
    first = Store(path, wall=lambda: NOW)
    assert first.open() == store.Restored([], 0)
    for number in range(3):
        first.append(record(number))
    first.append_swap(swap(1))
    first.close()
    second = Store(path, wall=lambda: NOW)
    restored = second.open(recent=2)
    assert [one.id for one in restored.records] == [1, 2]
    assert (restored.next_id, restored.next_swap_id) == (3, 2)
    assert ids(second) == [2, 1, 0]
    assert [(one["id"], one["target"]) for one in second.swaps()] == [(1, "llama")]
    second.close()


def test_a_page_has_what_was_filed_a_moment_ago(path, opened, monkeypatch):
    monkeypatch.setattr(store, "BATCH_ROWS", 10)
    history = opened(path)
    for number in range(25):
        history.append(record(number))
    assert [one.id for one in history.page(limit=2).records] == [24, 23]
    with pytest.raises(BadRequest):
        history.page(Filter(status="bad"))
    history.close()


@pytest.mark.parametrize(
    ("limits", "left"),
    [({"max_rows": 2}, [4, 3]), ({"max_age_days": 0, "max_rows": 0}, [4, 3, 2, 1, 0])],
)
def test_what_is_too_old_or_too_much_goes_with_the_first_write(path, opened, limits, left):
    history = opened(path, **limits)
    history.append(record(0, ended_ns=0))
    for number in range(1, 5):
        history.append(record(number))
    assert ids(history) == left


@parity(
    "Files and deployments",
    "`store.path` names the history of an earlier llama-swap",
    "its file is left as it is; history is in a file beside it, which `llmsnap check` names",
)
def test_history_of_another_program_is_left_alone(tmp_path, opened, caplog):
    caplog.set_level("INFO")
    theirs = tmp_path / "swap.db"
    with sqlite3.connect(theirs) as db:
        db.execute("CREATE TABLE activity (id INTEGER PRIMARY KEY, model TEXT)")
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = theirs.read_bytes()
    for number in range(2):
        history = opened(str(theirs))
        assert ids(history) == list(range(number))[::-1]
        history.append(record(number))
        history.close()
    assert theirs.read_bytes() == before
    assert f"history is in {tmp_path / 'swap-llmsnap.db'}" in caplog.text


@pytest.mark.parametrize("bad", ["missing/folder/x.db", ".", "garbage.db"])
def test_a_file_that_cannot_be_used_costs_history_and_one_warning(tmp_path, caplog, bad):
    (tmp_path / "garbage.db").write_bytes(b"not a database" * 100)
    history = Store(str(tmp_path / bad))
    assert history.open() == store.Restored([], 0)
    history.append(record(0))
    history.append_swap(swap(1))
    history.flush()
    for read in (history.page, history.swaps):
        with pytest.raises(StoreUnavailable):
            read()
    history.close()
    (warning,) = caplog.records
    assert "history stays in memory" in warning.message


def test_a_full_disk_is_said_once_and_made_up_for_later(path, opened, caplog):
    history = opened(path)
    history._db._db.execute("PRAGMA max_page_count = 1")
    for number in range(100):
        history.append(record(number, path="x" * 500))
    for _ in range(2):
        history.flush()
    assert [one.levelname for one in caplog.records].count("WARNING") == 1
    assert "full" in caplog.text
    history._db._db.execute("PRAGMA max_page_count = 1000000")
    history.flush()
    assert len(history.page(limit=200).records) == 100


@pytest.mark.parametrize("by_itself", [True, False])
def test_a_locked_file_costs_one_warning(tmp_path, opened, monkeypatch, caplog, by_itself):
    caplog.set_level("INFO")
    monkeypatch.setenv("HOME", str(tmp_path))
    history = opened("~/x.db")
    other = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    history.append(record(0))
    if not by_itself:
        history.flush()
        history.flush()
        assert "locked" in caplog.text
    while "keeping to memory" not in caplog.text:
        gevent.idle()
    other.execute("ROLLBACK")
    other.close()
    while by_itself and "works again, 0 rows were lost" not in caplog.text:
        gevent.idle()
    assert ids(history) == [0]
    assert caplog.text.count("keeping to memory") == 1


def test_what_cannot_be_written_is_bounded(path, opened, monkeypatch):
    monkeypatch.setattr(store, "QUEUE_ROWS", 10)
    history = opened(path)
    history._db._db.execute("PRAGMA max_page_count = 1")
    for number in range(25):
        history.append(record(number))
    assert history.lost_rows == 15
    assert repr(history).endswith("10 records waiting>")


def test_it_keeps_what_the_bus_tells(path, opened):
    bus, history = EventBus(), opened(path)
    history.follow(bus)
    bus.publish(ActivityRecorded(record(7)))
    bus.publish(swap(2))
    assert ids(history) == [7]
    assert [one["id"] for one in history.swaps()] == [2]
    bus.publish(SwapStarted(swap_id=5, target="llama"))
    history.flush()
    beside = Store(path)
    assert beside.open().next_swap_id == 6, "as it would be after a kill -9 now"
    beside.close()
    history.close()
    assert repr(bus) == "<EventBus, 0 subscribers>"


def test_a_batch_that_is_written_but_not_pruned_is_written_once(path, opened, monkeypatch):
    history = opened(path)
    prune, left = history._db.prune, [sqlite3.OperationalError("database or disk is full")]

    def prune_later(*limits):
        if left:
            raise left.pop()
        return prune(*limits)

    monkeypatch.setattr(history._db, "prune", prune_later)
    history.append_swap(swap(1))
    history.append(record(0))
    history.flush()
    assert not history.is_current
    history.flush()
    assert [one["id"] for one in history.swaps()] == [1]
    assert ids(history) == [0]


KILLED = """
import llmsnap._monkey
import sys, gevent
from llmsnap.telemetry import ActivityRecord
from llmsnap.telemetry.store import Store
history = Store(sys.argv[1])
history.open()
for number in range(100000):
    history.append(ActivityRecord(id=number))
    if number == 5000:
        history.flush()
        print("half", flush=True)
    if number % 100 == 0:
        gevent.sleep(0)
"""


@pytest.mark.e2e
def test_killed_in_the_middle_of_writing_it_loses_the_last_moment_only(path):
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, path],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout.readline() == b"half\n"
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    history = Store(path)
    assert history.open(recent=1).next_id >= 5001
    raw = sqlite3.connect(path)
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()
    history.close()
