"""Starts servers as jobs of an engine: waits for a machine, adopts jobs, gets rid of others."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace

import gevent
from gevent.event import Event

from llmsnap.config import LauncherConfig, split_command
from llmsnap.errors import CommandProblem, EngineDown, NoCapacity, Rejected, StartFailed
from llmsnap.http import redact_output
from llmsnap.launchers.base import Launcher, LaunchSpec, NodeView, Output
from llmsnap.launchers.cluster.engine import Engine, JobPhase, JobRequest, JobView
from llmsnap.launchers.cluster.entrypoint import COMMAND, environment
from llmsnap.launchers.cluster.identity import Owner
from llmsnap.launchers.cluster.job import RUN, ClusterJob, metadata_of
from llmsnap.launchers.cluster.runner import BUSY, LATE
from llmsnap.tasks import TaskGroup

log = logging.getLogger(__name__)

PLACING_S, LONGEST_PLACING_S = 0.02, 0.1
"""Seconds between the first two looks at a job that waits for a machine, and later ones."""
FULL_S = 6.0
"""How long a job waits for a machine that it may get only once another job of ours leaves.

Ray's figures of what is free are up to 5 s old.
"""
RETRY_S = 5.0
"""What a client should wait after NoCapacity."""
BEGIN_LIMIT_S = 5.0
"""How long a start waits for the first line of the runner; the server may listen before that."""
UNKNOWN_TIMES = 8
"""How often the engine must not know a job that has to end: one that was sent may yet arrive."""
SWEEP_S = 1.0
LONGEST_SWEEP_S = 10.0
LAST_WORD_S = 1.0
"""How long the end of llmsnap waits for jobs that have to end."""
ADOPT_LIMIT_S = 300.0
"""How long a job of an earlier run is kept for the start of its model."""
TRIAL_LIMIT_S = 10.0
"""How long a job that does nothing may take to end by itself."""
RECOVERED_S = 5.0
"""How long after an engine answers again its jobs are compared with those that should run."""
MOST_PAST = 256
CLOCKS_S = 5.0
"""How far the clocks of machines may be off each other."""
LEFTOVER_LIMIT_S = 15.0
"""How long the start of llmsnap waits for jobs of an earlier run to end."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A job that did nothing: on which machine, how it ended, and how far that clock is off.

    *skew_s* is None if no output was received.
    """

    node: str
    status: str
    skew_s: float | None


class ClusterLauncher(Launcher):
    """Runs servers as jobs of *engine*."""

    def __init__(self, settings: LauncherConfig, engine: Engine, owner: Owner) -> None:
        self.settings = settings
        self.is_leaving = False
        self._engine = engine
        self._owner = owner
        self.job_tasks = TaskGroup(f"jobs of {settings.id}")
        self._tasks = TaskGroup(f"launcher {settings.id}")
        self._delayed = TaskGroup(f"launcher {settings.id}, later")
        """What waits for a time: the end of llmsnap does not wait for it."""
        self._adoptable: dict[str, JobView] = {}
        """Jobs of an earlier run by the digest of their start."""
        self._unwanted: dict[str, str] = {}
        """Jobs that have to end, whatever they do now, with their models."""
        self._lost: dict[str, float] = {}
        """Nodes that do not answer, and until when they are avoided."""
        self._kept: set[str] = set()
        """Jobs of an earlier run that were or will be adopted."""
        self._past: deque[str] = deque(maxlen=MOST_PAST)
        """Jobs of this run that have ended: an engine that restarts may run them again."""
        self._has_taken_over = False
        """Whether what an earlier run left is this launcher's to end: not that of a trial."""
        self._wants_sweep = self._is_sweeping = False
        self._trouble = ""

    def __repr__(self) -> str:
        return f"<ClusterLauncher {self.settings.id}, {self._trouble or 'reachable'}>"

    def renew(self, settings: LauncherConfig) -> bool:
        """See Launcher.renew. Of the same engine only: without its token no job can be stopped."""
        mine = self.settings
        if (mine.id, mine.type, mine.address) == (settings.id, settings.type, settings.address):
            self.settings = mine = replace(mine, token=settings.token)
            self._engine.use_token(settings.token)
        return mine == settings

    # --- starts ----------------------------------------------------------------------------------

    def check(self, spec: LaunchSpec, leaving: frozenset[str] = frozenset()) -> None:
        """Raise StartFailed if there is no command, or the engine cannot be used. Blocks."""
        check_command(spec)
        try:
            self._engine.version()
        except StartFailed as error:
            self.note_engine(str(error))
            raise named(error, spec.model_id) from error
        self.note_engine("")

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> ClusterJob:
        """Return the job of *spec* once its runner has a machine and its port. Blocks.

        Raises: NoCapacity, Rejected, EngineDown; StartFailed when *cancelled*.
        """
        check_command(spec)
        digest = self._owner.digest(spec, self.settings)
        adopted = self._adoptable.pop(digest, None)
        if adopted is not None:
            log.info("<%s> adopted job %s on %s", spec.model_id, adopted.id, adopted.node)
            job = self._opened(spec, adopted, output)
            job.is_adopted = True
            return job
        avoid = self._nodes_to_avoid()
        job = self._run(spec, digest, avoid, output, cancelled)
        if not was_busy(job):
            return job
        log.warning(
            "<%s> its port is in use on %s: trying another machine", spec.model_id, job.node
        )
        job = self._run(spec, digest, (*avoid, job.node_id), output, cancelled)
        if not was_busy(job):
            return job
        what = f"{spec.model_id}: its port is in use on {job.node}"
        raise StartFailed(what, detail="; give the model another port, or stop what uses it there")

    def _run(
        self,
        spec: LaunchSpec,
        digest: str,
        avoid: tuple[str, ...],
        output: Output,
        cancelled: Event,
    ) -> ClusterJob:
        """Return a job that has a machine, once its runner has its port or has ended. Blocks."""
        job = self._opened(spec, self._placed(spec, digest, avoid, cancelled), output)
        gevent.wait((job.began, cancelled), timeout=BEGIN_LIMIT_S, count=1)
        if job.status is not None and job.status.code == LATE:
            raise self._no_capacity(spec, self.settings.placement_timeout_s)
        return job

    def _opened(self, spec: LaunchSpec, view: JobView, output: Output) -> ClusterJob:
        key = self._owner.key_of(view.id) if spec.makes_key else ""
        job = ClusterJob(spec, view.id, key, output, self._engine, self)
        job.open(view)
        return job

    def _placed(
        self, spec: LaunchSpec, digest: str, avoid: tuple[str, ...], cancelled: Event
    ) -> JobView:
        """Return the job once it runs. After an error it never runs the server. Blocks."""
        limit_s = self.settings.placement_timeout_s
        began = time.monotonic()
        request = self._request(spec, digest, avoid, time.time() + limit_s)
        is_placed, may_arrive = False, True
        try:
            view = self._waited(request, began + limit_s, cancelled)
            # Of one that has ended already, the watch takes output and status.
            is_placed = view is not None and (
                view.phase is JobPhase.RUNNING or view.code is not None
            )
        except StartFailed as error:
            may_arrive = not isinstance(error, Rejected)
            raise named(error, spec.model_id, request.env.values()) from error
        finally:
            if not is_placed:
                # After the deadline its runner does not run the server.
                until = began + limit_s + CLOCKS_S if may_arrive else 0.0
                self._discard(request.id, spec.model_id, until)
        if view is not None and is_placed:
            return view
        if view is not None and not view.is_lost:
            refused = Rejected("its job was not run", detail=f": {view.reason}")
            raise named(refused, spec.model_id, request.env.values())
        if cancelled.is_set():
            raise StartFailed(f"{spec.model_id}: its start was cancelled")
        raise self._no_capacity(spec, time.monotonic() - began)

    def _waited(self, request: JobRequest, deadline: float, cancelled: Event) -> JobView | None:
        """Submit a job, and return it once it runs or has ended; None when that takes too long.

        An engine that does not answer, or does not know the job after all, is asked again: the id
        of the job makes that safe.
        """
        is_submitted = False
        hurry_until = time.monotonic() + FULL_S
        is_late = False
        down: EngineDown | None = None
        pause_s = PLACING_S
        while not cancelled.is_set() and time.monotonic() < deadline:
            try:
                if not is_submitted:
                    self._engine.submit(request)
                is_submitted = True
                view = self._engine.look(request.id)
                is_submitted = view.phase is not JobPhase.UNKNOWN
            except EngineDown as error:
                down = EngineDown(str(error), RETRY_S, error.detail)
                self.note_engine(str(error))
            else:
                down = None
                self.note_engine("")
                if view.phase is JobPhase.ENDED or (view.phase is JobPhase.RUNNING and view.host):
                    return view
                if is_late and self._is_in_our_hands(request):
                    return None
            is_late = time.monotonic() >= hurry_until
            cancelled.wait(SWEEP_S if is_late or down is not None else pause_s)
            pause_s = min(1.5 * pause_s, LONGEST_PLACING_S)
        if down is not None and not cancelled.is_set():
            raise down
        return None

    def _is_in_our_hands(self, request: JobRequest) -> bool:
        """Whether no machine has the GPUs of a job, but another job of ours could leave. Blocks."""
        wanted = request.resources.gpus or 0
        try:
            free = [each.free_gpus for each in self._engine.nodes() if each.is_usable and each.gpus]
            if not free or max(free) >= wanted or not self._engine.is_unplaced(request):
                return False
            return any(
                job.id != request.id and job.phase is JobPhase.RUNNING for job in self._listed()
            )
        except StartFailed:
            return False

    def _request(
        self, spec: LaunchSpec, digest: str, avoid: tuple[str, ...], not_after: float
    ) -> JobRequest:
        job_id = self._owner.new_job_id(spec.model_id)
        return JobRequest(
            id=job_id,
            owner=self._owner.id,
            command=COMMAND,
            env=environment(spec, self.settings, job_id, self._owner, not_after),
            resources=spec.resources,
            metadata=metadata_of(spec, digest, self.settings.id),
            grace_s=spec.grace_s,
            avoid=avoid,
        )

    def _no_capacity(self, spec: LaunchSpec, waited_s: float) -> NoCapacity:
        wants = spec.resources
        need = f"{wants.gpus or 0:g} GPUs" if wants.gpus != 1 else "1 GPU"
        what = f"{spec.model_id}: no machine of {self.settings.id} was free within {waited_s:.0f} s"
        detail = f"; it needs {need}, {free_of(self.nodes())}"
        return NoCapacity(what, retry_after_s=RETRY_S, detail=detail)

    def nodes(self) -> list[NodeView]:
        """See Launcher.nodes."""
        try:
            return self._engine.nodes()
        except StartFailed as error:
            log.debug("%s: %s", self.settings.id, error)
            return []

    # --- jobs of an earlier run ------------------------------------------------------------------

    def adopt(self, specs: Sequence[LaunchSpec]) -> list[str]:
        """See Launcher.adopt."""
        wanted = {self._owner.digest(spec, self.settings): spec.model_id for spec in specs}
        for job in self._found():
            digest = job.metadata.get("digest", "")
            if digest in wanted and job.phase is JobPhase.RUNNING and digest not in self._adoptable:
                self._adoptable[digest] = job
                self._kept.add(job.id)
        if self._adoptable:
            self._delayed.spawn("unclaimed jobs", self._end_unclaimed)
        return sorted(wanted[digest] for digest in self._adoptable)

    def _end_unclaimed(self) -> None:
        """Get rid of jobs whose models were not started for ADOPT_LIMIT_S."""
        gevent.sleep(ADOPT_LIMIT_S)
        self._end_adoptable()

    def _end_adoptable(self) -> None:
        """Get rid of the jobs of an earlier run that no start has taken. Never switches."""
        while self._adoptable:
            _, job = self._adoptable.popitem()
            self._discard(job.id, job.metadata.get("model", ""))

    def stop_leftovers(self) -> list[str]:
        """Stop the jobs of an earlier run that were not adopted. Blocks, bounded.

        Where the engine does not answer, that is done once it does.
        """
        left = [job for job in self._found() if job.id not in self._kept]
        self._has_taken_over = True
        # What an earlier run submitted just before its end may come later.
        arrived_s = self.settings.placement_timeout_s + CLOCKS_S
        self._delayed.spawn("jobs that came late", self._sweep, arrived_s)
        deadline = time.monotonic() + LEFTOVER_LIMIT_S
        for job in left:
            self._discard(job.id, job.metadata.get("model", ""))
        while any(job.id in self._unwanted for job in left) and time.monotonic() < deadline:
            gevent.sleep(PLACING_S)
        return [
            f"job {job.id} of model {job.metadata.get('model')}, on {self.settings.id}"
            for job in left
        ]

    def _found(self) -> list[JobView]:
        """Return the jobs of this launcher that do not have to end anyway. Blocks, bounded."""
        try:
            return self._listed()
        except StartFailed as error:
            log.warning("%s: jobs of an earlier run are not known: %s", self.settings.id, error)
            self.note_engine(str(error))
            return []

    def _listed(self) -> list[JobView]:
        return [
            job
            for job in self._engine.jobs(self._owner.id)
            if job.metadata.get("launcher") == self.settings.id and job.id not in self._unwanted
        ]

    def _sweep_soon(self) -> None:
        """Have jobs that should not run looked for, RECOVERED_S from now. Never switches."""
        self._wants_sweep = True
        if not self._is_sweeping:
            self._is_sweeping = True
            self._delayed.spawn("jobs that should not run", self._sweep_while_wanted)

    def _sweep_while_wanted(self) -> None:
        try:
            while self._wants_sweep:
                self._wants_sweep = False
                self._sweep(RECOVERED_S)
        finally:
            self._is_sweeping = False

    def _sweep(self, pause_s: float) -> None:
        """Get rid of jobs that should not run, once the engine lists its jobs after *pause_s*."""
        while True:
            gevent.sleep(pause_s)
            try:
                stale = [job for job in self._listed() if self._should_not_run(job)]
            except StartFailed as error:
                log.debug("%s: %s", self.settings.id, error)
                pause_s = LONGEST_SWEEP_S
                continue
            for job in stale:
                log.warning("<%s> stopping job %s", job.metadata.get("model"), job.id)
                self._discard(job.id, job.metadata.get("model", ""))
            return

    def _should_not_run(self, job: JobView) -> bool:
        """Whether an earlier run has left *job*, or it had ended: engines may lose that."""
        is_left = job.metadata.get("run") != RUN and job.id not in self._kept
        return job.id in self._past or (is_left and self._has_taken_over)

    def _discard(self, job_id: str, model_id: str, until: float = 0.0) -> None:
        """Get rid of a job in the background, whatever it does now. Never switches.

        *until* is the time, on the monotonic clock, until which it may yet arrive at the engine.
        """
        self._unwanted[job_id] = model_id
        self._tasks.spawn(f"end {job_id}", self._end_job, job_id, until)

    def _end_job(self, job_id: str, until: float) -> None:
        """Ask for the end of a job until the engine says that it has ended, or is not known."""
        pause_s, unknown = PLACING_S, 0
        while True:
            try:
                view = self._engine.look(job_id)
                if view.phase is JobPhase.ENDED:
                    self._engine.forget(job_id)
                    break
                if view.phase is JobPhase.UNKNOWN:
                    unknown += 1
                    if unknown >= UNKNOWN_TIMES and time.monotonic() >= until:
                        break
                else:
                    unknown = 0
                    self._engine.cancel(job_id)
            except StartFailed as error:
                log.debug("%s: %s", self.settings.id, error)
            gevent.sleep(pause_s)
            pause_s = min(1.5 * pause_s, LONGEST_SWEEP_S)
        self._unwanted.pop(job_id, None)
        self._past.append(job_id)

    # --- what jobs report ------------------------------------------------------------------------

    def note_engine(self, trouble: str) -> None:
        """See Keeper. The first call that fails is logged, and the first that works again."""
        if trouble and not self._trouble:
            log.error("launcher %s: %s; servers that run go on serving", self.settings.id, trouble)
        elif self._trouble and not trouble:
            log.info("launcher %s answers again", self.settings.id)
            self._sweep_soon()
        self._trouble = trouble

    def forget(self, job_id: str) -> None:
        """See Keeper."""
        self._past.append(job_id)
        self._tasks.spawn(f"forget {job_id}", self._forget, job_id)

    def _forget(self, job_id: str) -> None:
        try:
            self._engine.forget(job_id)
        except StartFailed as error:
            log.debug("%s: %s", self.settings.id, error)

    def note_forgotten(self, job: ClusterJob) -> None:
        """See Keeper."""
        self._past.append(job.job_id)
        self._sweep_soon()

    def note_over(self, job: ClusterJob) -> None:
        """See Keeper."""
        self._discard(job.job_id, job.spec.model_id)

    def note_lost(self, job: ClusterJob) -> None:
        """See Keeper."""
        log.error("<%s> lost: nothing answers at %s", job.spec.model_id, job.url)
        if job.node_id:
            self._lost[job.node_id] = time.monotonic() + self.settings.lost_after_s
        self._discard(job.job_id, job.spec.model_id)

    def _nodes_to_avoid(self) -> tuple[str, ...]:
        now = time.monotonic()
        self._lost = {node: until for node, until in self._lost.items() if until > now}
        return tuple(self._lost)

    # --- the rest of Launcher --------------------------------------------------------------------

    def fingerprint(self, spec: LaunchSpec) -> Hashable | None:
        """Return None: the files are on other machines."""
        return None

    def withhold(self, names: Iterable[str]) -> None:
        """See Launcher.withhold: servers get no environment from here."""

    def trouble(self) -> str:
        """See Launcher.trouble."""
        return self._trouble

    def release(self) -> None:
        """See Launcher.release."""
        self.is_leaving = self.settings.keeps

    def describe(self) -> str:
        """Return the engine's name and version. Raises: EngineDown, Rejected. Blocks."""
        return self._engine.version()

    def try_start(self) -> Trial:
        """Run a job that does nothing, and return where it was. Blocks. Raises: as ``start``."""
        before = time.time()
        job = self.start(LaunchSpec("llmsnap-check", "true", "http://localhost"), len, Event())
        job.gone.wait(TRIAL_LIMIT_S)
        job.stop(0.0)
        after = time.time()
        skew_s = max(before - job.began_at, job.began_at - after, 0.0)
        return Trial(job.node, str(job.status), skew_s if job.began_at else None)

    def close(self) -> None:
        """End watching; jobs that had to end and have not are found by the next run. Blocks."""
        self.job_tasks.kill()
        self._delayed.kill()
        if not self.is_leaving:
            self._end_adoptable()
        if left := self._tasks.close(0.0 if self._trouble else LAST_WORD_S):
            log.warning("launcher %s: not confirmed: %s", self.settings.id, ", ".join(left))
        self._engine.close()


def check_command(spec: LaunchSpec) -> None:
    """Raise StartFailed if there is no command."""
    try:
        split_command(spec.cmd)
    except CommandProblem as error:
        raise StartFailed(f"{spec.model_id}: {error}") from error


def was_busy(job: ClusterJob) -> bool:
    """Return whether *job* ended because its port was in use on its machine."""
    return job.status is not None and job.status.code == BUSY


def named(error: StartFailed, model_id: str, secrets: Iterable[str] = ()) -> StartFailed:
    """Return *error* of an engine as one of a model, without *secrets* that the engine repeats."""
    detail = redact_output(error.detail, secrets)
    return type(error)(f"{model_id}: {error}", error.retry_after_s, detail)


def free_of(nodes: Iterable[NodeView]) -> str:
    """Return which GPUs are free where, in words."""
    listed = [f"{node.name} {node.free_gpus:g} of {node.gpus:g}" for node in nodes if node.gpus]
    return f"free are {', '.join(listed)}" if listed else "and no machine with GPUs is known"
