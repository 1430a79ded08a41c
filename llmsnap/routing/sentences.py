"""Plans, swaps and waits in sentences, the same in the web UI and on the command line. Pure.

The input are the documents of ``/api/plan``, ``/api/swaps`` and ``/api/requests``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from llmsnap.routing.explain import span

GIB = 1024**3

LOST_BY = {
    "cost": "it costs more",
    "busy": "one of them is busy",
    "recent": "one of them was used more recently",
    "order": "it is equal, and later in the configuration",
    "late": "it became better after another plan had begun",
}

# --- plans ----------------------------------------------------------------------------------------


def summary_of_plan(answer: Mapping[str, Any]) -> str:
    """Return an answer of ``/api/plan`` in a few words: "evicts qwen (14 GiB, idle 3 min)"."""
    match answer["answer"]:
        case "ready":
            return "is ready"
        case "under_way":
            return "is being loaded"
        case "never_fits":
            return f"never fits: {answer['reason']}"
        case "blocked":
            return f"has to wait: {answer['reason']}"
    leaving = [_shown(each) for each in answer["leaving"]]
    if leaving:
        return f"evicts {_listed(leaving)}"
    return "fits: nothing has to leave" if "device" in answer else "can load: nothing has to leave"


def said_of_plan(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences about an answer of ``/api/plan``."""
    model = answer["model"]
    match answer["answer"]:
        case "ready":
            yield f"{model} is ready: nothing would change."
        case "never_fits":
            yield f"{model} can never be loaded: {answer['reason']}."
        case "blocked":
            yield f"{model} would have to wait: {answer['reason']}."
        case "under_way":
            yield f"{model} is being loaded{_for_it(answer['leaving'])}."
            yield from _details(answer)
        case _:
            yield f"Loading {model} would {_leaving(answer['leaving'])}."
            yield from _details(answer)
            if answer["eta_s"] is not None:
                yield f"It would be ready in about {took(answer['eta_s'])}."


def _shown(leaving: Mapping[str, Any]) -> str:
    """Return "qwen (14 GiB, idle 3 min)"."""
    facts = [size(leaving["frees"])] if leaving["frees"] else []
    if leaving.get("gpus"):
        facts.append(gpus(leaving["gpus"]))
    if leaving["busy"]:
        facts.append("busy")
    elif leaving["idle_s"] is not None:
        facts.append(f"idle {span(leaving['idle_s'])}")
    return f"{leaving['model']} ({', '.join(facts)})" if facts else str(leaving["model"])


def _for_it(leaving: Iterable[Mapping[str, Any]]) -> str:
    names = [each["model"] for each in leaving]
    return f"; {_listed(names)} {'leaves' if len(names) == 1 else 'leave'} for it" if names else ""


def _leaving(leaving: Iterable[Mapping[str, Any]]) -> str:
    """Return "stop a and put b to sleep", or that nothing is evicted."""
    slept = [_shown(each) for each in leaving if each["action"] == "sleep"]
    stopped = [_shown(each) for each in leaving if each["action"] != "sleep"]
    parts = [f"stop {_listed(stopped)}"] if stopped else []
    parts += [f"put {_listed(slept)} to sleep"] if slept else []
    return " and ".join(parts) or "evict nothing"


def _details(plan: Mapping[str, Any]) -> Iterator[str]:
    """Yield why a plan was chosen, and which others there were."""
    if plan["why"]:
        yield f"Why: {plan['why']}."
    if plan["victims"] and plan["cost"]:
        cost = f"{plan['cost']:.3g}"
        if "device" in plan:
            cost += " (the time to load again what leaves, weighted by how likely it is needed soon"
            if plan.get("answers_s"):
                cost += f", and {took(plan['answers_s'])} that its answers are likely to take"
            cost += ")"
        yield f"Cost: {cost}."
    if plan.get("combination"):
        yield f"Allowed by set {plan['set']}: {' & '.join(plan['combination'])}."
    if plan.get("device"):
        is_node = "/" in plan["device"]
        yield f"{'Room for it is' if is_node else 'Placed'} on {plan['device']}."
    for each in plan["considered"]:
        reason = LOST_BY.get(each["lost_by"], each["lost_by"])
        victims = _listed(each["victims"]) or "nothing"
        device = f" on {each['device']}" if each.get("device") else ""
        yield f"Not chosen: evict {victims}{device}, at a cost of {each['cost']:.3g}: {reason}."


# --- swaps ----------------------------------------------------------------------------------------

ASKED = {"request": "for a request", "load": "by hand", "preload": "as a preload"}
DONE = {"start": "loaded", "wake": "woke"}
LEFT = {"stop": "stopped", "sleep": "put to sleep"}
PHASES = {
    "wait": "waited",
    "drain": "drained",
    "save": "saved prompts",
    "evict": "evicted",
    "barrier": "waited for memory",
    "failed_wake": "failed to wake",
    "failed_check": "got wrong answers",
    "placing": "waited for a machine",
    "load": "loaded",
    "restore": "restored prompts",
    "canary": "checked answers",
}


def said_of_swap(swap: Mapping[str, Any]) -> Iterator[str]:
    """Yield sentences about a swap of ``/api/swaps``."""
    name, target, asked = f"Swap {swap['id']}", swap["target"], ASKED.get(swap["reason"], "")
    error = swap["error"].partition("\n")[0].removesuffix("; its last output:")
    match swap["outcome"]:
        case "done":
            yield f"{name} {DONE.get(swap['kind'], 'loaded')} {target} {asked}."
        case "failed":
            yield f"{name} to {target}, {asked}, failed: {error}."
        case _:
            yield f"{name} to {target}, {asked}, was given up{f': {error}' if error else ''}."
    if asked_by := [_asker(each) for each in swap.get("asked_by", ())]:
        yield f"Asked for by {_listed(asked_by)}."
    if node := swap.get("node"):
        yield f"It runs on {node}."
    yield from _said_of_time(swap)
    how = swap.get("how", {})
    evicted = _listed(
        f"{each} ({LEFT.get(how[each], how[each])})" if each in how else each
        for each in swap["evicted"]
    )
    yield f"Evicted: {evicted}." if evicted else "Nothing was evicted."
    if swap["plan"] is not None:
        yield from _details(swap["plan"])
    times = [
        f"{PHASES.get(phase['name'], phase['name'])} {took(phase['ms'] / 1000)}"
        for phase in swap["phases"]
    ]
    if times:
        yield f"Times: {', '.join(times)}."
    yield from _what_came_of_it(swap)


def _what_came_of_it(swap: Mapping[str, Any]) -> Iterator[str]:
    """Yield the prompts that were kept, the requests that waited, and the memory."""
    if kept := swap.get("prompt_tokens"):
        parts = [f"{count} tokens {outcome}" for outcome, count in kept.items()]
        yield f"Prompts: {', '.join(parts)}."
    if swap["waiters"]:
        waited = took(swap["longest_wait_ms"] / 1000)
        yield f"Requests that waited: {swap['waiters']}, the longest for {waited}."
    for each in swap.get("memory", ()):
        held, after = size(each["before_bytes"]), size(each["after_bytes"] or 0)
        capacity = size(each["capacity_bytes"])
        yield f"{each['device']}: models held {held} of {capacity} before, {after} after."


SHORT_MS = 100.0
"""Shorter waits are not worth a word."""


def _asker(request: Mapping[str, Any]) -> str:
    key = request["key_name"]
    return f"{request['request_id']} (key {key})" if key else str(request["request_id"])


def _said_of_time(swap: Mapping[str, Any]) -> Iterator[str]:
    """Yield by which rule a swap was decided when it was."""
    when = swap.get("when")
    if when is None:
        return
    waited_ms = sum(each["ms"] for each in swap["phases"] if each["name"] == "wait")
    match when["rule"]:
        case "hold":
            text = "busy models are left alone until the oldest request has waited "
            text += took(when["hold_ms"] / 1000)
        case "turn":
            text = f"each busy model that is to leave has a turn of {took(when['turn_ms'] / 1000)}"
        case "idle":
            text = "idle models may leave at any time"
        case _:
            text = "no model had to leave"
    after = f" after {took(waited_ms / 1000)}" if waited_ms >= SHORT_MS else " at once"
    yield f"Decided{after}: {text}."
    due_ms = when["due_ms"]
    late_ms = waited_ms if due_ms is None else min(waited_ms, swap["started_ms"] - due_ms)
    if late_ms >= SHORT_MS:
        yield f"Other swaps went first, or other models were busy, for {took(late_ms / 1000)}."
    if when["reopened"]:
        yield "Requests in flight took so long that new ones were let in once more."


# --- requests -------------------------------------------------------------------------------------


def said_of_request(request: Mapping[str, Any], swap: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield sentences about a request of ``/api/inflight`` or ``/api/activity``, and its *swap*."""
    name, model, number = request["request_id"], request["model_id"], request["swap_id"]
    if request.get("position") is not None:
        yield f"Request {name} waits for {model}, at place {request['position']} in its queue."
        yield f"Why: {request['why']}."
        if request["eta_s"] is not None:
            yield f"It may take another {took(request['eta_s'])}."
        if number is not None:
            yield f"Swap {number} loads {model} now."
        return
    waited_s, load_s = ((request[key] or 0.0) / 1000 for key in ("queue_ms", "load_ms"))
    if number is None and not waited_s:
        yield f"Request {name} did not wait for {model}: it was ready."
        return
    turn, load = took(waited_s), took(load_s)
    yield f"Request {name} waited {turn} for its turn, {load} for {model} to load."
    if swap is None:
        if number is not None:
            yield f"It waited for swap {number}, which is still under way, or no longer known."
        return
    asked = [each["request_id"] for each in swap.get("asked_by", ())]
    if name in asked:
        place = asked.index(name) + 1
        yield f"Its place was {place} of {max(swap['waiters'], len(asked))}."
    yield from said_of_swap(swap)


# --- words ----------------------------------------------------------------------------------------


def took(seconds: float) -> str:
    """Return a duration: ``0.4 s``, ``45 s``, ``61 min``."""
    return f"{seconds:.1f} s" if seconds < 10 else span(seconds)


def gpus(number: float) -> str:
    """Return a number of GPUs: ``1 GPU``, ``0.5 GPUs``."""
    return "1 GPU" if number == 1 else f"{number:g} GPUs"


def size(number: int) -> str:
    """Return a number of bytes in GiB: ``14 GiB``, ``0.6 GiB``."""
    return f"{number / GIB:.1f}".removesuffix(".0") + " GiB"


def _listed(names: Iterable[str]) -> str:
    """Return "a, b and c"."""
    *first, last = [*names] or [""]
    return f"{', '.join(first)} and {last}" if first else last
