import os
import signal
from types import SimpleNamespace

import gevent
from gevent.event import Event

from llmsnap.config import Config
from llmsnap.configfile import Look
from llmsnap.errors import ConfigError, Problem
from llmsnap.reload import ConfigWatcher
from llmsnap.server.reloading import reloading


class FakeService:
    def __init__(self, error: ConfigError | None = None, source: str = "/no/such/file") -> None:
        self.runtime = SimpleNamespace(config=Config(source=source))
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


def test_sighup_reloads_also_when_the_last_one_was_refused() -> None:
    service = FakeService(ConfigError([Problem("x", "bad")]))
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
    service = FakeService(source=str(path))
    with reloading(service, watch_file=True):
        path.write_text("startPort: 1")
        assert service.reloaded.wait(4)


def test_many_hangups_during_a_reload_cause_one_more() -> None:
    service = FakeService()
    service.hold = Event()
    with reloading(service, watch_file=False):
        os.kill(os.getpid(), signal.SIGHUP)
        assert service.reloaded.wait(3)
        for _ in range(5):
            os.kill(os.getpid(), signal.SIGHUP)
            gevent.idle()
        service.hold.set()
        gevent.idle()
    assert service.count == 2
