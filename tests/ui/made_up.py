"""What the made-up server serves: models, requests, swaps and samples of an ordinary hour."""

import math
import random
import time
from typing import Any

from llmsnap.telemetry import (
    ActivityRecord,
    GpuSample,
    HostSample,
    PerformanceSample,
    ProcessSample,
    ProcessStateChanged,
    SwapFinished,
    Telemetry,
)
from llmsnap.telemetry.telemetry import StateHistory

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


REMARK = ("line", "column", "where", "what", "fix")
ERRORS = [
    dict(zip(REMARK, each, strict=True))
    for each in (
        (9, 10, "models.qwen3-30b-a3b.ttl", "'ten minutes' is no number", "give seconds, as 600"),
        (15, 30, "groups.large.members", "there is no model gpt-oss-12b", "it is gpt-oss-120b"),
    )
]
LARGE = ["qwen3-30b-a3b", "llama-3.3-70b", "qwen3-coder"]
FIRST, SECOND, THIRD = LARGE
AGO_S = (3400, 3100, 2880, 2700, 2500, 2200, 1900, 1500, 1200, 775)
TURNS = (*LARGE, "gpt-oss-120b", FIRST, SECOND, FIRST, THIRD, SECOND, FIRST)
"""What was loaded then."""
FAILS = 5
EXITED = "exited with code 1 while loading; see its log"
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
    *(model(f"family-{number}", description="One of many") for number in range(200)),
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
LOAD = {"percent": 40, "loaded_bytes": 24 << 30, "total_bytes": 60 << 30, "bytes_per_s": 9 << 27}


def asked(states: StateHistory, at_ms: int, rng: random.Random) -> str:
    """A model that was ready then, or could not yet be left."""
    ready = [
        name
        for name in (*LARGE, "gpt-oss-120b", "bge-m3")
        for bar in states.bars(name)
        if bar["state"] == "ready" and bar["from_ms"] <= at_ms < (bar["to_ms"] or at_ms + 1)
    ]
    return rng.choices(ready, [5 if name in LARGE else 2 for name in ready])[0]


def record(number: int, rng: random.Random, now_ms: int, states: StateHistory) -> ActivityRecord:
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
        id=number, request_id=f"7f3a-{number}", swap_id=number // 9 if load else None,
        started_ms=int(ended - duration), ended_ns=ended * 10**6, duration_ms=duration,
        requested=name, model_id=name, selector="coding" if name == "qwen3-coder" else "",
        path="/v1/chat/completions" if generates else "/v1/embeddings", stream=generates,
        key_name=rng.choice(["laptop", "wiki", None]), client_left=number % 31 == 5,
        status=502 if failed else 200, reason=f"{name}: {EXITED}" if failed else "",
        queue_ms=queue, load_ms=load, first_byte_ms=queue + load + prefill,
        first_token_ms=queue + load + prefill if generates else None,
        input_tokens=rng.randint(12, 6000), output_tokens=None if failed else tokens,
        cached_tokens=rng.choice([0, 512, None]), prompt_per_second=rng.gauss(1400, 200),
        tokens_per_second=rate if generates and not failed else None,
        request_bytes=rng.randint(300, 20000), response_bytes=tokens * 180,
        has_capture=number > 150 or number == 3,
    )  # fmt: skip


def in_flight(cancelled: set[int]) -> list[dict[str, Any]]:
    """Requests in flight except those that were cancelled."""
    now_ms = time.time() * 1000
    waits = {"position": 2, "why": "qwen3-coder is serving 1 request for 12 s", "eta_s": 9.0}
    return [
        {
            "id": number, "request_id": f"7f3a-9{number}", "requested": name, "model_id": name,
            "path": "/v1/chat/completions", "key_name": "laptop", "client": "10.0.0.7",
            "phase": phase, "started_ms": now_ms - age_ms, "age_ms": age_ms, "queue_ms": 40,
            "response_bytes": size, "swap_id": None, "can_cancel": True,
            **(waits if phase == "waiting" else dict.fromkeys(waits)),
        }
        for number, (name, phase, age_ms, size) in enumerate(IN_FLIGHT)
        if number not in cancelled
    ]  # fmt: skip


def history(telemetry: Telemetry, rng: random.Random, now: float) -> None:
    """An hour in which three large models take turns, one comes twice, and the small ones stay."""
    states = telemetry.states = StateHistory(lambda: now - 3700)
    states.know(each["id"] for each in MODELS if each["state"])

    def become(name: str, *changes: tuple[float, str]) -> None:
        for at, state in changes:
            states.note(ProcessStateChanged(name, "", state, at=at))

    for name in (here := "llama-3.3-70b", "bge-m3", "bge-reranker"):
        become(name, (now - 3690, "ready"))
    for number, (ago_s, target) in enumerate(zip(AGO_S, TURNS, strict=True), 1):
        at, load, is_large = now - ago_s, rng.randint(4, 24), target in LARGE
        end, sleeps = at + 0.9 + load, target == "qwen3-coder"
        failed = number == FAILS
        become(target, (at + 0.9, "waking" if sleeps else "starting"))
        become(target, (end, "stopped" if failed else "ready"))
        if is_large:
            become(here, (at, "asleep" if here == "qwen3-coder" else "stopped"))
        else:
            become(target, (at + 1200, "stopping"), (at + 1201.2, "stopped"))
        telemetry.swaps.append(swap(number, (here,) if is_large else (), target, at, load, rng))
        if failed:
            become(here, (end, "ready"))
        elif is_large:
            here = target
    become("gpt-oss-120b", (now - 5.2, "starting"))


def swap(
    number: int, leaving: tuple[str, ...], target: str, at: float, load: int, rng: random.Random
) -> SwapFinished:
    failed = number == FAILS
    wait = rng.randint(0, 9000) / 1000
    others = [name for name in LARGE if name not in (target, *leaving)] if leaving else []
    how = dict.fromkeys(leaving, "stop")
    plan = {
        "victims": leaving, "how": how, "cost": 4.2 * len(leaving), "device": "gpu0",
        "why": f"{target} needs 17.0 GiB of gpu0, of which 4.4 GiB is free",
        "considered": [{"victims": others, "cost": 7.9, "lost_by": "cost"}] if others else [],
    }  # fmt: skip
    when = {
        "rule": "hold" if leaving else "free", "due_ms": at * 1000 - 400, "hold_ms": 8400.0,
        "turn_ms": 16800.0, "reopened": False,
    }  # fmt: skip
    gpu = {
        "device": "gpu0", "capacity_bytes": 24 << 30, "reserve_bytes": 1 << 29,
        "others_bytes": 1 << 30, "before_bytes": (18 if leaving else 1) << 30,
        "after_bytes": 35 << 29,
    }  # fmt: skip
    return SwapFinished(
        swap_id=number, target=target, kind="start", outcome="failed" if failed else "done",
        error=f"{target}: {EXITED}" if failed else "", evicted=leaving, how=how, reason="request",
        waiters=rng.randint(1, 4), longest_wait_s=wait + 0.9 + load, started_at=at,
        phases=(("wait", wait), ("drain", rng.random() * 2), ("evict", 0.9), ("load", load)),
        at=at + 0.9 + load, plan=plan, when=when, memory=(gpu,),
        asked_by=({"request_id": f"7f3a-{number}", "key_name": "laptop"},),
    )  # fmt: skip


def sample(number: int, rng: random.Random, now_ms: int) -> PerformanceSample:
    wave = math.sin(number / 40)
    processes = (
        ProcessSample("qwen3-30b-a3b", int(19.8e9), 160 + 40 * wave),
        ProcessSample("bge-m3", int(1.2e9), 12 + rng.random() * 9),
    )
    gpus = (
        GpuSample(
            index,
            "RTX 4090",
            utilization_percent=min(100, max(0, 55 + 40 * load)),
            memory_used=int((18 + 3 * load) * 2**30),
            memory_total=24 * 2**30,
            temperature_c=58 + 9 * load,
            power_w=240 + 110 * load,
        )
        for index, load in enumerate((wave, -wave))
    )
    host = HostSample(34 + 18 * wave + rng.random() * 6, int(61e9 + 4e9 * wave), int(137e9))
    return PerformanceSample(now_ms - (700 - number) * 5000, host, processes, tuple(gpus))


def fare(one: dict[str, Any]) -> dict[str, Any]:
    """How a model fares, as /api/overview tells."""
    state = one["state"]
    idle = one["id"].startswith("bge")
    loads, loaded = state == "starting", state in {"ready", "asleep"}
    return {
        "model_id": one["id"], "state": state,
        "state_for_s": {"ready": 754.0, "starting": 5.2}.get(state, 96.0),
        "in_flight": 2 if state == "ready" and not idle else 0,
        "waiting": 3 if loads else 0, "why": "its own load" if loads else "",
        "eta_s": 4.1 if loads else None, "rest": "stopped",
        "rest_in_s": 312.0 if idle or state == "asleep" else None,
        "failures": 0, "backoff_s": 0, "ttl_s": 600, "sleep_after_s": 0, "concurrency_limit": 4,
        "memory_bytes": 19_800_000_000 if loaded and not idle else 610_000_000 if loaded else None,
        "durations": {
            key: {"count": 12, "last_s": s * 1.1, "p50_s": s, "p90_s": s * 1.6}
            for key, s in MOVES.items()
        },
        "aliases": ["gpt-4o"] if one["id"].startswith("qwen3-30b") else [],
        "cmd": f"llama-server --model {one['id']}.gguf --port 5800",
        "proxy": "http://127.0.0.1:5800", "place": FARM if idle else None, "sleep_off": "",
        "prompts": {"prompts": 2, "tokens": 3172, "size": 25_600_000, "off": ""},
    }  # fmt: skip


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
