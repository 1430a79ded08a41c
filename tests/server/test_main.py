"""``serve`` from bind to the last signal: shutdown, reload, systemd, restart on code changes."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import gevent
import pytest
from gevent import socket
from gevent.event import AsyncResult, Event

from llmsnap.config import Config, Sources
from llmsnap.configfile import Look
from llmsnap.errors import ConfigError, Problem
from llmsnap.installation import identify
from llmsnap.options import Options
from llmsnap.reload import ConfigWatcher
from llmsnap.server import main, open_listener, serve
from llmsnap.server.main import CodeWatcher, reloading, restart, stop_signals, systemd_notified
from tests.parity import parity
from tests.server.raw import request
from tests.server.test_listener import Gated, ok


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_end_comes_from_outside_in(service, connect, monkeypatch, number: int) -> None:
    monkeypatch.setattr(main, "FINISH_S", 3)
    said: AsyncResult[str] = AsyncResult()
    options, app = Options(listen="127.0.0.1:0", drain_timeout=3), Gated()
    server = gevent.spawn(serve, options, service, app, said.set)
    line = said.get(timeout=3)
    assert line.startswith(f"{identify().short} listening on http://127.0.0.1:")
    idle, busy = (connect(("127.0.0.1", int(line.rpartition(":")[2]))) for _ in range(2))
    assert idle.ask(request()).body == b"ok"
    busy.send(request("/slow"))
    app.entered.wait()
    os.kill(os.getpid(), number)
    service.closed.wait()
    assert idle.rest() == b"", "idle connections end before the models"
    assert not server.ready()
    service.drained.set()
    app.gate.set()
    answer = busy.answer()
    assert (answer.body, answer.headers["connection"]) == (b"ok", "close"), "the last word"
    assert server.get(timeout=3) == 0
    assert service.calls == ["open", "close within 3"]


def test_what_cannot_be_served_is_an_error_before_anything_opens(service) -> None:
    with open_listener("127.0.0.1:0") as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(OSError, match="in use"):
            serve(Options(listen=address), service, ok, pytest.fail)
    files = {"tls_cert_file": "/no/cert", "tls_key_file": "/no/key"}
    with pytest.raises(OSError, match="/no/cert"):
        serve(Options(listen="127.0.0.1:0", **files), service, ok, pytest.fail)
    assert service.calls == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_asks_and_the_second_does_not(number: int) -> None:
    killed: list[str] = []
    left: AsyncResult[int] = AsyncResult()
    with stop_signals(lambda: killed.append("all"), left.set) as asked:
        os.kill(os.getpid(), number)
        assert asked.wait(2)
        assert not killed
        os.kill(os.getpid(), number)
        assert left.get(timeout=2) == 1
        assert killed == ["all"]


class ReloadedService:
    def __init__(self, error: ConfigError | None = None, source: str = "/no/such/file") -> None:
        self.runtime = SimpleNamespace(config=Config(source=source, sources=Sources(source)))
        self.reloaded = Event()
        self.error = error
        self.count = 0
        self.hold: Event | None = None

    def reload(self, found: Look | None = None) -> None:
        self.count += 1
        self.reloaded.set()
        if self.hold is not None:
            self.hold.wait()
        if self.error:
            raise self.error


@parity("Reload", "SIGHUP", "the same; a refused file changes nothing")
def test_sighup_reloads_also_when_the_last_one_was_refused() -> None:
    service = ReloadedService(ConfigError([Problem("x", "bad")]))
    with reloading(service, watch_file=False):
        for _ in range(2):
            service.reloaded.clear()
            os.kill(os.getpid(), signal.SIGHUP)
            assert service.reloaded.wait(3)
            gevent.idle()


def test_the_file_is_watched_only_when_asked(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(ConfigWatcher.__init__.__kwdefaults__, "quiet_s", 0.01)
    path = tmp_path / "config.yaml"
    path.write_text("")
    service = ReloadedService(source=str(path))
    with reloading(service, watch_file=True):
        path.write_text("startPort: 1")
        assert service.reloaded.wait(4)


def test_many_hangups_during_a_reload_cause_one_more() -> None:
    service = ReloadedService()
    service.hold = Event()
    with reloading(service, watch_file=False):
        os.kill(os.getpid(), signal.SIGHUP)
        assert service.reloaded.wait(3)
        for _ in range(5):
            os.kill(os.getpid(), signal.SIGHUP)
            gevent.idle()
        service.hold.set()
        while service.count < 2:
            gevent.idle()
        gevent.idle()
    assert service.count == 2


GONE = "sd_notify(READY=1) failed"


@pytest.fixture(params=["", "@"], ids=["file", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """systemd's end of the socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as made:
        made.bind(f"\0{tmp_path}/notify" if request.param else f"{tmp_path}/notify")
        environ = {"NOTIFY_SOCKET": f"{request.param}{tmp_path}/notify"}
        yield SimpleNamespace(recv=made.recv, environ=environ)


def test_the_watchdog_is_notified_at_twice_its_pace(manager) -> None:
    manager.environ |= {"WATCHDOG_USEC": "2000", "WATCHDOG_PID": str(os.getpid()), "HOME": "/"}
    with systemd_notified("", manager.environ):
        assert manager.environ == {"HOME": "/"}, "children do not inherit it"
        manager.recv(1000)
        assert [manager.recv(1000) for _ in range(3)] == [b"WATCHDOG=1"] * 3


@pytest.mark.parametrize("asked", [{}, {"WATCHDOG_USEC": "2000", "WATCHDOG_PID": "1"}])
def test_no_watchdog_messages_unless_asked_of_this_process(manager, asked) -> None:
    manager.environ |= asked
    with systemd_notified("listening on :1", manager.environ) as notifier:
        assert manager.recv(1000) == b"READY=1\nSTATUS=listening on :1"
        notifier.send("STOPPING=1")
        assert manager.recv(1000) == b"STOPPING=1"


@pytest.mark.parametrize(("environ", "says"), [({}, ""), ({"NOTIFY_SOCKET": "/gone"}, GONE)])
def test_without_systemd_or_its_socket_nothing_is_sent(environ, says: str, caplog) -> None:
    with systemd_notified("", environ) as notifier:
        assert bool(caplog.text) is bool(says)
        notifier.send("STOPPING=1")
    assert says in caplog.text


class LoadedCode:
    """Two loaded modules of a package, and one from elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "package"
        self.folder.mkdir()
        self.modules: dict[str, ModuleType] = {"builtin": ModuleType("builtin")}
        self.calls: list[str] = []
        self._time = 0
        for name in ("one", "two"):
            self.write(self.folder / f"{name}.py", "x = 1\n")
        self.elsewhere = self.write(folder / "elsewhere.py", "x = 1\n")

    def write(self, path: Path, text: str) -> Path:
        path.write_text(text)
        self._time += 1
        os.utime(path, (self._time, self._time))
        module = ModuleType(path.stem)
        module.__file__ = str(path)
        self.modules[path.stem] = module
        return path

    def watch(self) -> CodeWatcher:
        return CodeWatcher(lambda: self.calls.append("change"), self.folder, self.modules)


@pytest.fixture
def code(tmp_path: Path) -> LoadedCode:
    return LoadedCode(tmp_path)


def test_a_changed_module_is_reported_once_and_no_other_file(code: LoadedCode) -> None:
    watch = code.watch()
    code.write(code.elsewhere, "x = 2\n")
    (code.folder / "two.py").unlink()
    watch.check()
    assert not watch.has_changed
    code.write(code.folder / "one.py", "x = 2\n")
    watch.check()
    watch.check()
    assert (watch.has_changed, code.calls) == (True, ["change"])


def test_a_module_loaded_later_is_no_change_but_one_of_it_is(code: LoadedCode) -> None:
    watch = code.watch()
    later = code.write(code.folder / "later.py", "x = 1\n")
    watch.check()
    assert code.calls == []
    code.write(later, "x = 2\n")
    watch.check()
    assert code.calls == ["change"]


def test_what_does_not_compile_waits_until_it_does(code, caplog) -> None:
    watch = code.watch()
    code.write(code.folder / "one.py", "x = \n")
    watch.check()
    assert (watch.has_changed, code.calls) == (False, [])
    assert "one.py changed, and is not loaded" in caplog.text
    code.write(code.folder / "one.py", "x = 3\n")
    watch.check()
    assert code.calls == ["change"]


def test_the_watch_ends_with_its_block(code: LoadedCode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(main, "CODE_POLL_S", 0.001)
    monkeypatch.setattr(main, "CodeWatcher", lambda told: code.watch())
    with main.watching_code(pytest.fail) as watch:
        code.write(code.folder / "one.py", "x = 2\n")
        while not watch.has_changed:
            gevent.sleep(0.001)
    assert code.calls == ["change"]


def test_the_same_command_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: runs.append((path, words)))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "llmsnap", "--debug"])
    restart()
    assert runs == [(sys.executable, [sys.executable, "-m", "llmsnap", "--debug"])]
