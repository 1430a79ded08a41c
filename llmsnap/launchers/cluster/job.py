"""One server that runs as a job: watched, its output read, stopped; a ``launchers.Handle``."""

from __future__ import annotations

import logging
import random
import secrets
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import gevent
from gevent.event import Event

from llmsnap.config import LauncherConfig
from llmsnap.errors import EngineDown, StartFailed
from llmsnap.launchers.base import ExitStatus, LaunchSpec, Output
from llmsnap.launchers.cluster.engine import Engine, JobPhase, JobView
from llmsnap.launchers.cluster.entrypoint import RunnerOutput
from llmsnap.launchers.cluster.runner import BUSY, LATE
from llmsnap.launchers.external import is_listening
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

RUN = secrets.token_hex(4)
"""Distinguishes jobs of this process from those of earlier ones."""
QUICK_S = 0.02
QUICK_FOR_S = 0.5
"""How long a job is looked at all the time after a stop was asked for: a swap waits for its end."""
HURRY_S = 0.05
CALM_S = 1.0
HURRY_FOR_S = 10.0
"""How long a job is looked at often after a stop was asked for."""
ASK_AGAIN_S = 2.0
"""Seconds between two requests to stop the same job."""
SUSPECT_S = 3.0
"""A server that nothing listens for has ended if the engine has not said so for so long."""
NOTICE_LIMIT_S = SUSPECT_S + 3.0
"""How long a request waits until a server that nothing listens for counts as ended."""
UNKNOWN_TIMES = 3
"""A job that the engine has not known so many times in a row is gone."""
LAST_LINES_S = 1.0
"""How long the last lines of a job that has ended are waited for."""
STOP_SLACK_S = 10.0
"""What a stop may take beyond its grace before that is reported."""
LONGEST_PAUSE_S = 5.0
CONNECT_LIMIT_S = 1.0
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Keeper(Protocol):
    """What a job reports to its launcher. Its methods never switch."""

    settings: LauncherConfig
    job_tasks: TaskGroup
    is_leaving: bool
    """Whether jobs are left running for the next run."""

    def note_engine(self, trouble: str) -> None:
        """Note that the engine answers, or why it does not."""

    def forget(self, job_id: str) -> None:
        """Have the engine delete its record of a job that has ended."""

    def note_lost(self, job: ClusterJob) -> None:
        """Note that the machine of *job* does not answer; get rid of the job once it does."""

    def note_forgotten(self, job: ClusterJob) -> None:
        """Note that the engine does not know *job*; get rid of it, should that change."""

    def note_over(self, job: ClusterJob) -> None:
        """Note that nothing of *job* is left, though the engine has not noticed that yet."""


class ClusterJob:
    """One run of a server on a cluster."""

    def __init__(
        self,
        spec: LaunchSpec,
        job_id: str,
        key: str,
        output: Output,
        engine: Engine,
        keeper: Keeper,
    ) -> None:
        self.spec = spec
        self.job_id = job_id
        self.id = f"{keeper.settings.id}:{job_id}"
        self.url = spec.url
        self.key = key
        self.node = self.node_id = ""
        self.local_pid: int | None = None
        self.is_adopted = False
        self.exited = Event()
        self.gone = Event()
        self.status: ExitStatus | None = None
        self.began = Event()
        """Set once the runner has its port, or the job has ended."""
        self._output = output
        self._engine = engine
        self._keeper = keeper
        self._runner = RunnerOutput(job_id)
        self._reader: gevent.Greenlet[..., Any] | None = None
        self._hurry = Event()
        self._asked_at = 0.0
        self._is_unwanted = False
        self._was_seen = False
        self._silent_since = 0.0
        self._unknown = 0

    def __repr__(self) -> str:
        return f"<ClusterJob {self.id} on {self.node or '?'}, {self.status or 'running'}>"

    def open(self, view: JobView) -> None:
        """Begin to watch the job, which runs as *view* says. Never switches."""
        self.node, self.node_id = view.node or view.host, view.node_id
        self.url = at_host(self.spec.url, view.host, self._keeper.settings.bind)
        spawn = self._keeper.job_tasks.spawn
        self._reader = spawn(f"output {self.job_id}", self._read_output, view)
        spawn(f"watch {self.job_id}", self._watch)

    @property
    def began_at(self) -> float:
        """When its server was started, by the clock of its machine; 0: not known."""
        return self._runner.began_at

    def stop(self, grace_s: float, cmd_stop: str = "") -> None:
        """Stop it: SIGTERM, SIGKILL after the grace that it was started with. Blocks.

        An engine that does not confirm it is asked again until it does.
        """
        if self._keeper.is_leaving:
            self._leave()
            return
        self.kill()
        limit_s = max(grace_s, self.spec.grace_s) + STOP_SLACK_S
        if not self.gone.wait(limit_s):
            log.error(
                "<%s> its job %s did not stop within %g s; what it uses counts as in use, and the "
                "stop is tried again",
                *(self.spec.model_id, self.job_id, limit_s),
            )

    def kill(self) -> None:
        """Have it stopped. Never switches greenlets."""
        self._is_unwanted = True
        self._hurry.set()

    def wait_exit(self, limit_s: float) -> None:
        """See Handle.wait_exit. The engine is asked at once; it may notice later."""
        self._hurry.set()
        end = time.monotonic() + NOTICE_LIMIT_S
        while not self.exited.wait(limit_s) and time.monotonic() < end:
            if is_listening(self.url, CONNECT_LIMIT_S):
                return

    def allow(self, grace_s: float) -> None:
        """See Handle.allow: a changed grace applies from the next start on."""

    # --- watching --------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self.gone.is_set():
            if self._is_unwanted:
                self._ask_to_stop()
                if self._runner.code is not None and self._engine.notices_late:
                    self._keeper.note_over(self)
                    self._end(exit_status(self._runner.code))
                    return
            try:
                view = self._engine.look(self.job_id)
            except StartFailed as error:
                self._keeper.note_engine(str(error))
                self._check_server(self._keeper.settings.lost_after_s)
            else:
                self._keeper.note_engine("")
                self._take(view)
            if not self.gone.is_set():
                self._pause()

    def _take(self, view: JobView) -> None:
        if view.phase is JobPhase.ENDED:
            self._finish(view)
        elif view.phase is JobPhase.UNKNOWN:
            self._unknown += 1
            if self._unknown >= UNKNOWN_TIMES:
                self._forgotten()
        else:
            self._unknown = 0
            if self._runner.was_repeated and not self._is_unwanted:
                log.error("<%s> the engine has run job %s again", self.spec.model_id, self.job_id)
                self._is_unwanted = True
            self._check_server(SUSPECT_S)

    def _ask_to_stop(self) -> None:
        now = time.monotonic()
        if now < self._asked_at + ASK_AGAIN_S:
            return
        self._asked_at = now
        with suppress(StartFailed):  # the next look reports it
            self._engine.cancel(self.job_id)

    def _check_server(self, limit_s: float) -> None:
        """Count the server as lost once nothing has listened for *limit_s*, where it had before."""
        if self._is_unwanted:
            return
        if is_listening(self.url, CONNECT_LIMIT_S):
            self._was_seen, self._silent_since = True, 0.0
        elif self._was_seen:
            now = time.monotonic()
            self._silent_since = self._silent_since or now
            if now >= self._silent_since + limit_s:
                self._keeper.note_lost(self)
                self._end(ExitStatus(reason=f"no connection to {self.node}, where it ran"))

    def _pause(self) -> None:
        asked_for_s = time.monotonic() - self._asked_at
        if self._is_unwanted and asked_for_s < HURRY_FOR_S:
            gevent.sleep(QUICK_S if asked_for_s < QUICK_FOR_S else HURRY_S)
        elif not self.began.is_set() or self._silent_since:
            self._hurry.wait(2 * HURRY_S)
        else:
            self._hurry.wait(CALM_S * random.uniform(0.8, 1.2))  # noqa: S311 - spreads the load
        self._hurry.clear()

    def _finish(self, view: JobView) -> None:
        """Take the end of the job: its last lines, and its status. Its record is not waited for."""
        end = time.monotonic() + (0.0 if view.code in (None, LATE, BUSY) else LAST_LINES_S)
        while self._runner.code is None and time.monotonic() < end:
            gevent.sleep(HURRY_S)
        self._keeper.forget(self.job_id)
        self._end(status_of(view, self._runner.code))

    def _forgotten(self) -> None:
        what = f"{self._keeper.settings.id} no longer knows its job"
        if is_listening(self.url, CONNECT_LIMIT_S):
            log.error(
                "<%s> %s %s, but a server answers at %s: stop it there, on %s",
                *(self.spec.model_id, what, self.job_id, self.url, self.node),
            )
        self._keeper.note_forgotten(self)
        self._end(ExitStatus(reason=what))

    def _leave(self) -> None:
        if not self.gone.is_set():
            log.info("<%s> job %s goes on running", self.spec.model_id, self.job_id)
            self._end(ExitStatus(reason="left running"))

    def _end(self, status: ExitStatus) -> None:
        self.status = self.status or status
        if self._reader is not None:
            self._reader.kill(block=False)
        self.began.set()
        self.exited.set()
        self.gone.set()
        self._hurry.set()

    # --- output ----------------------------------------------------------------------------------

    def _read_output(self, view: JobView) -> None:
        seen, pause_s = 0, HURRY_S
        while True:
            try:
                for data in self._engine.output(view, seen):
                    seen, pause_s = seen + len(data), HURRY_S
                    printed = self._runner.feed(data)
                    if printed and self._output(printed):
                        gevent.sleep(0)  # it floods: let the others run between two pieces
                    if self._runner.has_begun:
                        self.began.set()
            except EngineDown as error:
                log.debug("<%s> %s", self.spec.model_id, error)
            gevent.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def status_of(view: JobView, code: int | None) -> ExitStatus:
    """Return how a job ended; *code* is what its runner printed."""
    code = view.code if code is None else code
    if view.was_evicted:
        return ExitStatus(reason=view.reason)
    if code is None:
        return ExitStatus(reason="a stop" if view.was_stopped else view.reason)
    return exit_status(code)


def exit_status(code: int) -> ExitStatus:
    """Return the status of a *code* as a shell shows it: 128 and more is a signal."""
    name = ""
    if code > 128:
        with suppress(ValueError):
            name = signal.Signals(code - 128).name
    return ExitStatus(code, name)


def at_host(url: str, host: str, bind: str) -> str:
    """Return *url* with *host* in place of one that means the server's own machine."""
    parts = urlsplit(url)
    if not host or parts.hostname not in (*LOOPBACK, bind):
        return url
    host = f"[{host}]" if ":" in host else host
    netloc = f"{host}:{parts.port}" if parts.port else host
    return urlunsplit(parts._replace(netloc=netloc))


def metadata_of(spec: LaunchSpec, digest: str, launcher: str) -> Mapping[str, str]:
    """Return what is kept with a job, to find it again."""
    return {
        "launcher": launcher,
        "model": spec.model_id,
        "generation": str(spec.generation),
        "digest": digest,
        "run": RUN,
    }
