"""Log output to stdout, which may be slow, full, closed or never read: the server goes on."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable

from gevent.event import Event
from gevent.os import nb_write
from gevent.threadpool import ThreadPool

from llmsnap.logs.colours import Colours
from llmsnap.logs.subscription import Subscription
from llmsnap.tasks import TaskGroup

LIMIT_BYTES = 1024 * 1024
BATCH_S = 0.02  # lines that come within this time go out in one write

Write = Callable[[bytes], int]


class StdoutWriter:
    """Writes to file descriptor *fd* from a greenlet of its own, in batches.

    What nobody reads waits up to a limit, then the oldest is dropped and the loss is said. A
    closed descriptor ends the writing and nothing else.
    """

    def __init__(self, fd: int = 1, limit_bytes: int = LIMIT_BYTES) -> None:
        self.fd = fd
        self.broken = False
        self._queue = Subscription(limit_bytes=limit_bytes)
        self._closing = Event()
        self._tasks = TaskGroup("stdout")
        self._own_fd: int | None = None
        self._colours = Colours() if os.isatty(fd) else None
        """On a terminal, which would obey what models print."""

    def __repr__(self) -> str:
        return f"<StdoutWriter fd {self.fd}{', broken' if self.broken else ''}>"

    @property
    def dropped_bytes(self) -> int:
        """How many bytes were lost because nobody read them."""
        return self._queue.dropped_bytes

    def open(self) -> None:
        """Start writing, with what was queued before."""
        self._tasks.spawn("writer", self._run, self._way_out())

    def write(self, data: bytes) -> None:
        """Queue *data*. Never waits, never switches, never fails."""
        self._queue.offer(data)

    def close(self, timeout_s: float = 0.5) -> None:
        """Write what is queued, for at most *timeout_s*, and stop. Blocks that long."""
        self._queue.close()
        self._closing.set()
        self._tasks.close(timeout_s)
        if self._own_fd is not None:
            os.close(self._own_fd)
            self._own_fd = None

    def _run(self, write: Write) -> None:
        try:
            while chunk := self._queue.get():
                data = chunk.data if self._colours is None else self._colours.feed(chunk.data)
                while data:
                    data = data[write(data) :]
                self._closing.wait(BATCH_S)
        except OSError:
            # Closed pipe, full disk, hung-up terminal: there is no place left to complain at.
            self.broken = True
            self._queue.close()

    def _way_out(self) -> Write:
        """Return a write that cannot block the event loop.

        O_NONBLOCK belongs to the open file, which the shell and others share, so it is set on one
        of our own. Sockets and other people's terminals cannot be opened again: they get a thread.
        """
        if stat.S_ISREG(os.fstat(self.fd).st_mode):
            return lambda data: os.write(self.fd, data)
        try:
            own = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            # Never joined: a thread stuck in a write that nobody reads must not hold up the exit.
            pool = ThreadPool(1)
            return lambda data: pool.apply(os.write, (self.fd, data))
        self._own_fd = own
        return lambda data: nb_write(own, data)
