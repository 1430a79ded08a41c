import os
import signal
from types import SimpleNamespace

import gevent
from gevent.event import Event

from llmsnap.config.settings import Config
from llmsnap.errors import ConfigError, Problem
from llmsnap.reload import ConfigWatcher
from llmsnap.server.reloading import reloading


class FakeService:
    def __init__(self, error: ConfigError | None = None, source: str = "/no/such/file") -> None:
        self.runtime = SimpleNamespace(config=Config(source=source))
        self.reloaded = Event()
        self.error = error

    def reload(self) -> None:
        self.reloaded.set()
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
