"""Slurm, by the REST interface of slurmrestd with a JSON web token.

Slurm numbers its jobs; they are found by their names, which are ours: a controller that was killed
may have forgotten the last jobs, and uses their numbers again. Its interface changes with each
release: the newest of VERSIONS that the server has is used. v0.0.38 was tested with Slurm 22.05.
For later versions, the names and types of the fields that are sent and read were compared with
published specifications: SchedMD's reference of the REST interface (v0.0.39), and the types that
SlinkyProject/slurm-client generates from the OpenAPI documents (v0.0.40 to v0.0.45). They were not
tested with a server.
"""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from gevent.threadpool import ThreadPool

from llmsnap.config import LauncherConfig, Resources
from llmsnap.errors import EngineDown, Rejected
from llmsnap.launchers.base import NodeView
from llmsnap.launchers.cluster.engine import JobPhase, JobRequest, JobView
from llmsnap.launchers.cluster.identity import Owner
from llmsnap.launchers.cluster.job_output import OutputReceiver, Receivers, follow
from llmsnap.launchers.cluster.rest import Answer, RestClient

VERSIONS = (45, 44, 43, 42, 41, 40, 39, 38)
"""The last number of the versions of the interface that are known, newest first."""
STRUCTURED = 39
"""From this version on, numbers are objects, the environment and states of nodes are lists."""
SLASHED = 40
"""From this version on, generic resources are ``gres/gpu:1``; they were ``gres:gpu:1`` before."""
PENDING = frozenset(
    {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD"}
    | {"SUSPENDED", "SPECIAL_EXIT"}
)
RUNNING = frozenset(
    {"RUNNING", "COMPLETING", "CONFIGURING", "RESIZING", "STAGE_OUT", "SIGNALING", "STOPPED"}
)
LOST = frozenset({"NODE_FAIL", "BOOT_FAIL"})
ENDED_BY_OTHERS = {
    "PREEMPTED": "another job took its resources (preempted)",
    "TIMEOUT": "the time limit of its job is over",
    "DEADLINE": "the deadline of its job is over",
    "OUT_OF_MEMORY": "it used more memory than its job may",
    "NODE_FAIL": "its machine failed",
    "BOOT_FAIL": "its machine did not boot",
}
UNKNOWN_JOB = 2017
"""Slurm's number of the error for a job that it does not know."""
JOB_ERRORS = range(2000, 3000)
"""Slurm's numbers of errors of jobs; such a job is refused each time."""
PATH = "/usr/local/bin:/usr/bin:/bin"
"""Where commands are found, unless ``env`` says otherwise: Slurm passes on no environment."""
MIB = 1024 * 1024
MOST_ADDRESSES = 10_000
_GRES = re.compile(r"gpu(?::[^:(,]+)?:(\d+)")


class SlurmEngine:
    """An ``Engine`` for Slurm; see there."""

    notices_late = False

    def __init__(self, settings: LauncherConfig, owner: Owner, receivers: Receivers) -> None:
        self._settings = settings
        self._pool = ThreadPool(2)  # of its own: a shared file system may hang
        own = OutputReceiver(settings.log_address, owner.log_token_of)
        self._receiver = receivers.setdefault(settings.log_address, own)
        self._rest = RestClient(f"Slurm ({settings.id})", settings.address, {})
        self._token = ""
        self.use_token(settings.token)
        self._api = 0
        self._numbers: dict[str, int] = {}
        self._addresses: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<SlurmEngine {self._settings.id}>"

    def use_token(self, token: str) -> None:
        """See Engine.use_token."""
        self._token = token
        user = self._settings.user
        self._rest.headers = {"X-SLURM-USER-NAME": user, "X-SLURM-USER-TOKEN": token}

    def submit(self, request: JobRequest) -> None:
        """See Engine.submit. A second job of the same name waits for the end of the first."""
        self._refuse_fractions(request.resources)
        if self._settings.log_address:
            self._receiver.open()
        if self._number_of(request.id):
            return
        answer = self._call("POST", "job/submit", self._body(request))
        number = answer.data.get("job_id") if isinstance(answer.data, dict) else None
        if answer.is_ok and isinstance(number, int) and number:
            self._numbers[request.id] = number
            return
        if error_number(answer) in JOB_ERRORS:
            raise Rejected("Slurm refuses the job", detail=f": {error_text(answer)}")
        raise self._down("did not take the job", answer)

    def look(self, job_id: str) -> JobView:
        """See Engine.look."""
        number = self._number_of(job_id)
        if not number:
            return JobView(job_id, JobPhase.UNKNOWN)
        answer = self._call("GET", f"job/{number}")
        entries = _list(answer, "jobs")
        if not answer.is_ok or not entries:
            if error_number(answer) == UNKNOWN_JOB:
                self._numbers.pop(job_id, None)
                return JobView(job_id, JobPhase.UNKNOWN)
            raise self._down("does not tell of a job", answer)
        if entries[-1].get("name") != job_id:
            self._numbers.pop(job_id, None)
            return JobView(job_id, JobPhase.UNKNOWN)
        return self._rest.read(self._view, entries[-1])

    def cancel(self, job_id: str) -> None:
        """See Engine.cancel. Slurm's ``KillWait`` ends the grace if it is shorter.

        A controller that was killed may give the number of a job to another one: it is looked at.
        """
        is_there = self.look(job_id).phase in (JobPhase.PENDING, JobPhase.RUNNING)
        if is_there and (number := self._numbers.get(job_id)):  # another look may have dropped it
            self._call("DELETE", f"job/{number}")

    def forget(self, job_id: str) -> None:
        """Delete the log of a job; Slurm forgets the job by itself."""
        self._numbers.pop(job_id, None)
        if self._settings.log_folder:
            self._pool.spawn(_delete, self._log_of(job_id))

    def jobs(self, owner: str) -> list[JobView]:
        """See Engine.jobs."""
        ours = [entry for entry in self._all_jobs() if metadata_in(entry).get("owner") == owner]
        views = [self._rest.read(self._view, entry) for entry in ours]
        return [view for view in views if view.phase is not JobPhase.ENDED]

    def output(self, job: JobView, skip: int) -> Iterator[bytes]:
        """See Engine.output. What is pushed is not repeated."""
        if self._settings.log_address:
            return self._receiver.read(job.id)
        return follow(Path(self._log_of(job.id)), skip, self._pool)

    def is_unplaced(self, request: JobRequest) -> bool:
        """See Engine.is_unplaced. A job that has machines is no longer pending."""
        return True

    def nodes(self) -> list[NodeView]:
        """See Engine.nodes."""
        answer = self._call("GET", "nodes")
        if not answer.is_ok:
            raise self._down("does not tell of its nodes", answer)
        return [self._rest.read(node_of, entry) for entry in _list(answer, "nodes")]

    def version(self) -> str:
        """See Engine.version."""
        answer = self._call("GET", "ping")
        pings = _list(answer, "pings")
        if not answer.is_ok or not pings:
            raise self._down("gives no usable reply", answer)
        slurm = next(iter(_below(answer.data, "meta", "Slurm", "slurm")), {})
        return f"Slurm {slurm.get('release', '?')} (v0.0.{self._api})"

    def close(self) -> None:
        """Close its connections."""
        self._receiver.close()
        self._rest.close()
        self._pool.kill()

    # --- calls -----------------------------------------------------------------------------

    def _call(self, method: str, path: str, body: Any = None) -> Answer:
        self._check_token()
        if not self._api:
            self._api = self._find_version()
        return self._rest.call(method, f"/slurm/v0.0.{self._api}/{path}", body)

    def _find_version(self) -> int:
        """Return the newest version of the interface that both sides know."""
        answer = self._rest.call("GET", "/openapi/v3")
        paths = answer.data.get("paths", {}) if isinstance(answer.data, dict) else {}
        for version in VERSIONS:
            if f"/slurm/v0.0.{version}/ping" in paths or f"/slurm/v0.0.{version}/ping/" in paths:
                return version
        if not answer.is_ok or not paths:
            raise self._down("gives no usable reply", answer)
        known = f"v0.0.{VERSIONS[-1]} to v0.0.{VERSIONS[0]}"
        raise Rejected(f"Slurm ({self._settings.id}) has no interface that is known: {known}")

    def _check_token(self) -> None:
        """Raise Rejected if the token has expired, which Slurm itself does not say."""
        expiry = expiry_of(self._token)
        if expiry is not None and expiry < time.time():
            at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(expiry))
            raise Rejected(
                f"the token of Slurm ({self._settings.id}) expired on {at}: scontrol token makes "
                "another"
            )

    def _down(self, what: str, answer: Answer) -> EngineDown:
        return EngineDown(f"Slurm ({self._settings.id}) {what}", detail=f": {error_text(answer)}")

    # --- jobs ------------------------------------------------------------------------------

    def _number_of(self, job_id: str) -> int:
        """Return Slurm's number of a job; 0 if it has none of that name."""
        if job_id not in self._numbers:
            named = [entry for entry in self._all_jobs() if entry.get("name") == job_id]
            if not named:
                return 0
            self._numbers[job_id] = self._rest.read(int, named[0].get("job_id"))
        return self._numbers[job_id]

    def _all_jobs(self) -> list[dict[str, Any]]:
        answer = self._call("GET", "jobs")
        if not answer.is_ok or not isinstance(answer.data, dict) or "jobs" not in answer.data:
            raise self._down("does not list its jobs", answer)
        return _list(answer, "jobs")

    def _view(self, entry: dict[str, Any]) -> JobView:
        states = states_of(entry)
        node = str(entry.get("nodes") or "")
        phase = phase_of(states)
        return JobView(
            id=str(entry.get("name")),
            phase=phase,
            host=self._address_of(node) if node and phase is JobPhase.RUNNING else "",
            node=node,
            node_id=node,
            code=code_of(entry) if phase is JobPhase.ENDED and "CANCELLED" not in states else None,
            reason=reason_of(entry, states),
            was_stopped="CANCELLED" in states,
            was_evicted=not states.isdisjoint(ENDED_BY_OTHERS),
            is_lost=not LOST.isdisjoint(states),
            metadata=metadata_in(entry),
        )

    def _address_of(self, node: str) -> str:
        if node not in self._addresses and len(self._addresses) < MOST_ADDRESSES:
            found = _list(self._call("GET", f"node/{quote(node)}"), "nodes")
            self._addresses[node] = str(found[0].get("address") or node) if found else node
        return self._addresses.get(node, node)

    def _log_of(self, job_id: str) -> str:
        folder = self._settings.log_folder
        return f"{folder}/{job_id}.log" if folder else "/dev/null"

    def _refuse_fractions(self, wants: Resources) -> None:
        for name, amount in {"gpus": wants.gpus or 0.0, **wants.custom}.items():
            if amount != int(amount):
                raise Rejected(
                    f"Slurm counts whole {name}, not {amount:g}; shares of a GPU are "
                    "custom: {shard: 1} where the cluster has them"
                )

    def _body(self, request: JobRequest) -> dict[str, Any]:
        """Return the body of a submission."""
        settings, wants = self._settings, request.resources
        env = {"PATH": PATH, **request.env}
        log_file = self._log_of(request.id)
        job: dict[str, Any] = {
            "name": request.id,
            "comment": json.dumps({"owner": request.owner, **request.metadata}),
            "partition": settings.partition,
            "account": settings.account,
            "dependency": "singleton",
            "requeue": False,
            "tasks": 1,
            "cpus_per_task": math.ceil(wants.cpus) or None,
            "memory_per_node": math.ceil(wants.ram_bytes / MIB) or None,
            "constraints": "&".join(wants.labels.values()),
            "current_working_directory": "/tmp",  # noqa: S108 - is on every machine
            "standard_output": log_file,
            "standard_error": log_file,
            "environment": env,
            **self._devices(wants),
        }
        script = f"#!/bin/sh\n{request.command}\n"
        if self._api < STRUCTURED:
            return {"job": _given(job), "script": script}
        job["environment"] = [f"{name}={value}" for name, value in env.items()]
        job["script"] = script
        job["excluded_nodes"] = list(request.avoid)
        if job["memory_per_node"]:
            job["memory_per_node"] = {"set": True, "number": job["memory_per_node"]}
        return {"job": _given(job)}

    def _devices(self, wants: Resources) -> dict[str, str]:
        counts = {"gpu": int(wants.gpus or 0), **{k: int(v) for k, v in wants.custom.items()}}
        if self._api < STRUCTURED:
            return {"gres": ",".join(f"{name}:{n}" for name, n in counts.items() if n)}
        prefix = "gres/" if self._api >= SLASHED else "gres:"
        return {"tres_per_node": ",".join(f"{prefix}{name}:{n}" for name, n in counts.items() if n)}


def _delete(path: str) -> None:
    with suppress(OSError):
        Path(path).unlink()


# --- replies ------------------------------------------------------------------------------------


def states_of(entry: dict[str, Any]) -> frozenset[str]:
    """Return the states of a job: one text, or a list of them in later versions."""
    state = entry["job_state"]
    return frozenset(map(str, state)) if isinstance(state, list) else frozenset({str(state)})


def phase_of(states: frozenset[str]) -> JobPhase:
    """Return where a job in these *states* is."""
    if not RUNNING.isdisjoint(states):
        return JobPhase.RUNNING
    return JobPhase.ENDED if PENDING.isdisjoint(states) else JobPhase.PENDING


def code_of(entry: dict[str, Any]) -> int | None:
    """Return the exit code of a job that has ended; None if its machine is lost."""
    if not LOST.isdisjoint(states_of(entry)):
        return None
    given = entry.get("exit_code")
    if isinstance(given, int):  # a status as of waitpid(2)
        return given >> 8 if given > 0xFF else given and 128 + (given & 0x7F)
    if isinstance(given, dict) and "number" in given:  # v0.0.39: such a status as an object
        return code_of({**entry, "exit_code": _number(given)})
    code, signal = _number(given, "return_code"), _number(given, "signal", "id")
    return code if signal is None or not signal else 128 + signal


def reason_of(entry: dict[str, Any], states: frozenset[str]) -> str:
    """Return how a job ended, or why it waits, in words."""
    for state, text in ENDED_BY_OTHERS.items():
        if state in states:
            return text
    why = str(entry.get("state_reason") or "None")
    return "/".join(sorted(states)) + ("" if why == "None" else f": {why}")


def metadata_in(entry: dict[str, Any]) -> dict[str, str]:
    """Return the metadata in the comment of a job; empty for jobs of others."""
    try:
        found = json.loads(entry.get("comment") or "{}")
    except (ValueError, TypeError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {str(name): str(value) for name, value in found.items()}


def node_of(entry: dict[str, Any]) -> NodeView:
    """Return a machine; one that is down, or takes no jobs, has no free GPUs."""
    state = entry.get("state")
    states = {str(each).lower() for each in (state if isinstance(state, list) else [state])}
    states |= {str(each).lower() for each in entry.get("state_flags") or []}
    total, used = _gpus(entry.get("gres")), _gpus(entry.get("gres_used"))
    is_usable = bool(states & {"idle", "mixed", "allocated"}) and "drain" not in states
    free = total - used if is_usable else 0.0
    features = entry.get("active_features")
    names = features if isinstance(features, list) else str(features or "").split(",")
    labels = tuple(str(name) for name in names if name)
    return NodeView(str(entry.get("name")), total, free, labels, is_usable)


def error_number(answer: Answer) -> int:
    """Return Slurm's number of the first error of a reply; 0 for none."""
    for error in _list(answer, "errors"):
        for name in ("error_number", "error_code", "errno"):
            if isinstance(error.get(name), int) and error[name]:
                return int(error[name])
    return 0


def error_text(answer: Answer) -> str:
    """Return the errors of a reply in words."""
    errors = _list(answer, "errors")
    texts = [
        f"{each.get('description') or ''} {each.get('error') or ''}".strip() for each in errors
    ]
    if error_number(answer) == -1:
        texts.append("either the token is not one of this user, or slurmctld does not run")
    return f"{answer.status} {'; '.join(filter(None, texts))}" if errors else str(answer)


def expiry_of(token: str) -> float | None:
    """Return when a JSON web token expires (Unix time); None if it does not say (RFC 7519)."""
    payload = token.partition(".")[2].partition(".")[0]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        return None


def _gpus(gres: Any) -> float:
    return float(sum(map(int, _GRES.findall(str(gres or "")))))


def _given(job: dict[str, Any]) -> dict[str, Any]:
    """Return what is set of *job*."""
    return {name: value for name, value in job.items() if value not in (None, "", [])}


def _list(answer: Answer, name: str) -> list[dict[str, Any]]:
    found = answer.data.get(name) if isinstance(answer.data, dict) else None
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _below(data: Any, name: str, *names: str) -> Iterator[dict[str, Any]]:
    found = data.get(name) if isinstance(data, dict) else None
    for each in names:
        if isinstance(found, dict) and isinstance(found.get(each), dict):
            yield found[each]


def _number(data: Any, *names: str) -> int | None:
    """Return a number below *data*; None for an object that says that it is not set."""
    for name in names:
        data = data.get(name) if isinstance(data, dict) else None
    if isinstance(data, dict):
        data = data.get("number") if data.get("set", True) else None
    return data if isinstance(data, int) else None
