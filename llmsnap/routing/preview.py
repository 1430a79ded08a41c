"""Plans and swaps as documents, and what a load would do now, or if other models ran. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from llmsnap.models import State
from llmsnap.routing.entries import ModelState
from llmsnap.routing.explain import eta_s
from llmsnap.routing.memory import amount, is_node
from llmsnap.routing.messages import SwapRecord
from llmsnap.routing.occupancy import DeviceOccupancy, Occupancy
from llmsnap.routing.policies import AT_ONCE
from llmsnap.routing.pools import budget_in, with_budget
from llmsnap.routing.residency import Action, Answer, Blocked, LoadKind, NeverFits, Plan, Room
from llmsnap.routing.sentences import said_of_plan, summary_of_plan
from llmsnap.routing.state import SchedulerState


class Supposed:
    """A model as it would be: running and idle, or stopped."""

    def __init__(self, model: ModelState, *, runs: bool) -> None:
        self._model = model
        self.state = State.READY if runs else State.STOPPED
        self.busy = False
        self.idle_since = model.idle_since
        self.priority = model.priority
        self.leave_by = model.leave_by
        self.leaves: tuple[str, Action] | None = None
        self.device = model.device
        self.uses = model.uses
        self.retries = 0

    def measured_s(self, move: LoadKind | Action) -> float | None:
        """Return the median of what such moves took, None when none was measured."""
        return self._model.measured_s(move)

    def answers_s(self, _now: float) -> float:
        """Return 0: it is idle."""
        return 0.0


def preview(
    state: SchedulerState,
    model: ModelState,
    running: Collection[str] | None = None,
    capacities: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return what loading *model* would do now, or with *running* idle and nothing else loaded.

    *capacities* are those that devices of a memory budget are supposed to have, in bytes.
    ``eta_s`` is when it would be ready, ``leaving`` who would leave, with what each frees in bytes
    and for how long it has been idle; unknown ones are None. ``summary`` and ``sentences`` say it.
    """
    found: dict[str, Any] = {"model": model.model_id, "eta_s": None, "leaving": []}
    answer: Answer
    residency = state.residency
    budget = budget_in(residency)
    if capacities and budget is not None:
        residency = with_budget(residency, budget.with_capacities(capacities))
    if running is not None:
        facts = {name: Supposed(each, runs=name in running) for name, each in state.models.items()}
        answer = residency.plan(model.model_id, [n for n in facts if n in running], facts)
        found |= document_of(answer)
    elif model.state is State.READY:
        answer = Plan()
        found["answer"] = "ready"
    elif model.swap is not None and not capacities:
        answer = model.swap.planned.plan
        found |= {**document_of(answer), "answer": "under_way"}
    else:
        answer = state.plan(model, residency=residency)
        found |= document_of(answer)
    if isinstance(answer, Plan):
        found["leaving"] = [_leaving(state, each, answer, running) for each in answer.victims]
        is_now = running is None and not capacities
        if is_now and model.measured_s(model.load_kind) is not None:
            found["eta_s"] = eta_s(state, model)
    return {**found, "summary": summary_of_plan(found), "sentences": [*said_of_plan(found)]}


def _leaving(
    state: SchedulerState, name: str, plan: Plan, running: Collection[str] | None
) -> dict[str, Any]:
    """Return what is known of a victim of *plan*; idle times are those of now."""
    model, room = state.models[name], plan.room or Room()
    sizes = next((each.size for each in room.frees if each.model_id == name), ())
    frees = sum(max(0, size) for size in sizes)
    is_now, on_nodes = running is None, any(map(is_node, room.names))
    return {
        "model": name,
        "action": str(plan.how.get(name, model.leave_by)),
        "frees": (frees or None) if not on_nodes else None,
        **({"gpus": amount(room.names[0], frees)} if on_nodes else {}),
        "busy": is_now and model.busy,
        "idle_s": max(0.0, state.now - model.idle_since) if is_now and not model.busy else None,
    }


def document_of(answer: Answer) -> dict[str, Any]:
    """Return the answer of a residency as JSON shows it."""
    if isinstance(answer, NeverFits):
        return {"answer": "never_fits", "reason": answer.reason}
    if isinstance(answer, Blocked):
        return {"answer": "blocked", "reason": answer.reason}
    return {"answer": "plan", **plan_document(answer)}


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return *plan* as JSON shows it: who leaves and how, at what cost, and what else there was."""
    found: dict[str, Any] = {
        "victims": list(plan.victims),
        "how": dict(plan.how),
        "cost": plan.cost,
        "answers_s": round(plan.answers_s, 3),
        "why": plan.why,
        "considered": [
            {
                "victims": list(each.victims),
                "cost": each.cost,
                "lost_by": each.lost_by,
                **({"device": each.device} if each.device else {}),
            }
            for each in plan.considered
        ],
    }
    if plan.allowed is not None:
        found |= {
            "set": plan.allowed.set_name,
            "expression": plan.allowed.expression,
            "combination": list(plan.allowed.combination),
        }
    room = plan.room
    if room is not None:
        found["device"] = room.device
        found["takes"] = _amounts(room, room.takes)
        found["left"] = _amounts(room, room.left)
        found["frees"] = {each.model_id: _amounts(room, each.size) for each in room.frees}
    return found


def _amounts(room: Room, sizes: Iterable[int]) -> dict[str, float]:
    """Return *sizes* by device: bytes, and GPUs where a device is a machine of a launcher."""
    return {name: amount(name, size) for name, size in zip(room.names, sizes, strict=True)}


def when_document(record: SwapRecord, offset_s: float) -> dict[str, Any] | None:
    """Return by which rule a swap was decided when it was; *offset_s* leads to Unix time.

    *due_ms* is None where the rule is to begin at once.
    """
    due = record.due
    if due is None:
        return None
    return {
        "rule": str(due.rule),
        "due_ms": None if due.at == AT_ONCE else int((due.at + offset_s) * 1000),
        "hold_ms": round(due.hold_s * 1000, 3),
        "turn_ms": round(due.turn_s * 1000, 3),
        "reopened": record.reopened,
    }


def memory_document(before: Occupancy, after: Occupancy) -> list[dict[str, Any]]:
    """Return what our models held on each device before and after a swap, in bytes."""
    held = {each.name: _held(each) for each in after.devices}
    return [
        {
            "device": each.name,
            "capacity_bytes": each.capacity,
            "reserve_bytes": each.reserve,
            "others_bytes": each.others.bytes,
            "before_bytes": _held(each),
            "after_bytes": held.get(each.name),
        }
        for each in before.devices
    ]


def _held(device: DeviceOccupancy) -> int:
    return sum(each.bytes for each in device.residents)
