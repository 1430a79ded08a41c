"""slurmrestd as it looks from outside: v0.0.38 (22.05) or later, with faults on demand.

Jobs are run as ``FakeRay`` runs them, with an environment of their own.
"""

import re
from typing import Any

from tests.launchers.fake_ray import ENDS, FakeRay, Job, Node

USER = "llm"
STATES = {"STOPPED": "CANCELLED", "SUCCEEDED": "COMPLETED"}
TAKEN = {
    **dict.fromkeys(("name", "comment", "partition", "account", "dependency", "constraints"), str),
    **dict.fromkeys(("standard_output", "standard_error", "current_working_directory"), str),
    **dict.fromkeys(("tasks", "cpus_per_task"), int),
    "requeue": bool,
}
"""The types of fields of a submission, as the specifications of all versions have them."""
TAKEN_FLAT = {**TAKEN, "environment": dict, "memory_per_node": int, "gres": str}
TAKEN_STRUCTURED = {
    **TAKEN,
    **dict.fromkeys(("script", "tres_per_node"), str),
    **dict.fromkeys(("environment", "excluded_nodes"), list),
    "memory_per_node": dict,
}


class FakeSlurm(FakeRay):
    """A controller at ``url``, with two nodes of two GPUs each."""

    user = USER

    def __init__(self, version: int = 38) -> None:
        self.version = version
        self.ends: dict[str, str] = {}
        """States in which jobs end instead, by name."""
        super().__init__()

    def hold(self) -> None:
        """Give no job a node, until ``close``."""
        self.is_stuck = True

    @property
    def is_structured(self) -> bool:
        return self.version >= 39

    def _environment(self, env: dict[str, str]) -> dict[str, str]:
        return env

    def _refuses(self, environ: dict[str, Any]) -> tuple[int, Any] | None:
        given = environ.get("HTTP_X_SLURM_USER_NAME"), environ.get("HTTP_X_SLURM_USER_TOKEN")
        return None if given == (USER, self.token) else self._error(-1, "Unspecified error")

    def _route(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        base = f"/slurm/v0.0.{self.version}/"
        if path == "/openapi/v3":
            return 200, {"paths": {f"{base}ping": {}, "/slurm/v0.0.37/ping": {}}}
        what, _, name = path.removeprefix(base).partition("/")
        if what == "ping":
            return 200, {"meta": self._meta(), "errors": [], "pings": [{"ping": "UP"}]}
        if what in ("nodes", "node"):
            return 200, {"nodes": [self._node(n) for n in self.nodes if name in ("", n.id)]}
        return self._take(body) if name == "submit" else self._about_jobs(method, name)

    def _about_jobs(self, method: str, number: str) -> tuple[int, Any]:
        jobs = [job for job in self.jobs.values() if number in ("", str(job.body["number"]))]
        if not jobs and number:
            return self._error(2017, "Invalid job id specified")
        if method == "DELETE":
            self._cancel(jobs[0])
        return 200, {"errors": [], "jobs": [self._document(job) for job in jobs]}

    def _cancel(self, job: Job) -> None:
        if job.status == "PENDING":
            self._end(job, "STOPPED", None, None)
        else:
            self._tasks.spawn(self._stop, job)

    def _take(self, body: dict[str, Any]) -> tuple[int, Any]:
        job = body["job"]
        taken = TAKEN_STRUCTURED if self.is_structured else TAKEN_FLAT
        for name, value in job.items():
            if type(value) is not taken.get(name):
                return self._error(9000, f"{name} is not in the specification: {value!r}")
        gres = job.get("tres_per_node" if self.is_structured else "gres", "")
        gpus = sum(map(int, re.findall(r"gpu:(\d+)", gres)))
        if gpus > 2:
            return self._error(2014, "Requested node configuration is not available")
        env = job["environment"]
        if self.is_structured:
            env = dict(each.split("=", 1) for each in env)
        script = job["script"] if self.is_structured else body["script"]
        if job["standard_output"] != "/dev/null":
            script = f"exec >>{job['standard_output']} 2>&1\n{script}"
        number = len(self.jobs) + 1
        env = {**env, "SLURM_JOB_ID": str(number)}
        ray = {"submission_id": job["name"], "number": number, "job": job, "entrypoint": script}
        ray |= {"entrypoint_num_gpus": gpus, "runtime_env": {"env_vars": env}}
        status, _ = self._submit(ray)
        return status, {"errors": [], "job_id": number}

    def _document(self, job: Job) -> dict[str, Any]:
        state = STATES.get(job.status, job.status)
        if job.status in ENDS:
            state = self.ends.get(job.id, state)
        code = job.code or 0
        return {
            "job_id": job.body["number"],
            "name": job.id,
            "comment": job.body["job"]["comment"],
            "job_state": [state] if self.version >= 40 else state,
            "state_reason": "Resources" if state == "PENDING" else "None",
            "nodes": job.node.id if job.node is not None else "",
            "exit_code": self._exit_code(code),
        }

    def _exit_code(self, code: int) -> Any:
        if self.version >= 40:
            return structured(code)
        status = code << 8
        number = {"set": True, "infinite": False, "number": status}
        return number if self.is_structured else status

    def _node(self, node: Node) -> dict[str, Any]:
        state = "down" if node.is_lost else "idle"
        return {
            "name": node.id,
            "address": node.host,
            "state": [state.upper()] if self.is_structured else state,
            "gres": f"gpu:{node.gpus:.0f}",
            "gres_used": f"gpu:{node.gpus - node.free:.0f}(IDX:0)",
            "active_features": ["z1", "h100"] if self.is_structured else "z1,h100",
        }

    def _meta(self) -> dict[str, Any]:
        version: dict[str, Any] = {"major": 22, "minor": 5, "micro": 8}
        if self.version >= 40:
            version = {name: str(number) for name, number in version.items()}
        name = "slurm" if self.version >= 40 else "Slurm"
        return {name: {"release": "22.05.8", "version": version}}

    def _error(self, number: int, text: str) -> tuple[int, Any]:
        return 500, {"meta": self._meta(), "errors": [{"error": text, "error_number": number}]}


def structured(code: int) -> dict[str, Any]:
    return {
        "status": ["SUCCESS" if not code else "ERROR"],
        "return_code": {"set": True, "infinite": False, "number": code},
        "signal": {"id": {"set": False, "infinite": False, "number": 0}, "name": ""},
    }
