"""Entries as the policies see them, without a scheduler around."""

from llmsnap.models import State
from llmsnap.routing.entries import ModelState, Waiter
from llmsnap.routing.messages import ModelRules


def waiting(
    model_id: str, *since_s: float, priority: int = 0, turn_ended: float = -1e9
) -> ModelState:
    """A stopped model with one waiter for each time."""
    model = ModelState(ModelRules(model_id, priority=priority), 0.0)
    model.turn_ended = turn_ended
    for number, since in enumerate(since_s):
        model.waiters[number] = Waiter(number, model, since, number)
    return model


def ready(model_id: str, ready_at: float, *, in_flight: int = 0) -> ModelState:
    """A ready model, serving."""
    model = ModelState(ModelRules(model_id), 0.0)
    model.state = State.READY
    model.ready_at = ready_at
    model.leases = {-1 - number: ready_at for number in range(in_flight)}
    model.refresh()
    return model
