"""What tests of launchers share."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import gevent
from gevent.event import Event

from llmsnap.launchers.local import guardian

LIMIT_S = 20
"""Seconds that a process may take on a busy machine."""
SERVER = f"{sys.executable} -S {Path(__file__).with_name('answers.py')} PORT"


def is_alive(pid: int) -> bool:
    """Whether there is a process *pid* that has not ended."""
    return guardian.start_of(pid) is not None


def until(fact: Callable[[], object]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not fact():
        assert time.monotonic() < deadline, "it did not come true"
        gevent.sleep(0.01)


class Heard:
    """What servers print, to be waited for."""

    def __init__(self) -> None:
        self.data = b""
        self._came = Event()

    def __call__(self, data: bytes) -> None:
        self.data += data
        self._came.set()

    def wait_for(self, text: bytes = b"\n", times: int = 1) -> str:
        """All of it, once *text* is in it so many times."""
        while self.data.count(text) < times:
            self._came.clear()
            assert self._came.wait(LIMIT_S), self.data
        return self.data.decode()
