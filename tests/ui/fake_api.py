"""A server with a made-up, well-filled world behind the real user interface.

For pictures and for cases a real server does not show on demand: thousands of records, names that
try to be markup, errors of a rejected configuration. ``python -m tests.ui.fake_api --port 18900``
"""

import argparse
import base64
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import gevent
import gevent.queue
from flask import Blueprint, Flask, Response, abort, g, jsonify, request, stream_with_context
from flask.typing import ResponseReturnValue
from flask_sock import Sock
from gevent.pywsgi import WSGIServer
from msgspec import structs
from simple_websocket import Server

from llmsnap.config import loads
from llmsnap.routing import said_of_request
from llmsnap.telemetry import EventBus, Telemetry
from llmsnap.web import admin_api, ui
from llmsnap.web.gateway import SERVICE
from tests.ui import made_up, made_up_memory


class MadeUpTelemetry(Telemetry):
    """Records of an hour, and some more that are no longer in memory."""

    def count(self, wanted: object = None) -> int:
        return 42_193


class World:
    """Everything the fake server says."""

    def __init__(self, seed: int = 7) -> None:
        rng = random.Random(seed)
        self.began = time.time()
        now_ms = int(self.began * 1000)
        self.models = [dict(each) for each in made_up.MODELS]
        self.readers: list[gevent.queue.Queue[str]] = []
        self.calls: list[str] = []
        self.profile: str | None = None
        self.cancelled: set[int] = set()
        self.answer = "An answer."
        self.frames: list[dict[str, Any]] = []
        self.sockets = True
        self.budget = True
        self.only_simulated = False
        self.version = "1.4.0"
        self.peer_outcome = {"status": 200, "reason": ""}
        self.bodies: list[Any] = []
        self.telemetry = MadeUpTelemetry(loads("models: {}", environ={}), EventBus(), dict)
        made_up.history(self.telemetry, rng, self.began)
        self.telemetry.activity.restore(
            made_up.record(number, rng, now_ms, self.telemetry.states) for number in range(260)
        )
        samples = (made_up.sample(number, rng, now_ms) for number in range(700))
        self.telemetry.performance._samples.extend(samples)
        proxy_log = "".join(
            f"2026-02-03T14:{i // 60:02}:{i % 60:02}Z "
            f"\x1b[32mINFO\x1b[0m <qwen3-30b-a3b> request {i} took {rng.randint(90, 9000)} ms\n"
            for i in range(400)
        )
        upstream_log = (
            "".join(
                f"slot update_slots: id {i % 4} | task {i} | prompt processing, "
                f"n_tokens = {rng.randint(1, 4000)}\n"
                for i in range(600)
            )
            + f"warning: {made_up.HOSTILE}\n"
        )
        self.logs = {"proxy": proxy_log, "upstream": upstream_log}
        lines = [match.start() for match in re.finditer("^.", upstream_log, re.MULTILINE)]
        writers = ("qwen3-30b-a3b", "bge-m3", "gpt-oss-120b")
        self.marks = [
            [at, writers[number // 4 % 3], now_ms - (len(lines) - number) * 1000]
            for number, at in enumerate(lines)
        ]

    def finish(self) -> None:
        """Let one more request end."""
        activity = self.telemetry.activity
        last = activity.snapshot()[-1]
        activity.append(structs.replace(last, id=activity.take_id(), ended_ns=time.time_ns()))
        self.tell("activity", {"id": activity.next_id - 1})

    def tame(self) -> None:
        """Leave out what only tests want to see."""
        self.models = [each for each in self.models if each["id"] != "hostile"]
        self.logs["upstream"] = self.logs["upstream"].replace(f"warning: {made_up.HOSTILE}\n", "")

    def tell(self, kind: str, data: Any) -> None:
        for reader in self.readers:
            reader.put(frame(kind, data))

    def renew(self) -> None:
        """Be as at the start again; open connections stay."""
        vars(self).update(vars(World()) | {"readers": self.readers})

    def state(self, model_id: str) -> str:
        return next((each["state"] for each in self.models if each["id"] == model_id), "")

    def set_state(self, model_id: str, state: str) -> None:
        for each in self.models:
            if each["id"] == model_id:
                each["state"] = state
        self.tell("modelStatus", {"processName": model_id, "newState": state})

    def reload(self) -> None:
        self.tell("configReload", {"phase": "end"})


def frame(kind: str, data: Any) -> str:
    return json.dumps({"event": kind, "data": data})


world = World()
bp = Blueprint("fake", __name__)
sock = Sock()


@bp.before_app_request
def note_call() -> None:
    request.environ[SERVICE] = SimpleNamespace(
        telemetry=world.telemetry, records=world.telemetry.activity.snapshot, in_flight=tuple
    )
    if request.path == "/api/ws":
        if not world.sockets:
            abort(403)
        # Before the page can know that it is connected, so that it misses nothing from then on.
        g.reader = gevent.queue.Queue()
        world.readers.append(g.reader)
    if request.method != "GET":
        world.calls.append(f"{request.method} {request.path}")


@bp.teardown_request
def forget_reader(_error: BaseException | None) -> None:
    if "reader" in g:
        world.readers.remove(g.reader)


@sock.route("/api/ws", bp=bp)
def events(connection: Server) -> None:
    busy = made_up.in_flight(world.cancelled)
    connection.send(frame("inFlight", {"models": [], "total": len(busy), "requests": busy}))
    while connection.connected:
        with suppress(gevent.queue.Empty):
            connection.send(g.reader.get(timeout=1))


@bp.get("/api/events")
def events_over_http() -> Response:
    reader: gevent.queue.Queue[str] = gevent.queue.Queue()
    world.readers.append(reader)

    def frames() -> Iterator[str]:
        try:
            yield ":\n\n"
            while True:
                told = json.loads(reader.get())
                yield f"event:{told['event']}\ndata:{json.dumps(told['data'])}\n\n"
        finally:
            world.readers.remove(reader)

    return Response(frames(), mimetype="text/event-stream")


def running() -> dict[str, Any]:
    loading = [each["id"] for each in world.models if each["state"] in {"starting", "waking"}]
    return {"running": [{"model": name, "load": made_up.LOAD} for name in loading]}


def overview() -> dict[str, Any]:
    last = {"ended_ms": world.began * 1000, **world.peer_outcome}
    local = [made_up.fare(each) for each in world.models if not each["peerID"]]
    return {"models": local, "groups": made_up.GROUPS, "peers": [{"id": "office", "last": last}]}


def version() -> dict[str, str]:
    commit = f"abcd1234{world.version.replace('.', '')}"
    return {"version": world.version, "commit": commit, "build_date": "2026-02-01"}


def config_status() -> dict[str, Any]:
    told = {"errors": made_up.ERRORS, "advice": made_up.ADVICE, "hash": "9f2c" * 16}
    return {**SOURCE, **told, "loaded_at": world.began, "only_simulated": world.only_simulated}


def memory() -> dict[str, Any]:
    if world.budget:
        return made_up_memory.memory(world.models)
    return {"mode": "group", "devices": [], "models": [], "nodes": made_up_memory.NODES}


SOURCE = {"source": "/etc/llmsnap.yaml"}
PROFILES = [{"id": name, "description": "", "pins": {}} for name in ("away", "work")]
ANSWERS: dict[str, Callable[[], Any]] = {
    "/api/models": lambda: {"models": world.models},
    "/api/selectors": lambda: {"selectors": made_up.SELECTORS},
    "/api/profiles": lambda: {"active": world.profile, "profiles": PROFILES},
    "/api/overview": overview,
    "/running": running,
    "/session": lambda: {"required": False, "key": None, "admin": True},
    "/api/version": version,
    "/api/config/status": config_status,
    "/api/config/plan": lambda: {"errors": made_up.ERRORS, "changes": None},
    "/api/config/file": lambda: {**SOURCE, "text": made_up.CONFIG, "reason": ""},
    "/api/inflight": lambda: {"requests": made_up.in_flight(world.cancelled)},
    "/api/memory": memory,
    "/api/timeline": lambda: {
        "states": {one["id"]: world.telemetry.states.bars(one["id"]) for one in made_up.MODELS}
    },
    "/api/hardware": lambda: made_up.HARDWARE,
}
for address, told in ANSWERS.items():
    bp.add_url_rule(address, address.replace("/", "_"), told)


@bp.put("/api/profiles/active")
def activate_profile() -> Response:
    world.profile = json.loads(request.data)["name"]
    return jsonify(active=world.profile)


@bp.post("/api/models/<action>/<path:name>")
def act(action: str, name: str) -> tuple[str, int] | str:
    if name == "bge-reranker" and action == "unload":
        return jsonify(error={"message": "bge-reranker: cmdStop ran into its time limit"}), 502  # type: ignore[return-value]
    if name == "hostile" and action == "load":
        why = f"hostile does not fit: {made_up_memory.NEVER}"
        return jsonify(error={"message": why, "code": "model_does_not_fit"}), 503  # type: ignore[return-value]
    moves = {"load": ["starting", "ready"], "unload": ["stopped"], "sleep": ["asleep"]}
    for state in moves[action]:
        world.set_state(name, state)
    return "OK"


@bp.post("/api/models/unload")
def act_all() -> Response:
    for each in world.models:
        if not each["peerID"]:
            each["state"] = "stopped"
    world.reload()
    return jsonify(msg="ok")


@bp.get("/logs/stream/<path:name>")
def log_stream(name: str) -> Response:
    own = "".join(f"{name}: line {number} of its own log\n" for number in range(80))
    text = lambda: world.logs.get(name, own)  # noqa: E731

    def frames() -> Iterator[str]:
        at, marks = int(request.headers.get("Last-Event-ID", "0")), world.marks
        while True:
            if fresh := text()[at:]:
                told = {"text": fresh, "marks": [] if at or name != "upstream" else marks}
                at += len(fresh)
                yield f"id:{at}\ndata:{json.dumps(told)}\n\n"
            yield ":\n\n"
            gevent.sleep(0.05)

    return Response(stream_with_context(frames()), mimetype="text/event-stream")


@bp.post("/api/inflight/<int:number>/cancel")
def cancel(number: int) -> Response:
    world.cancelled.add(number)
    return jsonify(msg="ok")


@bp.get("/api/requests/<name>")
def one_request(name: str) -> ResponseReturnValue:
    for one in made_up.in_flight(world.cancelled):
        if one["request_id"] == name:
            return jsonify(request=one, swap=None, sentences=[*said_of_request(one, None)])
    return admin_api.one_request(name)


@bp.get("/api/plan")
def plan() -> Response:
    name = request.args["model"]
    world.calls.append(f"PLAN {name}")
    state = next(each["state"] for each in world.models if each["id"] == name)
    return jsonify(made_up_memory.plan(name, state))


@bp.post("/v1/<path:path>")
def answer(path: str) -> Response:
    world.bodies.append(request.get_json())
    while world.state(world.bodies[-1].get("model")) == "starting":
        gevent.sleep(0.05)
    told = [f"data: {json.dumps(frame)}\n\n" for frame in world.frames]
    world.frames = []
    words = re.findall(r"\S+\s*", world.answer)
    whole = [*map(chat_frame, words), "data: [DONE]\n\n"]
    return Response(told or whole, mimetype="text/event-stream")


@bp.post("/fake/<any(renew,finish):what>")
def act_on_world(what: str) -> str:
    getattr(world, what)()
    return "OK"


@bp.post("/fake/set")
def set_some() -> str:
    """Set attributes of the world; "frames" answer the next request, with no [DONE]."""
    vars(world).update(json.loads(request.data))
    return "OK"


@bp.get("/fake/<any(bodies,calls,profile):name>")
def get_one(name: str) -> Response:
    return jsonify(vars(world)[name])


@bp.post("/fake/models/<any(none,all,many):which>")
def set_models(which: str) -> str:
    lists = {"none": [], "all": made_up.MODELS, "many": made_up.MANY}
    world.models = [dict(each) for each in lists[which]]
    world.reload()
    return "OK"


@bp.post("/fake/log")
def log() -> str:
    world.logs[request.args.get("source", "upstream")] += request.get_data(as_text=True)
    return "OK"


def chat_frame(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"


@bp.get("/api/captures/<int:number>")
def capture(number: int) -> Response:
    messages = [{"role": "user", "content": "Why is the sky blue?"}]
    body = {"model": "qwen3-30b-a3b", "stream": True, "messages": messages}
    words = [
        *re.findall(r"\S+ ", "Because air scatters blue light more than red. "),
        made_up.HOSTILE,
    ]
    encode = lambda text: base64.b64encode(text.encode()).decode()  # noqa: E731
    return jsonify(
        id=number, req_path="/v1/chat/completions", method="POST", status=200,
        req_headers={"Content-Type": "application/json", "Authorization": "[REDACTED]"},
        req_body=encode(json.dumps(body)),
        resp_headers={"Content-Type": "text/event-stream"},
        resp_body=encode("".join(map(chat_frame, words)) + "data: [DONE]\n\n"),
    )  # fmt: skip


def create_app() -> Flask:
    app = Flask("fake", static_folder=None)
    app.register_blueprint(bp)
    app.register_blueprint(admin_api.bp)  # what is not made up
    app.register_blueprint(ui.bp)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tame", action="store_true", help="leave out what attacks the page")
    options = parser.parse_args()
    if options.tame:
        world.tame()
    WSGIServer(("127.0.0.1", options.port), create_app(), log=None).serve_forever()


if __name__ == "__main__":
    main()
