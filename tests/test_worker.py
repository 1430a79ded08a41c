from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import gevent
import pytest
from gevent.event import Event

from llmsnap import worker
from llmsnap.errors import ConfigError, Problem
from llmsnap.statedir import StateDir

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class FakeLog:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def warning(self, text: str, *args: object) -> None:
        self.lines.append(text % args)

    error = warning


class FakeWorker:
    def __init__(self) -> None:
        self.alive = True
        self.log = FakeLog()
        self.sockets: list[socket.socket] = []
        self.notified = Event()
        self.heard: list[int] = []

    def notify(self) -> None:
        self.notified.set()

    def handle(self, number: int, frame: object) -> None:
        self.heard.append(number)
        self.alive = False


class FakeService:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.closed = Event()

    def end_feeds(self) -> None:
        self.calls.append("end feeds")

    def close(self) -> None:
        self.calls.append("close")
        self.closed.set()

    def kill(self) -> None:
        self.calls.append("kill")


@pytest.fixture
def gunicorn(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeWorker]:
    """A worker whose handlers are set, as gunicorn does before it imports the application."""
    base = ModuleType("gunicorn.workers.base")
    base.Worker = FakeWorker  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "gunicorn.workers.base", base)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    fake = FakeWorker()
    for number in SIGNALS:
        signal.signal(number, fake.handle)
    yield fake
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The exit codes with which the process would have ended."""
    codes: list[int] = []
    monkeypatch.setattr(worker.sys, "exit", codes.append)
    monkeypatch.setattr(worker, "FINISH_S", 0)
    return codes


def ending(gunicorn: FakeWorker, leave: Any = None) -> FakeService:
    service = FakeService()
    worker.Ending(gunicorn, service, service.close, leave or (lambda _code: None)).chain()
    return service


def test_a_worker_is_known_by_its_handler(gunicorn: FakeWorker) -> None:
    assert worker.current() is gunicorn


def test_gunicorns_master_and_other_programs_are_none(gunicorn: FakeWorker) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert worker.current() is None
    del sys.modules["gunicorn.workers.base"]
    signal.signal(signal.SIGTERM, gunicorn.handle)
    assert worker.current() is None


def test_a_free_lock_is_taken_at_once(tmp_path: Path) -> None:
    fake = FakeWorker()
    state = StateDir(tmp_path)
    worker.wait_for_turn(state, fake)
    assert "locked" in repr(state)
    assert fake.log.lines == []
    state.unlock()


def test_a_worker_waits_for_its_turn_says_so_and_stays_alive_for_gunicorn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "POLL_S", 0.001)
    first, second = StateDir(tmp_path), StateDir(tmp_path)
    first.lock()
    fake = FakeWorker()
    waiting = gevent.spawn(worker.wait_for_turn, second, fake)
    for _ in range(2):
        fake.notified.clear()
        fake.notified.wait()
    (line,) = fake.log.lines
    assert f"waits for pid {worker.os.getpid()}" in line
    assert str(tmp_path) in line
    assert "one worker is the limit" in line
    first.unlock()
    waiting.get()
    second.unlock()


def test_it_is_told_again_every_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "POLL_S", 0)
    monkeypatch.setattr(worker, "REMIND_S", 0)
    first = StateDir(tmp_path)
    first.lock()
    fake = FakeWorker()
    waiting = gevent.spawn(worker.wait_for_turn, StateDir(tmp_path), fake)
    while len(fake.log.lines) < 3:
        fake.notified.clear()
        fake.notified.wait()
    fake.alive = False
    with pytest.raises(SystemExit, match="0"):
        waiting.get()
    first.unlock()


def test_a_configuration_that_cannot_be_used_is_told_and_stops_gunicorn() -> None:
    fake = FakeWorker()
    problem = Problem("models.a.cmd", "is missing", line=3, column=5)
    with pytest.raises(SystemExit, match="3"):
        worker.refuse(fake, ConfigError([problem], "c.yaml"))
    assert fake.log.lines == ["c.yaml:3:5: models.a.cmd: is missing"]


@pytest.mark.parametrize("number", SIGNALS)
def test_feeds_end_first_and_gunicorn_hears_of_it_once(
    gunicorn: FakeWorker, left: list[int], number: signal.Signals
) -> None:
    service = ending(gunicorn)
    signal.raise_signal(number)
    signal.raise_signal(number)
    service.closed.wait()
    assert service.calls == ["end feeds", "close"]
    assert gunicorn.heard == [number]
    while not left:
        gevent.sleep(0)
    assert left == [0]


def test_at_term_the_models_stop_once_the_listeners_are_closed(
    gunicorn: FakeWorker, left: list[int]
) -> None:
    listener = socket.socket()
    gunicorn.sockets = [listener]
    service = ending(gunicorn)
    signal.raise_signal(signal.SIGTERM)
    while not service.calls:
        gevent.sleep(0)
    assert service.calls == ["end feeds"]
    listener.close()
    service.closed.wait()
    while not left:
        gevent.sleep(0)


def test_a_later_second_signal_does_not_wait(
    gunicorn: FakeWorker, left: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "SAME_WISH_S", -1)
    codes: list[int] = []
    service = ending(gunicorn, codes.append)
    signal.raise_signal(signal.SIGTERM)
    signal.raise_signal(signal.SIGTERM)
    assert codes == []
    signal.raise_signal(signal.SIGQUIT)
    assert (service.calls[0], codes) == ("kill", [1])
    service.closed.wait()
    while not left:
        gevent.sleep(0)
