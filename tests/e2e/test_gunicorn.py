"""What gunicorn's master does to its workers, and what becomes of the models then."""

import os
import signal
from typing import Any

import gevent
import psutil
import pytest

from tests.e2e.harness import START_LIMIT_S, Running, is_alive, models_below, pids_below, text_of

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
models:
  alpha:
    cmd: {sim}
"""


class Chats:
    """A client that asks without a pause, and what it was answered."""

    def __init__(self, server: Running) -> None:
        self._server = server
        self.answers: list[tuple[int, str]] = []
        self._stopping = False
        self._greenlet = gevent.Greenlet(self._run)
        self._greenlet.start()

    def _run(self) -> None:
        while not self._stopping:
            answer = self._server.chat("alpha")
            self.answers.append((answer.status_code, answer.text))

    def stop(self) -> None:
        """Let it have its last answer."""
        self._stopping = True
        self._greenlet.get(timeout=START_LIMIT_S)


def workers(server: Running) -> set[int]:
    return {child.pid for child in psutil.Process(server.process.pid).children()}


def model_and_worker(server: Running) -> tuple[int, int]:
    """The one model that all the workers together have, and whose it is."""
    (found,) = [(pid, one) for one in workers(server) for pid in models_below(one)]
    return found


def test_of_two_workers_one_serves_until_it_is_gone(start: Any) -> None:
    server = start(CONFIG, door="gunicorn", own=("-w", "2"))
    server.wait_output(r"worker (\d+) waits for pid (\d+), which has the models")
    assert {server.chat("alpha").status_code for _ in range(10)} == {200}

    # HUP: the next one begins when the last one has let go of the models, none is refused.
    model, _ = model_and_worker(server)
    before = workers(server)
    server.config.write_text(server.config.read_text() + "    aliases: [new]\n")
    clients = [Chats(server) for _ in range(3)]
    stream = server.chat("alpha", stream=True, sim_tokens=20)
    server.process.send_signal(signal.SIGHUP)
    assert "You said: hi" in text_of(stream)
    server.wait_for(lambda: not workers(server) & before)
    assert server.chat("new").status_code == 200
    for client in clients:
        client.stop()
        assert [answer for answer in client.answers if answer[0] != 200] == []
    assert not is_alive(model)

    # The serving worker is killed: another one takes its turn, and the model is started anew.
    model, worker = model_and_worker(server)
    os.kill(worker, signal.SIGKILL)
    server.wait_for(lambda: not is_alive(model))
    assert server.chat("alpha").status_code == 200

    # The master is killed: the workers notice, and everything goes.
    server.wait_for(lambda: len(pids_below(server.process.pid)) == 4)
    left = pids_below(server.process.pid)
    assert len(workers(server)) == 2, "and one model, one guardian"
    server.stop(signal.SIGKILL)
    server.wait_for(lambda: not any(map(is_alive, left)))
