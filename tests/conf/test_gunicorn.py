import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

CONF = Path(__file__).parent.parent.parent / "conf" / "gunicorn.conf.py"


def settings() -> dict[str, Any]:
    return runpy.run_path(str(CONF))


def test_one_worker_that_is_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    found = settings()
    assert (found["workers"], found["max_requests"], found["timeout"]) == (1, 0, 0)
    assert (found["worker_class"], found["preload_app"]) == ("gevent", False)


def test_the_grace_is_longer_than_drain_and_stop(monkeypatch) -> None:
    for drain, expected in {"": 10, "10": 10, "120": 120, "nonsense": 10}.items():
        monkeypatch.setenv("LLMSNAP_DRAIN_TIMEOUT", drain)
        assert settings()["graceful_timeout"] >= expected + 20


def test_gunicorn_knows_every_setting() -> None:
    known = pytest.importorskip("gunicorn.config").KNOWN_SETTINGS
    names = {setting.name for setting in known} | {"control_socket_disable"}
    given = {
        name
        for name, value in settings().items()
        if not name.startswith("_") and not isinstance(value, type(runpy)) and name != "Any"
    }
    assert given <= names


def test_a_worker_that_ends_before_its_turn_has_nothing_to_close(monkeypatch) -> None:
    monkeypatch.delitem(sys.modules, "llmsnap.wsgi", raising=False)
    settings()["worker_exit"](None, None)
    assert "llmsnap.wsgi" not in sys.modules
