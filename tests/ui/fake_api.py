"""A server with a made-up, well-filled world behind the real user interface.

For pictures and for cases a real server does not show on demand: thousands of records, names that
try to be markup, errors of a rejected configuration. ``python -m tests.ui.fake_api --port 18900``
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import math
import random
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import gevent
import gevent.queue
from flask import Blueprint, Flask, Response, jsonify, request
from gevent.pywsgi import WSGIServer

from llmsnap.events import ActivityRecord
from llmsnap.metrics.stats import statistics
from llmsnap.web import ui

HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
IN_FLIGHT = [
    ("qwen3-30b-a3b", "streaming", 41_000, 180_000),
    ("qwen3-30b-a3b", "streaming", 3_200, 4_100),
    ("gpt-oss-120b", "loading", 5_200, 0),
]
CONFIG = """\
# What this machine serves.
logLevel: info
apiKeys: [••••••]

models:
  qwen3-30b-a3b:
    cmd: llama-server --port ${PORT} --model qwen3-30b-a3b.gguf
    aliases: [gpt-4o]
    ttl: ten minutes
  bge-m3:
    cmd: llama-server --port ${PORT} --model bge-m3.gguf --embeddings

groups:
  large:
    members: [qwen3-30b-a3b, gpt-oss-12b]
"""
ERRORS = [
    {
        "line": 9,
        "column": 10,
        "where": "models.qwen3-30b-a3b.ttl",
        "what": "'ten minutes' is no number",
        "fix": "give seconds, such as 600",
    },
    {
        "line": 15,
        "column": 30,
        "where": "groups.large.members",
        "what": "there is no model gpt-oss-12b",
        "fix": "did you mean gpt-oss-120b?",
    },
]
MOVES = {"start": 8.4, "wake": 0.4, "sleep": 0.9, "stop": 1.2}


def model(model_id: str, name: str = "", state: str = "stopped", **more: Any) -> dict[str, Any]:
    base = {"description": "", "unlisted": False, "sleepMode": "disable", "peerID": ""}
    return {"id": model_id, "name": name, "state": state, **base, **more}


MODELS = [
    model("qwen3-30b-a3b", "Qwen3 30B A3B", "ready", description="Everyday chat and tools"),
    model("gpt-oss-120b", "GPT-OSS 120B", "starting", description="Slow to load, good to have"),
    model("llama-3.3-70b", "Llama 3.3 70B", "stopped", description="Long documents"),
    model(
        "qwen3-coder", "Qwen3 Coder 30B", "asleep", sleepMode="enable", description="vLLM, sleeps"
    ),
    model("bge-m3", "BGE M3", "ready", description="Embeddings for the wiki"),
    model("bge-reranker", "BGE Reranker", "ready"),
    model("whisper-large", "Whisper large v3", "stopped", unlisted=True),
    model("hostile", HOSTILE, "stopped", unlisted=True, description=HOSTILE),
    model("claude-proxy/sonnet", state="", peerID="office"),
    model("deepseek-r1", state="", peerID="office"),
]
GROUPS = [
    {
        "id": "large",
        "swap": True,
        "exclusive": True,
        "persistent": False,
        "members": ["qwen3-30b-a3b", "gpt-oss-120b", "llama-3.3-70b", "qwen3-coder"],
    },
    {
        "id": "always-there",
        "swap": False,
        "exclusive": False,
        "persistent": True,
        "members": ["bge-m3", "bge-reranker"],
    },
    {
        "id": "(default)",
        "swap": True,
        "exclusive": True,
        "persistent": False,
        "members": ["whisper-large", "hostile"],
    },
]


def stats(seconds: float) -> dict[str, Any]:
    return {"count": 12, "last_s": seconds * 1.1, "p50_s": seconds, "p90_s": seconds * 1.6}


def record(number: int, rng: random.Random, now_ms: int) -> dict[str, Any]:
    """A finished request, most of them ordinary."""
    name = rng.choices(["qwen3-30b-a3b", "qwen3-coder", "bge-m3", "gpt-oss-120b"], [6, 3, 3, 1])[0]
    generates = name != "bge-m3"
    queue, load = rng.choice([0, 0, 0, 40, 900, 3100]), rng.choice([0, 0, 0, 0, 8200])
    tokens = rng.randint(20, 900) if generates else 0
    rate = rng.gauss(62 if name != "gpt-oss-120b" else 28, 6)
    prefill = rng.randint(40, 900)
    failed = number % 23 == 7
    duration = queue + load + prefill + (tokens / rate * 1000 if generates else 12)
    ended = now_ms - (260 - number) * 13_500
    return {
        "id": number,
        "request_id": f"7f3a-{number}",
        "swap_id": number // 9 if load else None,
        "started_ms": int(ended - duration),
        "ended_ms": ended,
        "requested": name,
        "model_id": name,
        "peer": None,
        "method": "POST",
        "path": "/v1/chat/completions" if generates else "/v1/embeddings",
        "key_name": rng.choice(["laptop", "wiki", None]),
        "status": 502 if failed else 200,
        "reason": f"{name}: exited with code 1 while loading; see its log" if failed else "",
        "stream": generates,
        "client_left": number % 31 == 5,
        "queue_ms": queue,
        "load_ms": load,
        "first_byte_ms": queue + load + prefill,
        "first_token_ms": queue + load + prefill if generates else None,
        "duration_ms": duration,
        "server_ms": None,
        "input_tokens": rng.randint(12, 6000),
        "output_tokens": None if failed else tokens,
        "cached_tokens": rng.choice([0, 512, None]),
        "draft_tokens": None,
        "draft_accepted": None,
        "prompt_per_second": rng.gauss(1400, 200),
        "tokens_per_second": rate if generates and not failed else None,
        "request_bytes": rng.randint(300, 20000),
        "response_bytes": tokens * 180,
        "has_capture": number > 150 or number == 3,
    }


def metric_of(one: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": one["id"],
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one["ended_ms"] / 1000)),
        "model": one["model_id"],
        "cache_tokens": -1 if one["cached_tokens"] is None else one["cached_tokens"],
        "input_tokens": one["input_tokens"],
        "output_tokens": one["output_tokens"] or 0,
        "prompt_per_second": one["prompt_per_second"],
        "tokens_per_second": one["tokens_per_second"] or -1,
        "duration_ms": int(one["duration_ms"]),
        "has_capture": one["has_capture"],
    }


def history(rng: random.Random, now_ms: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """An hour in which four large models take turns, and the small ones stay."""
    large = GROUPS[0]["members"]
    swaps: list[dict[str, Any]] = []
    states: dict[str, list[dict[str, Any]]] = {name: [] for name in large}
    at, here = now_ms - 3_600_000, large[0]
    states[here].append({"state": "ready", "from_ms": at - 1000, "to_ms": None})
    while at < now_ms - 400_000:
        at += rng.choice([90, 160, 240, 420]) * 1000
        target = rng.choice([name for name in large if name != here])
        load = rng.randint(4, 24) * 1000
        swaps.append(swap(len(swaps) + 1, here, target, at, load, rng))
        leave = "asleep" if here == "qwen3-coder" else "stopped"
        move(states[here], leave, at)
        move(states[target], "waking" if target == "qwen3-coder" else "starting", at + 900)
        failed = swaps[-1]["outcome"] != "done"
        move(states[target], "stopped" if failed else "ready", at + 900 + load)
        at, here = at + load, here if failed else target
        if failed:
            move(states[here], "ready", at)
    for name in ("bge-m3", "bge-reranker"):
        states[name] = [{"state": "ready", "from_ms": now_ms - 3_700_000, "to_ms": None}]
    return swaps, states


def move(bars: list[dict[str, Any]], state: str, at: int) -> None:
    if bars:
        bars[-1]["to_ms"] = at
    bars.append({"state": state, "from_ms": at, "to_ms": None})


def swap(
    number: int, source: str, target: str, at: int, load: int, rng: random.Random
) -> dict[str, Any]:
    failed = number == 5
    wait = rng.randint(0, 9000)
    error = f"{target}: exited with code 1 while loading; see its log" if failed else ""
    return {
        "id": number,
        "target": target,
        "kind": "start",
        "outcome": "failed" if failed else "done",
        "evicted": [source],
        "reason": "request",
        "error": error,
        "waiters": rng.randint(1, 4),
        "longest_wait_ms": wait + 900 + load,
        "started_ms": at,
        "ended_ms": at + 900 + load,
        "phases": [
            {"name": "wait", "ms": wait},
            {"name": "drain", "ms": rng.randint(0, 2000)},
            {"name": "evict", "ms": 900},
            {"name": "load", "ms": load},
        ],
    }


def sample(number: int, rng: random.Random, now_ms: int) -> dict[str, Any]:
    wave = math.sin(number / 40)
    return {
        "at_ms": now_ms - (700 - number) * 5000,
        "host": {
            "cpu_percent": 34 + 18 * wave + rng.random() * 6,
            "memory_used": int(61e9 + 4e9 * wave),
            "memory_total": int(137e9),
        },
        "processes": [
            {"model_id": "qwen3-30b-a3b", "rss_bytes": int(19.8e9), "cpu_percent": 160 + 40 * wave},
            {"model_id": "bge-m3", "rss_bytes": int(1.2e9), "cpu_percent": 12 + rng.random() * 9},
        ],
        "gpus": [
            {
                "index": index,
                "name": "RTX 4090",
                "utilization_percent": min(100, max(0, 55 + 40 * wave * (1 - 2 * index))),
                "memory_used": int((18 + 3 * wave * (1 - 2 * index)) * 2**30),
                "memory_total": 24 * 2**30,
                "temperature_c": 58 + 9 * wave * (1 - 2 * index),
                "power_w": 240 + 110 * wave * (1 - 2 * index),
            }
            for index in range(2)
        ],
    }


class World:
    """Everything the fake server says."""

    def __init__(self, seed: int = 7) -> None:
        rng = random.Random(seed)
        self.began = time.time()
        now_ms = int(self.began * 1000)
        self.models = [dict(each) for each in MODELS]
        self.records = [record(number, rng, now_ms) for number in range(260)]
        self.readers: list[gevent.queue.Queue[bytes]] = []
        self.calls: list[str] = []
        self.cancelled: set[int] = set()
        self.answer = "An answer."
        self.swaps, self.states = history(rng, now_ms)
        self.samples = [sample(number, rng, now_ms) for number in range(700)]
        self.proxy_log = "".join(
            f"2026-02-03T14:{i // 60:02}:{i % 60:02}Z "
            f"\x1b[32mINFO\x1b[0m <qwen3-30b-a3b> request {i} took {rng.randint(90, 9000)} ms\n"
            for i in range(400)
        )
        self.upstream_log = (
            "".join(
                f"slot update_slots: id {i % 4} | task {i} | prompt processing, "
                f"n_tokens = {rng.randint(1, 4000)}\n"
                for i in range(600)
            )
            + f"warning: {HOSTILE}\n"
        )

    def tame(self) -> None:
        """Leave out what only tests want to see."""
        self.models = [each for each in self.models if each["id"] != "hostile"]
        self.upstream_log = self.upstream_log.replace(f"warning: {HOSTILE}\n", "")

    def tell(self, frame: bytes) -> None:
        for reader in self.readers:
            reader.put(frame)

    def set_state(self, model_id: str, state: str) -> None:
        for each in self.models:
            if each["id"] == model_id:
                each["state"] = state
        self.tell(envelope("modelStatus", self.models))


def envelope(kind: str, data: Any) -> bytes:
    text = json.dumps({"type": kind, "data": json.dumps(data)})
    return f"event:message\ndata:{text}\n\n".encode()


def named(kind: str, data: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


world = World()
bp = Blueprint("fake", __name__)


@bp.before_request
def note_call() -> None:
    if request.method != "GET":
        world.calls.append(f"{request.method} {request.path}")


@bp.get("/api/events")
def events() -> Response:
    reader: gevent.queue.Queue[bytes] = gevent.queue.Queue()
    world.readers.append(reader)

    def frames() -> Iterator[bytes]:
        try:
            yield envelope("logData", {"data": world.proxy_log, "source": "proxy"})
            yield envelope("logData", {"data": world.upstream_log, "source": "upstream"})
            yield envelope("modelStatus", world.models)
            good = [metric_of(each) for each in world.records if each["status"] == 200]
            yield envelope("metrics", good)
            while True:
                yield reader.get()
        finally:
            world.readers.remove(reader)

    return Response(frames(), mimetype="text/event-stream")


@bp.get("/api/overview")
def overview() -> Response:
    return jsonify(
        models=[fare(each) for each in world.models if not each["peerID"]], groups=GROUPS
    )


def fare(one: dict[str, Any]) -> dict[str, Any]:
    """How a model fares, as /api/overview tells."""
    state = one["state"]
    idle = one["id"].startswith("bge")
    loaded = state in {"ready", "asleep"}
    return {
        "model_id": one["id"],
        "state": state,
        "state_for_s": {"ready": 754.0, "starting": 5.2}.get(state, 96.0),
        "in_flight": 2 if state == "ready" and not idle else 0,
        "waiting": 3 if state == "starting" else 0,
        "why": "its own load" if state == "starting" else "",
        "eta_s": 4.1 if state == "starting" else None,
        "rest_in_s": 312.0 if idle or state == "asleep" else None,
        "rest": "stopped",
        "failures": 0,
        "backoff_s": 0,
        "memory_bytes": 19_800_000_000 if loaded and not idle else 610_000_000 if loaded else None,
        "durations": {key: stats(value) for key, value in MOVES.items()},
        "aliases": ["gpt-4o"] if one["id"].startswith("qwen3-30b") else [],
        "cmd": f"llama-server --model {one['id']}.gguf --port 5800",
        "proxy": "http://127.0.0.1:5800",
    }


@bp.post("/api/models/<action>/<path:name>")
def act(action: str, name: str) -> tuple[str, int] | str:
    if name == "bge-reranker" and action == "unload":
        return jsonify(error={"message": "bge-reranker: cmdStop ran into its time limit"}), 502  # type: ignore[return-value]
    world.set_state(name, {"load": "starting", "unload": "stopped", "sleep": "asleep"}[action])
    if action == "load":
        gevent.spawn_later(0.3, world.set_state, name, "ready")
    return "OK"


@bp.post("/api/models/unload")
def act_all() -> Response:
    for each in world.models:
        if not each["peerID"]:
            each["state"] = "stopped"
    world.tell(envelope("modelStatus", world.models))
    return jsonify(msg="ok")


@bp.get("/api/version")
def version() -> Response:
    return jsonify(version="1.4.0", commit="abcd1234ef", build_date="2026-02-01")


@bp.get("/logs/stream/<path:name>")
def log_stream(name: str) -> Response:
    lines = "".join(f"{name}: line {number} of its own log\n" for number in range(80))

    def text() -> Iterator[str]:
        yield lines
        for number in itertools.count():
            gevent.sleep(2)
            yield f"{name}: still here {number}\n"

    return Response(text(), mimetype="text/plain")


@bp.get("/api/config/status")
def config_status() -> Response:
    return jsonify(
        source="/etc/llmsnap.yaml", hash="9f2c" * 16, loaded_at=world.began, errors=ERRORS
    )


@bp.get("/api/config/plan")
def config_plan() -> Response:
    return jsonify(errors=ERRORS, changes=None)


@bp.get("/api/config/file")
def config_file() -> Response:
    return jsonify(source="/etc/llmsnap.yaml", text=CONFIG, reason="")


@bp.get("/api/inflight")
def inflight() -> Response:
    base = {"key_name": "laptop", "client": "10.0.0.7", "can_cancel": True, "queue_ms": 40}
    now_ms = time.time() * 1000
    return jsonify(
        requests=[
            base
            | {
                "id": number,
                "request_id": f"7f3a-9{number}",
                "requested": name,
                "model_id": name,
                "path": "/v1/chat/completions",
                "phase": phase,
                "started_ms": now_ms - age_ms,
                "age_ms": age_ms,
                "response_bytes": size,
            }
            for number, (name, phase, age_ms, size) in enumerate(IN_FLIGHT)
            if number not in world.cancelled
        ]
    )


@bp.post("/api/inflight/<int:number>/cancel")
def cancel(number: int) -> Response:
    world.cancelled.add(number)
    return jsonify(msg="ok")


@bp.get("/api/activity")
def activity() -> Response:
    wanted = request.args
    found = [each for each in world.records if matches(each, wanted)]
    sort = wanted.get("sort", "-id")
    field = sort.lstrip("-")
    known = [each for each in found if each[field] is not None]
    known.sort(key=lambda each: each[field], reverse=sort.startswith("-"))
    ordered = known + [each for each in found if each[field] is None]
    start, limit = int(wanted.get("cursor") or 0), int(wanted.get("limit") or 100)
    more = start + limit < len(ordered)
    return jsonify(
        schema_version=1,
        records=ordered[start : start + limit],
        cursor=str(start + limit) if more else None,
    )


def matches(one: dict[str, Any], wanted: Mapping[str, str]) -> bool:
    status = wanted.get("status", "")
    return (
        wanted.get("model", one["model_id"]) == one["model_id"]
        and (not status or (one["status"] >= 400) == (status != "200"))
        and wanted.get("key", one["key_name"]) == one["key_name"]
        and one["ended_ms"] >= int(wanted.get("since") or 0)
    )


@bp.get("/api/activity/stats")
def activity_stats() -> Response:
    return jsonify(statistics([ActivityRecord(**as_record(each)) for each in world.records]))


def as_record(one: dict[str, Any]) -> dict[str, Any]:
    return {
        **{k: v for k, v in one.items() if k != "ended_ms"},
        "ended_ns": one["ended_ms"] * 10**6,
    }


@bp.get("/api/swaps")
def swaps() -> Response:
    return jsonify(swaps=world.swaps)


@bp.get("/api/timeline")
def timeline() -> Response:
    return jsonify(states=world.states)


@bp.get("/api/performance")
def performance() -> Response:
    since = int(request.args.get("since", 0))
    return jsonify(samples=[each for each in world.samples if each["at_ms"] > since])


@bp.post("/v1/<path:path>")
def answer(path: str) -> Response:
    def frames() -> Iterator[str]:
        for word in re.findall(r"\S+\s*", world.answer):
            yield chat_frame(word)
        yield "data: [DONE]\n\n"

    return Response(frames(), mimetype="text/event-stream")


@bp.post("/fake/answer")
def set_answer() -> str:
    world.answer = request.get_json()["text"]
    return "OK"


@bp.get("/fake/calls")
def calls() -> Response:
    return jsonify(world.calls)


@bp.post("/fake/log")
def flood() -> str:
    world.tell(envelope("logData", {"data": request.get_data(as_text=True), "source": "upstream"}))
    return "OK"


def chat_frame(text: str) -> str:
    return f"data: {json.dumps({'choices': [{'delta': {'content': text}}]})}\n\n"


@bp.get("/api/captures/<int:number>")
def capture(number: int) -> Response:
    body = {
        "model": "qwen3-30b-a3b",
        "stream": True,
        "messages": [{"role": "user", "content": "Why is the sky blue?"}],
    }
    words = ["Because ", "air ", "scatters ", "blue ", "light ", "more ", "than ", "red. ", HOSTILE]
    frames = "".join(
        f"data: {json.dumps({'choices': [{'delta': {'content': word}}]})}\n\n" for word in words
    )
    encode = lambda text: base64.b64encode(text.encode()).decode()  # noqa: E731
    return jsonify(
        id=number,
        req_path="/v1/chat/completions",
        method="POST",
        status=200,
        req_headers={"Content-Type": "application/json", "Authorization": "[REDACTED]"},
        req_body=encode(json.dumps(body)),
        resp_headers={"Content-Type": "text/event-stream"},
        resp_body=encode(frames + "data: [DONE]\n\n"),
    )


def create_app() -> Flask:
    app = Flask("fake", static_folder=None)
    app.register_blueprint(bp)
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
