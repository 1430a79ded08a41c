"""Plans as documents, and what a load would do now, or if other models ran. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from llmsnap.models import State
from llmsnap.routing.entries import ModelState
from llmsnap.routing.residency import Action, Answer, Blocked, LoadKind, NeverFits, Plan
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

    def measured_s(self, move: LoadKind | Action) -> float | None:
        """Return the median of what such moves took, None when none was measured."""
        return self._model.measured_s(move)


def preview(
    state: SchedulerState, model: ModelState, running: Collection[str] | None = None
) -> dict[str, Any]:
    """Return what loading *model* would do now, or with *running* idle and nothing else loaded."""
    if running is None:
        if model.state is State.READY:
            return {"model": model.model_id, "answer": "ready"}
        answer = state.plan(model)
    else:
        facts = {name: Supposed(each, runs=name in running) for name, each in state.models.items()}
        answer = state.residency.plan(model.model_id, [n for n in facts if n in running], facts)
    return {"model": model.model_id, **document_of(answer)}


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
        "why": plan.why,
        "considered": [
            {"victims": list(each.victims), "cost": each.cost, "lost_by": each.lost_by}
            for each in plan.considered
        ],
    }
    if plan.allowed is not None:
        found |= {
            "set": plan.allowed.set_name,
            "expression": plan.allowed.expression,
            "combination": list(plan.allowed.combination),
        }
    if plan.room is not None:
        found["device"] = plan.room.device
    return found
