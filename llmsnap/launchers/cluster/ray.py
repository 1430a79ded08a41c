"""Ray, by the REST interface of its dashboard: the Jobs API, its logs and its nodes.

Ray cannot cancel a job that waits: a stop of one is answered with success and has no effect. The
deadline of the runner ends such a job when it is run after all. The calls for jobs are documented;
those for output and nodes are the dashboard's own, and were tested with Ray 2.60.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from llmsnap.config import LauncherConfig
from llmsnap.errors import EngineDown, Rejected
from llmsnap.launchers.base import NodeView
from llmsnap.launchers.cluster.engine import JobPhase, JobRequest, JobView
from llmsnap.launchers.cluster.rest import Answer, RestClient

JOBS = "/api/jobs/"
PHASES = {"PENDING": JobPhase.PENDING, "RUNNING": JobPhase.RUNNING}
"""All other states of Ray are ends."""
LOST = frozenset(
    {
        "JOB_SUPERVISOR_ACTOR_DIED",
        "JOB_SUPERVISOR_ACTOR_START_TIMEOUT",
        "JOB_SUPERVISOR_ACTOR_UNSCHEDULABLE",
    }
)
"""Types of errors of jobs that another machine may run."""
SUBMIT_LIMIT_S = 30.0
"""A client that leaves during a submission can leave a job that never starts (ray #62766)."""
KILL_SLACK_S = 3
"""What the runner gets beyond the grace, before Ray kills it."""
INTERVAL_S = 0.05
"""Seconds between two looks of Ray at the output of a job, which says when all of it has ended."""
VERSION_LIMIT_S = 3.0


class RayEngine:
    """An ``Engine`` for Ray; see there."""

    notices_late = True  # it looks ten times a second, and frees what a job had after that

    def __init__(self, settings: LauncherConfig) -> None:
        self._name = settings.id
        self._rest = RestClient(f"Ray ({settings.id})", settings.address, {})
        self.use_token(settings.token)

    def __repr__(self) -> str:
        return f"<RayEngine {self._name}>"

    def use_token(self, token: str) -> None:
        """See Engine.use_token."""
        self._rest.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def submit(self, request: JobRequest) -> None:
        """See Engine.submit."""
        answer = self._rest.call("POST", JOBS, body_of(request), limit_s=SUBMIT_LIMIT_S)
        if answer.is_ok or self.look(request.id).phase is not JobPhase.UNKNOWN:
            return
        if answer.status < 500:
            raise Rejected("Ray refuses the job", detail=f": {answer}")
        raise EngineDown("Ray did not take the job", detail=f": {answer}")

    def look(self, job_id: str) -> JobView:
        """See Engine.look."""
        answer = self._rest.call("GET", JOBS + quote(job_id))
        if answer.status == 404:
            self.version()  # a gateway that does not reach Ray may say 404 as well
            return JobView(job_id, JobPhase.UNKNOWN)
        view = self._rest.read(view_of, self._checked(answer, dict))
        if view.id != job_id:
            raise EngineDown(f"Ray ({self._name}) gives no usable reply", detail=f": {answer}")
        return view

    def cancel(self, job_id: str) -> None:
        """See Engine.cancel. A job that waits is not cancelled."""
        self._rest.call("POST", f"{JOBS}{quote(job_id)}/stop")

    def forget(self, job_id: str) -> None:
        """See Engine.forget. Ray keeps the log file on the node."""
        self._rest.call("DELETE", JOBS + quote(job_id))

    def jobs(self, owner: str) -> list[JobView]:
        """See Engine.jobs."""
        entries = self._checked(self._rest.call("GET", JOBS), list)
        ours = [
            self._rest.read(view_of, entry)
            for entry in entries
            if isinstance(entry, dict) and _below(entry, "metadata").get("owner") == owner
        ]
        return [job for job in ours if job.phase is not JobPhase.ENDED]

    def output(self, job: JobView, skip: int) -> Iterator[bytes]:
        """See Engine.output."""
        wanted = {
            "node_id": job.node_id,
            "submission_id": job.id,
            "interval": INTERVAL_S,
            "lines": -1,
        }
        for piece in self._rest.stream(f"/api/v0/logs/stream?{urlencode(wanted)}"):
            if len(piece) > skip:
                yield piece[skip:]
            skip = max(0, skip - len(piece))

    def is_unplaced(self, request: JobRequest) -> bool:
        """See Engine.is_unplaced. Of jobs that ask for as many GPUs, it does not tell which.

        Ray lists a demand up to 5 seconds late.
        """
        demands = self._load_report().get("resourceDemand")
        if not isinstance(demands, list):
            return True
        wanted = float(request.resources.gpus or 0)
        shapes = [demand[0] for demand in demands if isinstance(demand, list) and demand]
        return any(isinstance(shape, dict) and shape.get("GPU") == wanted for shape in shapes)

    def nodes(self) -> list[NodeView]:
        """See Engine.nodes."""
        usage = _below(self._load_report(), "usageByNode")
        return [
            self._rest.read(partial(node_of, name), resources)
            for name, resources in sorted(usage.items())
        ]

    def _load_report(self) -> dict[str, Any]:
        report = self._checked(self._rest.call("GET", "/api/cluster_status"), dict)
        return _below(report, "data", "clusterStatus", "loadMetricsReport")

    def version(self) -> str:
        """See Engine.version."""
        answer = self._rest.call("GET", "/api/version", limit_s=VERSION_LIMIT_S)
        return f"Ray {self._checked(answer, dict).get('ray_version', '?')}"

    def close(self) -> None:
        """Close its connections."""
        self._rest.close()

    def _checked(self, answer: Answer, kind: type) -> Any:
        if answer.is_ok and isinstance(answer.data, kind):
            return answer.data
        raise EngineDown(f"Ray ({self._name}) gives no usable reply", detail=f": {answer}")


def body_of(request: JobRequest) -> dict[str, Any]:
    """Return the body of a submission."""
    wants = request.resources
    stop = {"RAY_JOB_STOP_WAIT_TIME_S": str(int(request.grace_s) + KILL_SLACK_S)}
    labels = {**wants.labels, **_without(request.avoid)}
    body: dict[str, Any] = {
        "entrypoint": request.command,
        "submission_id": request.id,
        "metadata": {"owner": request.owner, **request.metadata},
        "runtime_env": {"env_vars": {**request.env, **stop}},
        "entrypoint_num_cpus": wants.cpus or None,
        "entrypoint_num_gpus": wants.gpus or None,
        "entrypoint_memory": wants.ram_bytes or None,
        "entrypoint_resources": dict(wants.custom) or None,
        "entrypoint_label_selector": labels or None,
    }
    return {name: value for name, value in body.items() if value is not None}


def _without(nodes: tuple[str, ...]) -> dict[str, str]:
    """Return the label selector that leaves out *nodes*."""
    if not nodes:
        return {}
    return {"ray.io/node-id": f"!{nodes[0]}" if len(nodes) == 1 else f"!in({','.join(nodes)})"}


def view_of(entry: dict[str, Any]) -> JobView:
    """Return a job from its entry in a reply. Raises: as ``RestClient.read`` expects."""
    status = str(entry["status"])
    agent = urlsplit(entry.get("driver_agent_http_address") or "")
    code = entry.get("driver_exit_code")
    kind, message = entry.get("error_type"), entry.get("message") or ""
    return JobView(
        id=str(entry.get("submission_id")),
        phase=PHASES.get(status, JobPhase.ENDED),
        host=agent.hostname or "",
        node=agent.hostname or "",
        node_id=entry.get("driver_node_id") or "",
        code=code if isinstance(code, int) else None,
        reason=f"{status}: {kind or ' '.join(message.split())[:300]}".strip(": "),
        was_stopped=status == "STOPPED",
        is_lost=kind in LOST,
        metadata={str(name): str(value) for name, value in (entry.get("metadata") or {}).items()},
    )


def node_of(name: str, resources: dict[str, Any]) -> NodeView:
    """Return a machine from its resources, each a pair of what is used and what there is."""
    used, total = (*resources.get("GPU", ()), 0.0, 0.0)[:2]
    named = [each for each in resources if each.startswith("node:") and each[5:6].isdigit()]
    address = named[0] if named else ""
    return NodeView(address.removeprefix("node:") or name, float(total), float(total) - float(used))


def _below(data: dict[str, Any], *names: str) -> dict[str, Any]:
    found: Any = data
    for name in names:
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}
