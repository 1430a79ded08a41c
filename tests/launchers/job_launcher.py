"""A launcher as a cluster has it: addresses known only at the start, ids that are no pids.

Its servers answer in this process. The command is one word: ``serve``, ``hang``, ``speak``,
``fail``, ``stubborn``, ``lost``; ``queue`` never gets a place.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable

from gevent.event import Event
from gevent.pool import Pool
from gevent.pywsgi import WSGIServer

from llmsnap.errors import StartFailed
from llmsnap.launchers import ExitStatus, Launcher, LaunchSpec, Output
from llmsnap.tasks import TaskGroup

COMMANDS = {"serve", "hang", "speak", "fail", "stubborn", "lost", "queue"}
ENDS = {"fail": ExitStatus(3), "lost": ExitStatus(reason="its node was lost")}


class Job:
    """One run of a server."""

    def __init__(self, spec: LaunchSpec, output: Output, job_id: str, tasks: TaskGroup) -> None:
        self.spec = spec
        self.id = job_id
        self.local_pid: int | None = None
        self.node = self.key = ""
        self.is_adopted = False
        self.exited = Event()
        self.gone = Event()
        self.status: ExitStatus | None = None
        self._tasks = tasks
        self._server = WSGIServer(("127.0.0.1", 0), self._answer, log=None, spawn=Pool())
        self._server.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        if spec.cmd in {"speak", "stubborn"}:
            output(b"word\n")
        if spec.cmd in ENDS:
            self._end(ENDS[spec.cmd])

    def stop(self, grace_s: float, cmd_stop: str = "") -> None:
        if self.spec.cmd != "stubborn":
            self._end(ExitStatus(143, "SIGTERM"))
        if not self.gone.wait(grace_s):
            self.kill()
            self.gone.wait()

    def kill(self) -> None:
        self._end(ExitStatus(137, "SIGKILL"))

    def wait_exit(self, limit_s: float) -> None:
        self.exited.wait(limit_s)

    def allow(self, grace_s: float) -> None:
        pass

    def _end(self, status: ExitStatus) -> None:
        if not self.exited.is_set():
            self.status = status
            self.exited.set()
            self._tasks.spawn(f"end {self.id}", self._release)

    def _release(self) -> None:
        self._server.stop(timeout=0)
        self.gone.set()

    def _answer(self, environ, start_response) -> list[bytes]:
        start_response("503 Loading" if self.spec.cmd == "hang" else "200 OK", [])
        return [self.spec.cmd.encode()]


class JobLauncher(Launcher):
    """Runs jobs; *owner* is whose they are."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._jobs: list[Job] = []
        self._numbers = itertools.count(1)
        self._tasks = TaskGroup(owner)

    def check(self, spec: LaunchSpec, leaving: frozenset[str] = frozenset()) -> None:
        if spec.cmd not in COMMANDS:
            raise StartFailed(f"{spec.model_id}: its command was not found", detail=f": {spec.cmd}")

    def start(self, spec: LaunchSpec, output: Output, cancelled: Event) -> Job:
        self.check(spec)
        if spec.cmd == "queue" or cancelled.is_set():
            cancelled.wait()
            raise StartFailed(f"{spec.model_id}: no node is free")
        job = Job(spec, output, f"{self._owner}-{spec.model_id}-{next(self._numbers)}", self._tasks)
        self._jobs.append(job)
        return job

    def fingerprint(self, spec: LaunchSpec) -> Hashable | None:
        return None  # its files are on other machines

    def stop_leftovers(self) -> list[str]:
        left = [job for job in self._jobs if not job.gone.is_set()]
        for job in left:
            job.stop(4)
        return [f"job {job.id} of model {job.spec.model_id}" for job in left]

    def withhold(self, names: Iterable[str]) -> None:
        pass

    def close(self) -> None:
        self._tasks.close()
