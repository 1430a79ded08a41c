"""Keeps a guardian process running, and reports every run of a server to it.

No start of a server depends on it. Without one, servers of an llmsnap that is killed get SIGTERM
from the kernel (Linux), and the remaining processes are found at the next start.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import gevent
from gevent import subprocess
from gevent.lock import BoundedSemaphore
from gevent.monkey import get_original

from llmsnap.launchers.base import exit_status
from llmsnap.launchers.local import guardian
from llmsnap.limits import guardian_setup
from llmsnap.tasks import TaskGroup

if TYPE_CHECKING:
    Popen = subprocess.Popen[bytes]
else:
    Popen = subprocess.Popen

log = logging.getLogger(__name__)

COMMAND = (sys.executable or "python3", "-I", "-S", guardian.__file__)
"""Isolated from the environment, and without site-packages: a few MB."""
KEPT_VARIABLES = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""Variables by which the interpreter finds its libraries. Others may be secrets: not passed on."""
START_S, CLOSE_S = 5.0, 1.0
MIN_UPTIME_S = 10.0
"""A guardian that ran for this many seconds is replaced at once when it ends; others after a pause.
"""
DELAY_FIRST_S, DELAY_LAST_S = 0.5, 60.0

_close = get_original("os", "close")
"""At once; gevent's own (25.8.1) waits until the event loop has something to do."""


class GuardianClient:
    """Keeps one guardian process while there are servers."""

    def __init__(self, command: Sequence[str] = COMMAND) -> None:
        self._command = command
        self._owner = 0
        self._runs: dict[int, list[str]] = {}  # number -> the lines about it
        self._last = 0
        self._popen: Popen | None = None
        self._pipe = -1
        self._delay_s = 0.0
        self._not_before = 0.0
        self._is_replacing = False
        self._closed = False
        self._lock = BoundedSemaphore(1)
        self._tasks = TaskGroup("guardian")

    def __repr__(self) -> str:
        return f"<GuardianClient, guardian {self.pid or 'not running'}, {len(self._runs)} runs>"

    @property
    def pid(self) -> int | None:
        """The process id of the guardian, while it runs."""
        return self._popen.pid if self._popen is not None else None

    def register(self, grace_s: float) -> int:
        """Return the mark for a run of a server that is about to start.

        Should llmsnap be killed, it gets *grace_s* between SIGTERM and SIGKILL. Blocks briefly,
        where a guardian has to be started first.
        """
        self._owner = self._owner or guardian.own_mark()
        number, was_running = self._next_number(), self._popen is not None
        self._runs[number] = [f"run {number} {grace_s:g}"]
        if was_running:
            self._say(self._runs[number])
        else:
            self._ensure()  # a new one gets the lines of all runs
        return self._owner + number

    def lead(self, mark: int, pid: int) -> None:
        """Note that *pid*, not reaped yet, leads the process group of a run. Never switches."""
        number, start = mark % guardian.RUNS, guardian.start_of(pid) or 0
        if start or not guardian.has_proc():  # else it has ended already
            line = f"group {number} {pid} {start}"
            self._runs[number].append(line)
            self._say([line])

    def allow(self, mark: int, grace_s: float) -> None:
        """Change what a run gets between SIGTERM and SIGKILL. Never switches."""
        number = mark % guardian.RUNS
        if number in self._runs:
            self._runs[number][0] = line = f"run {number} {grace_s:g}"
            self._say([line])

    def forget(self, mark: int) -> None:
        """Note that no process of a run remains. Never switches."""
        number = mark % guardian.RUNS
        if self._runs.pop(number, None) is not None:
            self._say([f"end {number}"])

    def close(self) -> None:
        """End the guardian; it stops runs that are left. Blocks, bounded."""
        self._closed = True
        self._tasks.kill()
        popen = self._popen
        if popen is not None:
            self._say(["close"])
            self._hang_up()
            with suppress(subprocess.TimeoutExpired):
                popen.wait(CLOSE_S)

    def _next_number(self) -> int:
        """Return the next unused run number; run 0 is the owner."""
        for _ in range(guardian.RUNS):
            self._last = self._last % (guardian.RUNS - 1) + 1
            if self._last not in self._runs:
                break
        return self._last

    def _ensure(self) -> None:
        with self._lock:
            if self._popen is None and not self._closed and time.monotonic() >= self._not_before:
                self._start()

    def _start(self) -> None:
        try:
            with gevent.Timeout(START_S, TimeoutError(f"no exec within {START_S:g} s")):
                popen, self._pipe = _spawn([*self._command, str(self._owner)])
        except OSError as error:
            self._note_failure(f"cannot be started: {error.strerror or error}")
            return
        self._popen = popen
        self._tasks.spawn("exit", self._watch_exit, popen)
        for lines in self._runs.values():
            self._say(lines)

    def _say(self, lines: list[str]) -> None:
        """Send *lines*; each fits into the pipe whole or not at all (PIPE_BUF)."""
        popen = self._popen
        if popen is None:
            return
        try:
            for line in lines:
                os.write(self._pipe, line.encode() + b"\n")
        except BlockingIOError:  # it does not read: it is stopped, or worse
            popen.kill()
        except BrokenPipeError:
            pass  # it has ended, which its watcher reports in a moment

    def _watch_exit(self, popen: Popen) -> None:
        began = time.monotonic()
        code = popen.wait()
        self._hang_up()
        if time.monotonic() - began >= MIN_UPTIME_S:
            self._delay_s = 0.0
        self._note_failure(f"(pid {popen.pid}) ended with {exit_status(code)}")

    def _hang_up(self) -> None:
        _close(self._pipe)
        self._popen, self._pipe = None, -1

    def _note_failure(self, what: str) -> None:
        log.warning(
            "the guardian process %s; until another one runs, servers may outlive an llmsnap "
            "that is killed",
            what,
        )
        self._not_before = time.monotonic() + self._delay_s
        self._delay_s = min(max(self._delay_s * 2, DELAY_FIRST_S), DELAY_LAST_S)
        if self._runs and not self._is_replacing:
            self._is_replacing = True
            self._tasks.spawn("replace", self._replace)

    def _replace(self) -> None:
        """Start another guardian, with retries, as long as there are runs."""
        try:
            while self._runs and self._popen is None:
                gevent.sleep(max(0.0, self._not_before - time.monotonic()))
                self._ensure()
        finally:
            self._is_replacing = False
        if self._popen is not None:
            log.info("another guardian process runs, pid %d", self._popen.pid)


def _spawn(command: list[str]) -> tuple[Popen, int]:
    """Start a guardian; return it and the write end of its standard input. Raises: OSError."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        popen = Popen(
            command,
            stdin=reader,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ},
            cwd="/",
            close_fds=True,
            start_new_session=True,
            preexec_fn=guardian_setup,
        )
    except BaseException:
        _close(writer)
        raise
    finally:
        _close(reader)
    return popen, writer
