"""What the made-up server serves: models, requests, swaps and samples of an ordinary hour."""

from __future__ import annotations

import math
import random
import time
from typing import Any

from llmsnap.telemetry import ActivityRecord

HOSTILE = "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
IN_FLIGHT = [
    ("qwen3-30b-a3b", "answering", 41_000, 180_000),
    ("qwen3-30b-a3b", "sent", 1_200, 0),
    ("gpt-oss-120b", "waiting", 5_200, 0),
]
CONFIG = """\
# What this machine serves.
logLevel: info
apiKeys: [REDACTED]

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


def remark(line: int, column: int, where: str, what: str, fix: str) -> dict[str, Any]:
    return {"line": line, "column": column, "where": where, "what": what, "fix": fix}


ERRORS = [
    remark(
        9, 10, "models.qwen3-30b-a3b.ttl", "'ten minutes' is no number", "give seconds, such as 600"
    ),
    remark(
        15,
        30,
        "groups.large.members",
        "there is no model gpt-oss-12b",
        "did you mean gpt-oss-120b?",
    ),
]
LARGE = ["qwen3-30b-a3b", "llama-3.3-70b", "qwen3-coder"]
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
LONG = "unsloth/Qwen3-Coder-480B-A35B-Instruct-1M-GGUF/UD-Q4_K_XL-00001-of-00006-very-long"
MANY = [
    *(
        model(f"family-{number}", state="stopped", description="One of many")
        for number in range(200)
    ),
    model(LONG, "A long id", "ready", description="word " * 60),
    model(f"{LONG}-2", state="stopped", description="x" * 300),
]


def group(name: str, *members: str, **more: bool) -> dict[str, Any]:
    base = {"swap": True, "exclusive": True, "persistent": False}
    return {"id": name, "members": list(members), **base, **more}


GROUPS = [
    group("large", *LARGE),
    group("second-machine", "gpt-oss-120b", exclusive=False),
    group("always-there", "bge-m3", "bge-reranker", swap=False, exclusive=False, persistent=True),
    group("(default)", "whisper-large", "hostile"),
]


def target(name: str, state: str, requests: int = 0, **more: Any) -> dict[str, Any]:
    base = {"requests": requests, "failures": 0, "retry_in_s": 0.0, "sessions": requests}
    return {"target": name, "state": state, **base, **more}


SELECTORS = [
    {
        "id": "coding",
        "strategy": "failover",
        "targets": [
            target("qwen3-coder", "failing", failures=3, retry_in_s=41.0),
            target("qwen3-30b-a3b", "ready", 2),
            target("claude-proxy/sonnet", "remote"),
        ],
    },
    {"id": "whoever", "strategy": "warm", "targets": [target("bge-m3", "ready")]},
]
LOAD = {
    "percent": 40,
    "loaded_bytes": 24 << 30,
    "total_bytes": 60 << 30,
    "bytes_per_s": 9 << 27,
}


def stats(seconds: float) -> dict[str, Any]:
    return {"count": 12, "last_s": seconds * 1.1, "p50_s": seconds, "p90_s": seconds * 1.6}


def asked(states: dict[str, Any], at_ms: int, rng: random.Random) -> str:
    """A model that was ready then, or could not yet be left."""
    ready = [
        name
        for name, bars in states.items()
        for bar in bars
        if bar["state"] == "ready" and bar["from_ms"] <= at_ms < (bar["to_ms"] or at_ms + 1)
    ]
    weights = [5 if name in LARGE else 2 for name in ready if name != "bge-reranker"]
    return rng.choices([name for name in ready if name != "bge-reranker"], weights)[0]


def record(number: int, rng: random.Random, now_ms: int, states: dict[str, Any]) -> ActivityRecord:
    """A finished request, most of them ordinary."""
    ended = now_ms - (260 - number) * 13_500
    name = asked(states, ended, rng)
    generates = name != "bge-m3"
    queue, load = rng.choice([0, 0, 0, 40, 900, 3100]), 8200 if number % 9 == 0 else 0
    tokens = rng.randint(20, 900) if generates else 0
    rate = rng.gauss(62 if name != "gpt-oss-120b" else 28, 6)
    prefill = rng.randint(40, 900)
    failed = number % 23 == 7
    duration = queue + load + prefill + (tokens / rate * 1000 if generates else 12)
    return ActivityRecord(
        id=number,
        request_id=f"7f3a-{number}",
        swap_id=number // 9 if load else None,
        started_ms=int(ended - duration),
        ended_ns=ended * 10**6,
        requested=name,
        model_id=name,
        selector="coding" if name == "qwen3-coder" else "",
        path="/v1/chat/completions" if generates else "/v1/embeddings",
        key_name=rng.choice(["laptop", "wiki", None]),
        status=502 if failed else 200,
        reason=f"{name}: exited with code 1 while loading; see its log" if failed else "",
        stream=generates,
        client_left=number % 31 == 5,
        queue_ms=queue,
        load_ms=load,
        first_byte_ms=queue + load + prefill,
        first_token_ms=queue + load + prefill if generates else None,
        duration_ms=duration,
        input_tokens=rng.randint(12, 6000),
        output_tokens=None if failed else tokens,
        cached_tokens=rng.choice([0, 512, None]),
        prompt_per_second=rng.gauss(1400, 200),
        tokens_per_second=rate if generates and not failed else None,
        request_bytes=rng.randint(300, 20000),
        response_bytes=tokens * 180,
        has_capture=number > 150 or number == 3,
    )


def in_flight(cancelled: set[int]) -> list[dict[str, Any]]:
    """Requests in flight except those that were cancelled."""
    now_ms = time.time() * 1000
    return [
        {
            "key_name": "laptop",
            "client": "10.0.0.7",
            "swap_id": None,
            "can_cancel": True,
            "queue_ms": 40,
            "id": number,
            "request_id": f"7f3a-9{number}",
            "requested": name,
            "model_id": name,
            "path": "/v1/chat/completions",
            "phase": phase,
            "started_ms": now_ms - age_ms,
            "age_ms": age_ms,
            "response_bytes": size,
            "position": 2 if phase == "waiting" else None,
            "why": "qwen3-coder is serving 1 request for 12 s" if phase == "waiting" else None,
            "eta_s": 9.0 if phase == "waiting" else None,
        }
        for number, (name, phase, age_ms, size) in enumerate(IN_FLIGHT)
        if number not in cancelled
    ]


def history(rng: random.Random, now_ms: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """An hour in which three large models take turns, one comes twice, and the small ones stay."""
    swaps: list[dict[str, Any]] = []
    states: dict[str, list[dict[str, Any]]] = {name: [] for name in [*LARGE, "gpt-oss-120b"]}
    at, here = now_ms - 3_600_000, "llama-3.3-70b"
    states[here].append({"state": "ready", "from_ms": at - 1000, "to_ms": None})
    while (at := at + rng.choice([90, 160, 240, 420]) * 1000) < now_ms - 900_000:
        target = rng.choice([name for name in LARGE if name != here])
        here = turn(swaps, states, here, target, at, rng)
    if here != LARGE[0]:
        turn(swaps, states, here, LARGE[0], now_ms - 775_000, rng)
    come(swaps, states["gpt-oss-120b"], now_ms - 2_700_000, now_ms - 1_500_000, rng)
    move(states["gpt-oss-120b"], "starting", now_ms - 5200)
    for name in ("bge-m3", "bge-reranker"):
        states[name] = [{"state": "ready", "from_ms": now_ms - 3_700_000, "to_ms": None}]
    swaps.sort(key=lambda each: int(each["started_ms"]))
    return [{**each, "id": number} for number, each in enumerate(swaps, 1)], states


def turn(
    swaps: list[dict[str, Any]],
    states: dict[str, Any],
    here: str,
    target: str,
    at: int,
    rng: random.Random,
) -> str:
    """One large model leaves for another, or tries to; which one is there afterwards."""
    load = rng.randint(4, 24) * 1000
    swaps.append(swap(len(swaps) + 1, [here], target, at, load, rng))
    failed = swaps[-1]["outcome"] != "done"
    move(states[here], "asleep" if here == "qwen3-coder" else "stopped", at)
    move(states[target], "waking" if target == "qwen3-coder" else "starting", at + 900)
    move(states[target], "stopped" if failed else "ready", at + 900 + load)
    if failed:
        move(states[here], "ready", at + 900 + load)
    return here if failed else target


def come(
    swaps: list[dict[str, Any]],
    bars: list[dict[str, Any]],
    at: int,
    until: int,
    rng: random.Random,
) -> None:
    """A model that evicts no other."""
    swaps.append(swap(len(swaps) + 1, [], "gpt-oss-120b", at, 31_000, rng))
    move(bars, "starting", at)
    move(bars, "ready", at + 31_900)
    move(bars, "stopping", until)
    move(bars, "stopped", until + 1200)


def move(bars: list[dict[str, Any]], state: str, at: int) -> None:
    if bars:
        bars[-1]["to_ms"] = at
    bars.append({"state": state, "from_ms": at, "to_ms": None})


def swap(
    number: int, leaving: list[str], target: str, at: int, load: int, rng: random.Random
) -> dict[str, Any]:
    failed = number == 5
    wait = rng.randint(0, 9000)
    error = f"{target}: exited with code 1 while loading; see its log" if failed else ""
    return {
        "id": number,
        "target": target,
        "kind": "start",
        "outcome": "failed" if failed else "done",
        "evicted": leaving,
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
        "plan": plan_of(target, leaving),
        "how": dict.fromkeys(leaving, "stop"),
        "asked_by": [{"request_id": f"7f3a-{number}", "key_name": "laptop"}],
        "when": {
            "rule": "hold" if leaving else "free",
            "due_ms": at - 400,
            "hold_ms": 8400.0,
            "turn_ms": 16800.0,
            "reopened": False,
        },
        "memory": [
            {
                "device": "gpu0",
                "capacity_bytes": 24 << 30,
                "reserve_bytes": 1 << 29,
                "others_bytes": 1 << 30,
                "before_bytes": (18 << 30) if leaving else (1 << 30),
                "after_bytes": (17 << 30) + (1 << 29),
            }
        ],
    }


def plan_of(target: str, leaving: list[str]) -> dict[str, Any]:
    """The plan of a swap: another model could have left, too."""
    others = [name for name in LARGE if name not in (target, *leaving)] if leaving else []
    return {
        "victims": leaving,
        "how": dict.fromkeys(leaving, "stop"),
        "cost": 4.2 * len(leaving),
        "why": f"{target} needs 17.0 GiB of gpu0, of which 4.4 GiB is free",
        "device": "gpu0",
        "considered": [{"victims": others, "cost": 7.9, "lost_by": "cost"}] if others else [],
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
        "ttl_s": 600,
        "sleep_after_s": 0,
        "concurrency_limit": 4,
        "place": FARM if idle else None,
        "prompts": {"prompts": 2, "tokens": 3172, "size": 25_600_000, "off": ""},
        "sleep_off": "",
    }


FARM = {"launcher": "farm", "node": "10.0.0.7", "phase": "", "engine": ""}
ADVICE = [
    {
        "where": "models.coder.concurencyLimit", "what": "unknown key", "line": 9, "column": 5,
        "fix": 'did you mean "concurrencyLimit"?',
    },
    {"where": "routing.scheduler.use", "what": "fifo sets no bound", "line": 0, "fix": ""},
]  # fmt: skip
HARDWARE = {
    "schema_version": 1,
    "architecture": {"name": "x86_64", "raw_name": "x86_64"},
    "operating_system": {
        "family": "linux", "name": "Debian GNU/Linux", "version": "12", "kernel": "6.1.0-18-amd64"
    },
    "environment": {"kind": "container", "name": "docker", "version": None},
    "cpu": {
        "vendor": "AuthenticAMD", "model": "AMD Ryzen 9 7950X", "socket_count": 1,
        "physical_core_count": 16, "logical_thread_count": 32,
    },
    "memory": {"capacity_bytes": 128 << 30},
    "accelerators": [
        {
            "index": 0, "kind": "gpu", "vendor": "nvidia", "model": "NVIDIA GeForce RTX 4090",
            "architecture": "Ada", "memory": {"kind": "dedicated", "capacity_bytes": 24 << 30},
            "driver": {"name": "nvidia", "version": "580.65.06"}, "power_limit_watts": 450.0,
        },
        {
            "index": 1, "kind": "gpu", "vendor": "intel", "model": None, "architecture": None,
            "memory": {"kind": "shared_system", "capacity_bytes": None},
            "driver": {"name": "i915", "version": None}, "power_limit_watts": None,
        },
    ],
}  # fmt: skip
