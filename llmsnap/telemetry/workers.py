"""Native threads for calls that would block the event loop: disks, drivers, compression."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from gevent import get_hub
from gevent.lock import BoundedSemaphore
from gevent.threadpool import ThreadPool

T = TypeVar("T")
Wanted = Callable[[], bool]
"""Returns whether queued work is still worth doing."""


class WorkerStuck(Exception):
    """A call did not return in time; its thread cannot be stopped."""


class WorkerThread:
    """Runs calls one after another in a thread of its own, started with the first call.

    A ``threading.Thread`` would be a greenlet (gevent patches it) and stall the event loop. A call
    that hangs costs its caller the time-out only; until it returns, further calls fail at once.
    Neither ``close()`` nor the end of the program waits for it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._pool: ThreadPool | None = None
        self._late: Any = None
        self._turn = BoundedSemaphore(1)

    def __repr__(self) -> str:
        return f"<WorkerThread {self.name}{', stuck' if self.stuck else ''}>"

    @property
    def stuck(self) -> bool:
        """Whether a call that timed out still has not returned."""
        return self._late is not None and not self._late.ready()

    def run(self, call: Callable[..., T], *args: object, timeout_s: float) -> T:
        """Return ``call(*args)``, run in the thread; its exception is raised here. Blocks.

        Raises: WorkerStuck.
        """
        if self.stuck or not self._turn.acquire(timeout=timeout_s):
            raise WorkerStuck(f"{self.name}: still waiting for an earlier call")
        try:
            value, error = self._wait_for(call, args, timeout_s)
        finally:
            self._turn.release()
        if error is not None:
            raise error
        return value  # type: ignore[return-value]

    def close(self) -> None:
        """End the thread, unless it is stuck. Blocks briefly."""
        pool, self._pool = self._pool, None
        if pool is not None and not self.stuck:
            pool.kill()

    def _wait_for(
        self, call: Callable[..., T], args: tuple[object, ...], timeout_s: float
    ) -> tuple[T | None, Exception | None]:
        if self.stuck:
            raise WorkerStuck(f"{self.name}: still waiting for an earlier call")
        if self._pool is None:
            self._pool = ThreadPool(1)
        outcome = self._pool.spawn(_settle, call, args)
        outcome.wait(timeout_s)
        if not outcome.ready():
            self._late = outcome
            raise WorkerStuck(f"{self.name}: no answer within {timeout_s:g} s")
        return outcome.get()  # type: ignore[return-value]


def _settle(call: Callable[..., T], args: tuple[object, ...]) -> tuple[T | None, Exception | None]:
    """Return (value, error): gevent prints the traceback of an error that leaves a thread."""
    try:
        return call(*args), None
    except Exception as error:  # noqa: BLE001 - becomes the outcome
        return None, error


def _always() -> bool:
    return True


class Offload:
    """Runs work in a thread, one after another, and passes its result to a callback.

    Callbacks run in the event loop and must not switch. At most *limit* pieces of work wait; more
    are dropped, and the result of work that fails is, too. *after_s* is the delay of the first
    one: much of the work is no longer wanted by then.
    """

    def __init__(self, limit: int = 256, after_s: float = 0.0) -> None:
        self._waiting: deque[tuple[Callable[[], Any], Callable[[Any], None], Wanted]] = deque()
        self._limit = limit
        self._after_s = after_s
        self._timer: Any = None
        self._pool: ThreadPool | None = None
        self._busy = False

    def __repr__(self) -> str:
        return f"<Offload, {len(self._waiting)} waiting>"

    def __call__(
        self, work: Callable[[], Any], done: Callable[[Any], None], wanted: Wanted = _always
    ) -> None:
        """Queue *work*; if it is still *wanted* when its turn comes, *done* gets its result."""
        if len(self._waiting) >= self._limit:
            return
        self._waiting.append((work, done, wanted))
        if self._busy:
            return
        self._busy = True
        if self._after_s:
            self._timer = get_hub().loop.timer(self._after_s, ref=False)
            self._timer.start(self._begin)
        else:
            self._next()

    def close(self) -> None:
        """Drop waiting work and end the thread."""
        self._waiting.clear()
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.kill()

    def _begin(self) -> None:
        self._timer.close()
        self._timer = None
        self._next()

    def _next(self) -> None:
        while self._waiting:
            work, done, wanted = self._waiting.popleft()
            if wanted():
                self._spawn(work, done)
                return
        self._busy = False

    def _spawn(self, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        if self._pool is None:
            self._pool = ThreadPool(1)
        # Never blocks: the thread is free, for only one piece of work is given to it at a time.
        self._pool.spawn(_settle, work, ()).rawlink(partial(self._deliver, done))

    def _deliver(self, done: Callable[[Any], None], outcome: Any) -> None:
        value, error = outcome.get()
        if error is None:
            done(value)
        self._next()
