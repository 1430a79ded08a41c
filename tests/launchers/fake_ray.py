"""Ray's dashboard as its Jobs API looks from outside (2.60), with faults on demand.

It runs the entrypoints of jobs as processes of this machine, on pretended nodes.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

import gevent
from gevent import socket, subprocess
from gevent.event import Event
from gevent.pool import Group, Pool
from gevent.pywsgi import WSGIServer

ENDS = ("STOPPED", "SUCCEEDED", "FAILED")
TOKEN = "t0ken"
Fault = Callable[[], "tuple[int, Any] | None"]


@dataclass
class Node:
    id: str
    host: str
    gpus: float = 2
    jobs: list["Job"] = field(default_factory=list)
    is_lost: bool = False

    @property
    def free(self) -> float:
        return self.gpus - sum(job.gpus for job in self.jobs)


class Job:
    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.id = body["submission_id"]
        self.gpus = body.get("entrypoint_num_gpus", 0)
        self.status = "PENDING"
        self.code: int | None = None
        self.error: str | None = None
        self.node: Node | None = None
        self.log = b""
        self.stop_wanted = False
        self.popen: Any = None

    def document(self) -> dict[str, Any]:
        is_placed = self.node is not None
        return {
            "type": "SUBMISSION",
            "submission_id": self.id,
            "status": self.status,
            "message": f"Job is {self.status}",
            "error_type": self.error,
            "metadata": self.body.get("metadata"),
            "runtime_env": self.body.get("runtime_env"),
            "driver_agent_http_address": f"http://{self.node.host}:-1" if is_placed else None,
            "driver_node_id": self.node.id if is_placed else None,
            "driver_exit_code": self.code,
        }


class FakeRay:
    """A head at ``url``, with two nodes of two GPUs each."""

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.nodes = [Node("node-1", "127.0.0.1"), Node("node-2", "127.0.0.2")]
        self.jobs: dict[str, Job] = {}
        self.faults: dict[tuple[str, str], list[Fault]] = {}
        """Replies instead of the next ones, by method and the end of the path."""
        self.is_stuck = False
        """Whether no job gets a node."""
        self.is_slow = False
        """Whether jobs that get a node do not begin until ``begin_jobs``."""
        self.notices = Event()
        """Clear while it does not notice that jobs have ended."""
        self.notices.set()
        self.losing_replies = 0
        """How many submissions take effect without a reply that says so."""
        self.calls: list[str] = []
        self._tasks = Group()
        self._server = self._serving(0)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _serving(self, port: int) -> WSGIServer:
        listener = socket.create_server(("127.0.0.1", port))
        # Replies are written in two pieces: the second one must not wait for a delayed ACK.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = WSGIServer(listener, self._answer, log=None, spawn=Pool())
        server.start()
        return server

    # --- what tests do to it -----------------------------------------------------------------

    def fail(self, method: str, path: str, *replies: tuple[int, Any]) -> None:
        self.faults[method, path] = [lambda reply=reply: reply for reply in replies]

    def begin_jobs(self) -> None:
        """Run the jobs that have a node and have not begun."""
        self.is_slow = False
        for job in self.jobs.values():
            if job.status == "PENDING" and job.node is not None:
                self._run(job)

    def go_down(self) -> None:
        self._server.stop(timeout=0)

    def come_back(self) -> None:
        self._server = self._serving(int(self.url.rpartition(":")[2]))

    def lose(self, node: Node) -> None:
        """Kill all on *node*, of which the head hears nothing."""
        node.is_lost = True
        for job in node.jobs:
            job.popen.poll()
            self._kill(job)

    def declare_dead(self, node: Node) -> None:
        for job in list(node.jobs):
            self._end(job, "FAILED", None, "JOB_SUPERVISOR_ACTOR_DIED")

    def close(self) -> None:
        for job in self.jobs.values():
            self._kill(job)
        self._server.stop(timeout=0)
        self._tasks.join(timeout=1)
        self._tasks.kill()

    def _kill(self, job: Job) -> None:
        if job.popen is not None and job.popen.poll() is None:
            os.killpg(job.popen.pid, signal.SIGKILL)

    # --- scheduling ---------------------------------------------------------------------------

    def _schedule(self) -> None:
        for job in self.jobs.values():
            if job.status == "PENDING" and job.node is None and not self.is_stuck:
                selector = job.body.get("entrypoint_label_selector") or {}
                avoided = selector.get("ray.io/node-id", "")
                for node in self.nodes:
                    if not node.is_lost and node.free >= job.gpus and node.id not in avoided:
                        job.node = node
                        node.jobs.append(job)
                        if not self.is_slow:
                            self._run(job)
                        break

    def _run(self, job: Job) -> None:
        job.status = "RUNNING"
        env = (job.body.get("runtime_env") or {}).get("env_vars", {})
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True}
        command = ["/bin/sh", "-c", job.body["entrypoint"]]
        job.popen = subprocess.Popen(command, env=self._environment(env), **more)
        job.log += b"2026-11-30 INFO job_manager.py:581 -- Runtime env is setting up.\n"
        self._tasks.spawn(self._watch, job)
        if job.stop_wanted:
            self._tasks.spawn(self._stop, job)

    def _environment(self, env: dict[str, str]) -> dict[str, str]:
        """The environment of a job that asks for *env*."""
        return {**os.environ, "RAY_AUTH_TOKEN": self.token, **env}

    def _watch(self, job: Job) -> None:
        while data := os.read(job.popen.stdout.fileno(), 65536) if self._has_output(job) else b"":
            job.log += data
        code = job.popen.wait()
        self.notices.wait()
        if job.node is not None and not job.node.is_lost:
            stopped = job.stop_wanted
            status = "STOPPED" if stopped else "FAILED" if code else "SUCCEEDED"
            self._end(job, status, None if stopped else code, None)

    def _has_output(self, job: Job) -> bool:
        socket.wait_read(job.popen.stdout.fileno())
        return True

    def _end(self, job: Job, status: str, code: int | None, error: str | None) -> None:
        if job.status not in ENDS:
            job.status, job.code, job.error = status, code, error
            if job.node is not None:
                job.node.jobs.remove(job)
            self._schedule()

    def _stop(self, job: Job) -> None:
        job.stop_wanted = True
        if job.status != "RUNNING" or job.popen.poll() is not None:
            return
        os.kill(job.popen.pid, signal.SIGTERM)
        wait = float(job.body["runtime_env"]["env_vars"].get("RAY_JOB_STOP_WAIT_TIME_S", 3))
        deadline = time.monotonic() + wait
        while job.popen.poll() is None and time.monotonic() < deadline:
            gevent.sleep(0.02)
        self._kill(job)

    # --- HTTP ---------------------------------------------------------------------------------

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Any:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.calls.append(f"{method} {path}")
        refusal = self._refuses(environ)
        if refusal is not None:
            return self._send(start_response, *refusal)
        for (wanted, end), faults in self.faults.items():
            if method == wanted and path.endswith(end) and faults:
                reply = faults.pop(0)()
                if reply is not None:
                    return self._send(start_response, *reply)
        if path == "/api/v0/logs/stream":
            query = parse_qs(environ["QUERY_STRING"])
            job = self.jobs.get(query["submission_id"][0])
            if job is None:
                return self._send(start_response, 500, "no driver node id info")
            start_response("200 OK", [("Content-Type", "text/plain")])
            return self._stream(job)
        body = environ["wsgi.input"].read()
        status, data = self._route(method, path, json.loads(body) if body else {})
        return self._send(start_response, status, data)

    def _refuses(self, environ: dict[str, Any]) -> tuple[int, Any] | None:
        given = environ.get("HTTP_AUTHORIZATION")
        if not self.token or given == f"Bearer {self.token}":
            return None
        return 403 if given else 401, "Unauthorized"

    def _send(self, start_response: Any, status: int, data: Any) -> list[bytes]:
        reason = HTTPStatus(status).phrase
        start_response(f"{status} {reason}", [("Content-Type", "application/json")])
        return [(data if isinstance(data, str) else json.dumps(data)).encode()]

    def _stream(self, job: Job) -> Iterator[bytes]:
        sent = 0
        while True:  # it does not end with the job
            if len(job.log) > sent:
                data, sent = job.log[sent:], len(job.log)
                yield data
            gevent.sleep(0.02)

    def _route(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/api/version":
            return 200, {"version": "4", "ray_version": "2.60.0"}
        if path == "/api/cluster_status":
            return 200, self._cluster_status()
        name, _, action = path.removeprefix("/api/jobs/").partition("/")
        if not name:
            return self._submit(body) if method == "POST" else (200, self._list())
        job = self.jobs.get(name)
        return self._act(method, action, job) if job else (404, f"Job {name} does not exist")

    def _act(self, method: str, action: str, job: Job) -> tuple[int, Any]:
        if action == "stop":
            self._tasks.spawn(self._stop, job)
            return 200, {"stopped": True}
        if method == "DELETE":
            if job.status not in ENDS:
                return 500, "Attempted to delete job, but it is in a non-terminal state"
            del self.jobs[job.id]
            return 200, {"deleted": True}
        return 200, job.document()

    def _cluster_status(self) -> dict[str, Any]:
        usage = {
            node.id: {
                f"node:{node.host}": [0, 1],
                "GPU": [node.gpus - node.free, node.gpus],
                "node:InternalHead": [0, 1],
            }
            for node in self.nodes
        }
        demand = [
            [{"GPU": float(job.gpus)}, 1]
            for job in self.jobs.values()
            if job.status == "PENDING" and job.node is None
        ]
        report = {"loadMetricsReport": {"usageByNode": usage, "resourceDemand": demand}}
        return {"result": True, "data": {"clusterStatus": report}}

    def _list(self) -> list[dict[str, Any]]:
        return [job.document() for job in self.jobs.values()]

    def _submit(self, body: dict[str, Any]) -> tuple[int, Any]:
        if body["submission_id"] in self.jobs:
            return 500, f"Job with submission_id {body['submission_id']} already exists."
        job = self.jobs[body["submission_id"]] = Job(body)
        if job.gpus > 1 and job.gpus != int(job.gpus):
            self._end(job, "FAILED", None, "JOB_SUPERVISOR_ACTOR_START_FAILURE")
        self._schedule()
        if self.losing_replies:
            self.losing_replies -= 1
            return 503, "gone"
        return 200, {"submission_id": job.id}
