import pytest

from llmsnap.errors import BadRequest
from llmsnap.telemetry.activity import ActivityLog, Filter, Order
from llmsnap.telemetry.events import ActivityRecord


def record(record_id: int, **facts) -> ActivityRecord:
    return ActivityRecord(id=record_id, **{"model_id": "llama", "status": 200, **facts})


def filled(*records: ActivityRecord) -> ActivityLog:
    log = ActivityLog()
    for one in records:
        log.append(one)
    return log


def ids(page) -> list[int]:
    return [one.id for one in page.records]


def test_the_oldest_go_and_ids_go_on():
    log = ActivityLog(size=3)
    for _ in range(5):
        log.append(record(log.take_id()))
    assert [one.id for one in log.snapshot()] == [2, 3, 4]
    assert (log.next_id, len(log)) == (5, 3)
    assert repr(log) == "<ActivityLog, 3 records, next id 5>"


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_that_makes_no_sense_is_a_thousand(size):
    log = ActivityLog(size=size)
    for number in range(1001):
        log.append(record(number))
    assert len(log) == 1000
    log.resize(2)
    assert [one.id for one in log.snapshot()] == [999, 1000]


def test_records_of_an_earlier_run_come_first():
    log = ActivityLog(first_id=7)
    log.append(record(log.take_id()))
    log.restore([record(5), record(6)])
    assert [one.id for one in log.snapshot()] == [5, 6, 7]
    assert [one.id for one in log.after(5)] == [6, 7]
    assert log.take_id() == 8


def test_a_record_forgets_its_capture_when_that_is_gone():
    log = filled(record(0, has_capture=True), record(1, has_capture=True))
    log.forget_capture(0)
    log.forget_capture(99)
    assert [one.has_capture for one in log.snapshot()] == [False, True]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Filter(), [3, 2, 1, 0]),
        (Filter(model="llama"), [2, 1, 0]),
        (Filter(model="alias"), [2]),
        (Filter(status="200"), [3, 0]),
        (Filter(status="4xx"), [1]),
        (Filter(status="error"), [2, 1]),
        (Filter(status=""), [3, 2, 1, 0]),
        (Filter(key_name="alice"), [1]),
        (Filter(since_ms=2000), [3, 2]),
        (Filter(until_ms=2000), [1, 0]),
        (Filter(model="llama", status="5xx", since_ms=2000, until_ms=2001), [2]),
    ],
)
def test_filters(wanted, found):
    log = filled(
        record(0, ended_ns=0),
        record(1, ended_ns=1_000_000_000, status=404, key_name="alice"),
        record(2, ended_ns=2_000_000_000, status=502, requested="alias"),
        record(3, ended_ns=3_000_000_000, model_id="qwen"),
    )
    assert ids(log.page(wanted)) == found


@pytest.mark.parametrize("status", ["9xxx", "abc", "-1", "4x", "²00", "1234"])
def test_a_status_that_is_none_is_refused(status):
    with pytest.raises(BadRequest, match="give a number"):
        filled(record(0)).page(Filter(status=status))


@pytest.mark.parametrize("limit", [1, 2, 3, 10])
@pytest.mark.parametrize(
    ("sort", "found"),
    [
        ("-id", [5, 4, 3, 2, 1, 0]),
        ("id", [0, 1, 2, 3, 4, 5]),
        ("-load_ms", [2, 4, 0, 5, 3, 1]),
        ("load_ms", [0, 4, 2, 5, 3, 1]),
        ("model_id", [5, 3, 1, 4, 2, 0]),
        ("-ended_ms", [5, 4, 3, 2, 1, 0]),
    ],
)
def test_pages_follow_each_other_in_every_order(sort, found, limit):
    waits = [1.0, None, 9.5, None, 5.0, None]
    log = filled(
        *(
            record(n, load_ms=wait, model_id="ab"[n % 2 == 0], ended_ns=10 * n)
            for n, wait in enumerate(waits)
        )
    )
    order, cursor, seen = Order.parse(sort), None, []
    while True:
        page = log.page(order=order, cursor=cursor, limit=limit)
        seen += ids(page)
        if page.cursor is None:
            break
        cursor = page.cursor
    assert seen == found


def test_a_cursor_holds_while_new_records_come():
    log = filled(record(0), record(1), record(2))
    first = log.page(limit=2)
    log.append(record(3))
    assert (ids(first), ids(log.page(cursor=first.cursor))) == ([2, 1], [0])


def test_unknown_sort_fields_are_refused():
    with pytest.raises(BadRequest, match="sort"):
        Order.parse("-secret")


@pytest.mark.parametrize(
    "cursor", ["x", "!!!!", "WzFd", "WyJhIiwgMV0", "bnVsbA", "W1tdLCAxXQ", "é"]
)
def test_a_cursor_that_is_none_is_refused(cursor):
    with pytest.raises(BadRequest, match="cursor"):
        filled(record(0)).page(cursor=cursor)
