"""llmsnap in a gunicorn worker: one of them serves, and it ends in our order.

gunicorn need not be installed: a worker is known by the handler that it has set for SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn, Protocol

import gevent

from llmsnap.errors import ConfigError, StateInUse
from llmsnap.service import Service
from llmsnap.statedir import StateDir
from llmsnap.tasks import TaskGroup

POLL_S = 0.25
"""How often a worker that waits for its turn looks, and tells gunicorn that it is alive."""
REMIND_S = 60.0
LISTENERS_S = 3.0
"""How long gunicorn gets to close the listeners; it looks every second."""
SETTLE_S = 0.75
"""How long after that requests are taken: those of connections that were accepted last."""
FINISH_S = 1.0
"""How long connections that are left get to finish what they send, after the drain."""
BOOT_ERROR = 3
"""The exit code at which gunicorn gives up instead of starting the next worker."""
SAME_WISH_S = 1.0
"""Ctrl-C reaches the worker twice, from the terminal and from gunicorn; that is one wish."""


class Worker(Protocol):
    """What we use of ``gunicorn.workers.base.Worker``."""

    alive: bool
    log: Any
    sockets: list[Any]

    def notify(self) -> None:
        """Tell the master that we live; ends the process when the master is gone."""


def current() -> Worker | None:
    """Return the worker that this process is; None in gunicorn's master and anywhere else."""
    base = sys.modules.get("gunicorn.workers.base")
    owner: Worker | None = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return owner if base is not None and isinstance(owner, base.Worker) else None


def wait_for_turn(state: StateDir, worker: Worker) -> None:
    """Take the lock of *state*, however long another one holds it. Blocks.

    The process ends when gunicorn tells it to meanwhile; gunicorn would replace one that gave up,
    again and again, or stop altogether.
    """
    remind_at = time.monotonic()
    while worker.alive:
        try:
            state.lock()
        except StateInUse as error:
            if time.monotonic() >= remind_at:
                remind_at += REMIND_S
                worker.log.warning(
                    "worker %d waits for pid %s, which has the models of this configuration "
                    "(lock in %s): one worker is the limit, more do not serve",
                    os.getpid(),
                    error.holder,
                    state.path,
                )
        else:
            return
        worker.notify()
        gevent.sleep(POLL_S)
    sys.exit(0)


def refuse(worker: Worker, error: ConfigError) -> NoReturn:
    """Say what is wrong with the configuration, and have gunicorn stop: no worker could start."""
    for problem in error.problems:
        worker.log.error("%s: %s", problem.place(error.source), problem)
    sys.exit(BOOT_ERROR)


class Ending:
    """What a worker does at TERM, INT and QUIT: our part first, then gunicorn's.

    Without ours gunicorn would wait for answers that do not end, and for idle connections, until
    its graceful timeout, and would kill the worker before the models are stopped.
    """

    def __init__(
        self,
        worker: Worker,
        service: Service,
        close: Callable[[], None],
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._worker = worker
        self._service = service
        self._close = close
        self._leave = leave
        self._began: float | None = None
        self._tasks = TaskGroup("worker")

    def __repr__(self) -> str:
        return f"<Ending {'begun' if self._began else 'not begun'}>"

    def chain(self) -> None:
        """Put our handler in front of gunicorn's, for each of the three signals."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            handle = signal.getsignal(number)
            if callable(handle):
                signal.signal(number, self._before(handle))

    def _before(
        self, handle: Callable[[int, FrameType | None], Any]
    ) -> Callable[[int, FrameType | None], None]:
        loop = gevent.get_hub().loop

        def on_signal(number: int, frame: FrameType | None) -> None:
            if self._began is None:
                self._began = time.monotonic()
                loop.run_callback_threadsafe(self._begin, number)
                handle(number, frame)
            elif number != signal.SIGTERM and time.monotonic() - self._began > SAME_WISH_S:
                self._service.kill()
                self._leave(1)

        return on_signal

    def _begin(self, number: int) -> None:
        self._service.end_feeds()
        self._tasks.spawn("end", self._end, number == signal.SIGTERM)

    def _end(self, listeners_close: bool) -> None:
        """Stop the models, then end the process, whichever connections are still open."""
        if listeners_close:
            self._wait_until_closed()
            gevent.sleep(SETTLE_S)
        self._close()
        gevent.sleep(FINISH_S)
        gevent.get_hub().loop.run_callback(sys.exit, 0)  # ends the main greenlet, as gunicorn does

    def _wait_until_closed(self) -> None:
        """Who connects now is for the next worker, so nobody is refused before that."""
        limit = time.monotonic() + LISTENERS_S
        while any(listener.fileno() >= 0 for listener in self._worker.sockets):
            if time.monotonic() > limit:
                return
            gevent.sleep(0.05)
