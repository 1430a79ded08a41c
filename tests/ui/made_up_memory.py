"""The memory of the made-up server: two cards and RAM, who holds what, and what loads would do."""

from typing import Any

from llmsnap.routing.sentences import said_of_plan, summary_of_plan

GIB = 1024**3
NEEDS: dict[str, tuple[dict[str, float], dict[str, float], str]] = {
    "qwen3-30b-a3b": ({"gpu0": 18}, {}, "measured"),
    "gpt-oss-120b": ({"gpu1": 17, "ram": 44}, {}, "measured"),
    "llama-3.3-70b": ({"gpu0": 22, "gpu1": 19}, {}, "estimated from the file"),
    "qwen3-coder": ({"gpu1": 17}, {"gpu1": 2.5}, "declared"),
    "bge-m3": ({"any": 1.2}, {}, "measured"),
    "bge-reranker": ({"gpu1": 1.4}, {}, "declared"),
    "whisper-large": ({}, {}, "unknown"),
    "hostile": ({"gpu0": 31}, {}, "estimated from the file"),
}
NEVER = "it needs 31.0 GiB on gpu0; gpu0 has 23.5 GiB, beside bge-m3, which is pinned"
PINNED = {"bge-m3"}
DEVICES = [
    ("gpu0", "NVIDIA GeForce RTX 4090", 24.0, 0.5, (1.1, "Xorg, firefox")),
    ("gpu1", "NVIDIA GeForce RTX 4090", 24.0, 0.5, (0.0, "")),
    ("ram", None, 64.0, 4.0, (0.0, "")),
]
NODES = [
    {
        "name": "farm/n1", "gpus": 4.0, "others": 0.5, "free": 1.5,
        "residents": [{"model": "bge-m3", "gpus": 1.0, "asleep": False}],
        "reserved": [{"model": "qwen3-coder", "gpus": 1.0, "asleep": False}],
    }
]  # fmt: skip
LOADING = {"starting", "waking"}
LOADED = {"ready", "sleepPending", "stopping"}


def memory(models: list[dict[str, Any]]) -> dict[str, Any]:
    """What /api/memory says while *models* are in their states."""
    states = {each["id"]: each["state"] for each in models}
    return {
        "mode": "memory",
        "devices": [_device(states, *each) for each in DEVICES],
        "models": [
            {
                "model": name, "source": source, "pinned": name in PINNED,
                "need": {place: int(size * GIB) for place, size in need.items()},
                "asleep": {place: int(size * GIB) for place, size in asleep.items()},
                "alone_on": "" if need else "gpu1",
                "never_fits": NEVER if name == "hostile" else "",
            }
            for name, (need, asleep, source) in NEEDS.items()
            if name in states
        ],
    }  # fmt: skip


def _device(
    states: dict[str, str], name: str, label: str | None, capacity: float, reserve: float,
    others: tuple[float, str],
) -> dict[str, Any]:  # fmt: skip
    residents, reserved = [], []
    for model, (need, asleep, source) in NEEDS.items():
        state = states.get(model)
        full = need.get(name, need.get("any", 0) if name == "gpu0" else 0)
        kept = asleep.get(name, 0)
        if state in LOADING and full:
            reserved.append({"model": model, "bytes": int(full * GIB)})
        held = full if state in LOADED else kept if state == "asleep" else 0
        if held:
            size = {"bytes": int(held * GIB), "asleep": state == "asleep"}
            residents.append({"model": model, **size, "source": source})
    taken = sum(each["bytes"] for each in (*residents, *reserved))
    left = int((capacity - reserve - others[0]) * GIB) - taken
    return {
        "name": name, "label": label, "uuid": None, "residents": residents, "reserved": reserved,
        "others": {"bytes": int(others[0] * GIB), "holders": others[1]}, "free": max(0, left),
        "capacity": int(capacity * GIB), "reserve": int(reserve * GIB),
    }  # fmt: skip


def plan(model: str, state: str) -> dict[str, Any]:
    """What /api/plan says of a load of *model*."""
    found: dict[str, Any] = {"model": model, "eta_s": None, "leaving": []}
    leaves = {"frees": 18 * GIB, "busy": False, "idle_s": 190.0}
    chosen = {
        "answer": "plan", "victims": ["qwen3-30b-a3b"], "how": {}, "cost": 3.2, "device": "",
        "why": f"{model} needs 22.0 GiB of gpu0, of which 3.2 GiB is free",
        "considered": [{"victims": ["bge-m3", "qwen3-coder"], "cost": 9.4, "lost_by": "cost"}],
    }  # fmt: skip
    match model, state:
        case _, "ready":
            found["answer"] = "ready"
        case "hostile", _:
            found |= {"answer": "never_fits", "reason": NEVER}
        case "qwen3-coder", _:
            found |= {**chosen, "victims": [], "considered": [], "eta_s": 0.4}
        case _, "starting":
            found |= {**chosen, "answer": "under_way", "victims": [], "considered": [], "eta_s": 3}
        case _:
            one = {"model": "qwen3-30b-a3b", "action": "stop", **leaves}
            found |= {**chosen, "eta_s": 8.4, "leaving": [one]}
    return {**found, "summary": summary_of_plan(found), "sentences": [*said_of_plan(found)]}
