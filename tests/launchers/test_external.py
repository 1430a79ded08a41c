"""Servers that something else runs."""

from collections.abc import Iterator

import pytest

from llmsnap.config import EXTERNAL, ModelConfig
from llmsnap.launchers import ExternalLauncher, LaunchSpec, external
from llmsnap.launchers.external import ExternalServer
from llmsnap.models import Process, State
from tests.fakes.upstream import FakeUpstream
from tests.launchers import LIMIT_S


class Quiet:
    def feed(self, data: bytes) -> None:
        pytest.fail("there is no output")

    def tail(self, lines: int = 10) -> list[str]:
        return []


@pytest.fixture
def launcher() -> Iterator[ExternalLauncher]:
    made = ExternalLauncher()
    yield made
    made.close()


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    server.healthy.set()
    server.start()
    yield server
    server.stop()


def process(launcher: ExternalLauncher, url: str, limit_s: float = LIMIT_S) -> Process:
    settings = ModelConfig(id="m", proxy=url, launcher=EXTERNAL, health_check_timeout_s=limit_s)
    return Process(settings, {EXTERNAL: launcher}, Quiet(), lambda *_: None)


def test_a_server_that_runs_is_used_and_left_alone(launcher, upstream: FakeUpstream) -> None:
    model = process(launcher, upstream.url)
    for _ in range(2):
        model.check_start()
        model.ensure_ready()
        assert (model.state, model.local_pid) == (State.READY, None)
        model.ensure_stopped()
        assert model.state is State.STOPPED
    assert not model.files_have_changed()


def test_a_server_that_ends_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(external, "WATCH_S", 0)
    monkeypatch.setattr(external, "FIRST_S", 0)
    server = ExternalServer(LaunchSpec("m", "", "http://gpu:9000"))
    looks = [False, False, True, False, True, False, False]
    asked: list[str] = []

    def listens(url: str) -> bool:
        asked.append(url)
        return looks[len(asked) - 1]

    server.watch(listens)
    assert asked == ["http://gpu:9000"] * len(looks)
    assert server.gone.is_set()
    assert str(server.status) == "nothing listening at its address"
