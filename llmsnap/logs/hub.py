"""All logs of one server, and their copy on stdout, which may be slow, full or closed."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection
from functools import partial

from gevent.event import Event
from gevent.os import nb_write
from gevent.threadpool import ThreadPool

from llmsnap.ansi import AnsiFilter
from llmsnap.logs.marks import Mark, Marks
from llmsnap.logs.model import CallLater, ModelLog, call_later
from llmsnap.logs.stream import DEFAULT_CAPACITY, LogReader, LogStream, Sink
from llmsnap.tasks import TaskGroup

LIMIT_BYTES = 1024 * 1024
BATCH_S = 0.02  # lines within this time are written together

Write = Callable[[bytes], int]


class StdoutWriter:
    """Writes to file descriptor *fd* in batches, from its own greenlet.

    Output waits up to a size limit; beyond it the oldest is dropped, and a line states how much. A
    closed descriptor only stops the writing.
    """

    def __init__(self, fd: int = 1, limit_bytes: int = LIMIT_BYTES) -> None:
        self.fd = fd
        self.broken = False
        self._queue = LogReader(limit_bytes=limit_bytes)
        self._closing = Event()
        self._tasks = TaskGroup("stdout")
        self._own_fd: int | None = None
        self._colours = AnsiFilter() if os.isatty(fd) else None
        """Removes escape sequences of models if *fd* is a terminal."""

    def __repr__(self) -> str:
        return f"<StdoutWriter fd {self.fd}{', broken' if self.broken else ''}>"

    @property
    def dropped_bytes(self) -> int:
        """The number of bytes dropped because stdout was too slow."""
        return self._queue.dropped_bytes

    def open(self) -> None:
        """Start writing, beginning with the output queued so far."""
        self._tasks.spawn("writer", self._run, self._way_out())

    def write(self, data: bytes) -> None:
        """Queue *data*. Never blocks, switches or raises."""
        self._queue.offer(data)

    def close(self, timeout_s: float = 0.5) -> None:
        """Write the queued output for at most *timeout_s* seconds, then stop. Blocks."""
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
            # Closed pipe, full disk or hung-up terminal: the error cannot be reported anywhere.
            self.broken = True
            self._queue.close()

    def _way_out(self) -> Write:
        """Return a write function that cannot block the event loop.

        O_NONBLOCK belongs to the open file description, which the shell and others share, so the
        file is reopened. Sockets and terminals of other users cannot be reopened: a thread writes.
        """
        if stat.S_ISREG(os.fstat(self.fd).st_mode):
            return lambda data: os.write(self.fd, data)
        try:
            own = os.open(f"/proc/self/fd/{self.fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError:
            # Never joined: a thread blocked in write() must not delay the exit.
            pool = ThreadPool(1)
            return lambda data: pool.apply(os.write, (self.fd, data))
        self._own_fd = own
        return lambda data: nb_write(own, data)


PROXY = "proxy"
UPSTREAM = "upstream"
HTTP = "http"


class Joiner:
    """Joins the lines of several writers in one log; terminates a partial line at a change."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._unfinished: str | None = None

    def write(self, source: str, data: bytes) -> None:
        """Write *data* of *source*."""
        if self._unfinished is not None and self._unfinished != source:
            self._sink(b"\n")
        self._sink(data)
        self._unfinished = None if data.endswith(b"\n") else source


class LogHub:
    """The proxy's own log, each model's, all models' (*upstream*), and everything (*combined*).

    *to_stdout* selects what is copied to stdout: ``proxy``, ``upstream``, and ``http``, the entries
    about requests in the proxy's own log. Every history is kept regardless.
    """

    def __init__(
        self,
        *,
        to_stdout: Collection[str] = (PROXY,),
        capacity: int = DEFAULT_CAPACITY,
        stdout: StdoutWriter | None = None,
        clock: Callable[[], float] = time.monotonic,
        later: CallLater = call_later,
    ) -> None:
        self.stdout = stdout if stdout is not None else StdoutWriter()
        self._to_stdout = frozenset(to_stdout)
        self._capacity = capacity
        self._clock, self._later = clock, later
        self._stdout_join = Joiner(self.stdout.write)
        self.combined = LogStream("combined", capacity)
        self._combined_join = Joiner(self.combined.write)
        self.proxy = LogStream(PROXY, capacity, (self._from_proxy,))
        self.upstream = LogStream(UPSTREAM, capacity)
        self._upstream_join = Joiner(self.upstream.write)
        self.marks = {PROXY: Marks(), UPSTREAM: Marks()}
        """When each part of these logs was written, and by which model."""
        self._models: dict[str, ModelLog] = {}

    def __repr__(self) -> str:
        return f"<LogHub, {len(self._models)} models>"

    @property
    def dropped_bytes(self) -> dict[str, int]:
        """Dropped bytes per model, because of the output rate limit."""
        return {name: model.dropped_bytes for name, model in self._models.items()}

    def model(self, model_id: str) -> ModelLog:
        """Return the log of a model, created at the first call and kept until ``forget``."""
        log = self._models.get(model_id)
        if log is None:
            stream = LogStream(model_id, self._capacity, (partial(self._from_model, model_id),))
            log = ModelLog(stream, clock=self._clock, later=self._later)
            self._models[model_id] = log
        return log

    def marks_within(self, name: str, start: int, end: int) -> list[Mark]:
        """Return who wrote these bytes when, for the logs ``proxy`` and ``upstream``."""
        marks = self.marks.get(name)
        return [] if marks is None else marks.within(start, end)

    def forget(self, model_id: str) -> None:
        """Drop the log of a model that no longer exists, and end its readers."""
        log = self._models.pop(model_id, None)
        if log is not None:
            log.close()

    def configure(self, *, to_stdout: Collection[str], capacity: int) -> None:
        """Apply new settings; each history is cut to the new size."""
        self._to_stdout = frozenset(to_stdout)
        self._capacity = capacity
        for stream in self._streams():
            stream.resize(capacity)

    def write_entries(self, data: bytes) -> None:
        """Write entries about requests to the proxy's own log."""
        self.proxy.write(data)
        if HTTP in self._to_stdout and PROXY not in self._to_stdout:
            self._stdout_join.write(PROXY, data)

    def open(self) -> None:
        """Start writing to stdout."""
        self.stdout.open()

    def close(self, timeout_s: float = 0.5) -> None:
        """End every reader, and flush stdout. Blocks up to *timeout_s* seconds."""
        for log in self._models.values():
            log.close()
        for stream in (self.proxy, self.upstream, self.combined):
            stream.close()
        self.stdout.close(timeout_s)

    def _streams(self) -> list[LogStream]:
        models = [log.stream for log in self._models.values()]
        return [self.proxy, self.upstream, self.combined, *models]

    def _from_proxy(self, data: bytes) -> None:
        self.marks[PROXY].note(self.proxy.position - len(data), "")
        self._pass_on(PROXY, data)

    def _from_model(self, model_id: str, data: bytes) -> None:
        self._upstream_join.write(model_id, data)
        self.marks[UPSTREAM].note(self.upstream.position - len(data), model_id)
        self._pass_on(model_id, data)

    def _pass_on(self, source: str, data: bytes) -> None:
        self._combined_join.write(source, data)
        kind = PROXY if source == PROXY else UPSTREAM
        if kind in self._to_stdout:
            self._stdout_join.write(source, data)
