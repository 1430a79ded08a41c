import json
import logging
import re
from datetime import UTC, datetime, timedelta, timezone

import gevent
import pytest
from gevent.threadpool import ThreadPool

from llmsnap.deferred import DeferredQueue
from llmsnap.logs.handler import LogHandler, LogStyle, format_time, parse_level
from llmsnap.logs.stream import LogStream

EST = timezone(timedelta(hours=-5), "EST")
INSTANT = datetime(2026, 2, 3, 14, 5, 9, 120034, EST)


FORMATS = {
    "ansic": "Tue Feb  3 14:05:09 2026",
    "unixdate": "Tue Feb  3 14:05:09 EST 2026",
    "rubydate": "Tue Feb 03 14:05:09 -0500 2026",
    "rfc822": "03 Feb 26 14:05 EST",
    "rfc822z": "03 Feb 26 14:05 -0500",
    "rfc850": "Tuesday, 03-Feb-26 14:05:09 EST",
    "rfc1123": "Tue, 03 Feb 2026 14:05:09 EST",
    "rfc1123z": "Tue, 03 Feb 2026 14:05:09 -0500",
    "rfc3339": "2026-02-03T14:05:09-05:00",
    "rfc3339nano": "2026-02-03T14:05:09.120034-05:00",
    "kitchen": "2:05PM",
    "stamp": "Feb  3 14:05:09",
    "stampmilli": "Feb  3 14:05:09.120",
    "stampmicro": "Feb  3 14:05:09.120034",
    "stampnano": "Feb  3 14:05:09.120034000",
    " RFC3339 ": "2026-02-03T14:05:09-05:00",
    "": "",
    "iso8601": "",
}
EDGES = {
    ("rfc3339", 0, 5, 9): "2026-02-13T00:05:09Z",
    ("rfc3339nano", 0, 5, 9): "2026-02-13T00:05:09Z",
    ("rfc3339nano", 0, 5, 9, 500000): "2026-02-13T00:05:09.5Z",
    ("ansic", 0, 5, 9): "Fri Feb 13 00:05:09 2026",
    ("kitchen", 0, 5): "12:05AM",
    ("kitchen", 12, 5): "12:05PM",
}


def test_each_format():
    assert {name: format_time(name, INSTANT.timestamp(), EST) for name in FORMATS} == FORMATS


def test_edges():
    instants = {edge: datetime(2026, 2, 13, *edge[1:], tzinfo=UTC).timestamp() for edge in EDGES}
    assert {edge: format_time(edge[0], at, UTC) for edge, at in instants.items()} == EDGES
    local = datetime.now().astimezone().tzinfo
    for (name, *_), at in instants.items():
        assert format_time(name, at) == format_time(name, at, local)


@pytest.fixture
def stream():
    return LogStream("proxy")


@pytest.fixture
def handler(stream):
    return LogHandler(stream)


@pytest.fixture
def as_json(stream):
    return LogHandler(stream, style=LogStyle(as_json=True))


def logging_to(handler):
    logger = logging.Logger("llmsnap.test")  # noqa: LOG001 - of this test alone
    logger.addHandler(handler)
    return logger


@pytest.fixture
def logger(handler):
    return logging_to(handler)


@pytest.mark.parametrize(
    ("message", "ids", "line"),
    [
        ("served", {"request_id": "r1", "swap_id": 7}, "served request_id=r1 swap_id=7"),
        ("odd \ud800 text, fine: é", {}, "odd \\ud800 text, fine: é"),
        ("x\n[ERROR] forged\r\x1b[31m\x00", {}, "x\n    [ERROR] forged\\r\\x1b[31m\\x00"),
    ],
)
def test_a_message_is_one_entry_whatever_it_holds(logger, stream, message, ids, line):
    logger.info("%s", message, extra=ids)
    assert stream.snapshot() == f"[INFO] {line}\n".encode()


def test_lines_begin_with_their_level(logger, stream):
    logger.debug("not shown")
    logger.info("<llama> %s", "ready")
    logger.warning("careful")
    logger.error("broken")
    logger.critical("very broken")
    assert stream.snapshot().decode().splitlines() == [
        "[INFO] <llama> ready",
        "[WARN] careful",
        "[ERROR] broken",
        "[ERROR] very broken",
    ]


def test_level_words():
    levels = [parse_level(word) for word in ("debug", " WARN ", "error", "info", "loud", "")]
    assert levels == [10, 30, 40, 20, 20, 20]


def test_level_and_time_format_may_change_while_running(logger, handler, stream):
    handler.configure(level="debug", time_format="rfc3339")
    handler._zone = UTC
    record = logger.makeRecord("llmsnap", logging.DEBUG, "f", 1, "now", (), None)
    record.created = 0.0
    handler.handle(record)
    assert stream.snapshot() == b"1970-01-01T00:00:00Z [DEBUG] now\n"


HIDDEN = "a\nb\r\tc\x85d\x9b31me\u202ef\u2028g\u2066h\x7fi\U000e0001j"


class Happened:
    """An entry about a request, with words a client made up."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __str__(self) -> str:
        return self.what

    def fields(self) -> dict:
        return {"what": self.what}


@pytest.mark.parametrize("style", ["handler", "as_json"])
def test_what_no_person_can_see_is_escaped_in_every_field(stream, request, style):
    handler = request.getfixturevalue(style)
    handler.entry(logging.INFO, Happened(HIDDEN), "r-1", None)
    record = logging.makeLogRecord({"msg": "odd", "levelno": logging.INFO, "request_id": HIDDEN})
    handler.handle(record)
    lines = stream.snapshot().decode().split("\n")
    assert len(lines) == 3
    assert all(line.isprintable() for line in lines)
    for line in lines[:2]:
        for letters in ("\\n", "\\r", "\\t", "85d", "9b31me", "202ef", "2028g", "2066h", "7fi"):
            assert letters in line
    if style == "as_json":
        assert json.loads(lines[0])["what"] == HIDDEN
        assert json.loads(lines[1])["request_id"] == HIDDEN


def test_a_stack_trace_is_part_of_the_entry(logger, stream):
    try:
        int("no number")
    except ValueError:
        logger.exception("failed")
    lines = stream.snapshot().decode().splitlines()
    assert lines[0] == "[ERROR] failed"
    assert all(line.startswith("    ") for line in lines[1:])
    assert lines[-1] == "    ValueError: invalid literal for int() with base 10: 'no number'"


def test_a_record_that_cannot_be_formatted_raises_nothing(logger, stream, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logger.info("%d", "not a number")
    assert stream.snapshot() == b""


def test_filters_are_honoured(logger, handler, stream):
    handler.addFilter(lambda record: "secret" not in record.getMessage())
    logger.info("secret")
    logger.info("public")
    assert stream.snapshot() == b"[INFO] public\n"


def test_a_line_from_another_thread_is_written_in_the_event_loop(logger, stream):
    pool = ThreadPool(1)
    pool.apply(logger.info, ("from a thread",))
    _, reader = stream.subscribe(after=0)
    if not stream.position:
        assert reader.get().data == b"[INFO] from a thread\n"
    gevent.idle()
    assert stream.snapshot() == b"[INFO] from a thread\n"
    pool.kill()


def test_as_json_each_record_is_an_object(stream, as_json):
    logger = logging_to(as_json)
    logger.warning("<llama> %s\nmore", "ä", extra={"request_id": "r-1", "swap_id": None})
    try:
        int("no")
    except ValueError:
        logger.exception("broken")
    first, second = map(json.loads, stream.snapshot().decode().splitlines())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {"level": "warn", "message": "<llama> ä\nmore", "request_id": "r-1"}
    assert second["exception"].startswith("Traceback")


def test_debug_on_the_command_line_wins_over_the_configuration(stream):
    handler = LogHandler(stream, level="error", style=LogStyle(debug=True))
    assert handler.level == logging.DEBUG
    handler.configure(level="warn", time_format="")
    assert handler.level == logging.DEBUG


# --- entries about requests ---------------------------------------------------------------------


def test_entries_wait_to_be_written_together_but_no_line_overtakes_them(logger, handler, stream):
    handler.deferred = DeferredQueue()
    handler.entry(logging.INFO, Happened("first"), "r-1", None)
    handler.entry(logging.INFO, Happened("second"), "r-2", 7)
    assert not stream.snapshot()
    logger.warning("later")
    assert stream.snapshot().decode().splitlines() == [
        "[INFO] first request_id=r-1",
        "[INFO] second request_id=r-2 swap_id=7",
        "[WARN] later",
    ]


def test_an_entry_that_cannot_be_written_takes_none_along_and_is_told(handler, stream, caplog):
    handler.deferred = DeferredQueue()
    for number, what in enumerate(["first", None, "third"]):
        handler.entry(logging.INFO, Happened(what), f"r-{number}", None)
    handler.deferred.flush()
    assert stream.snapshot().decode().splitlines() == [
        "[INFO] first request_id=r-0",
        "[INFO] third request_id=r-2",
    ]
    assert "TypeError" in caplog.text


def test_an_entry_tells_when_it_happened_not_when_it_was_written(stream, as_json, monkeypatch):
    as_json.deferred = DeferredQueue()
    monkeypatch.setattr("time.time", lambda: 1000.0)
    as_json.entry(logging.INFO, Happened("x"), "r-1", None)
    monkeypatch.setattr("time.time", lambda: 2000.0)
    as_json.deferred.flush()
    assert json.loads(stream.snapshot())["time"] == "1970-01-01T00:16:40.000Z"
