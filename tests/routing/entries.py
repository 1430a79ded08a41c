"""Entries as the policies see them, without a scheduler around."""

from __future__ import annotations

from llmsnap.models import State
from llmsnap.routing.ledger import Entry, Waiter
from llmsnap.routing.rules import ModelRules


def waiting(model_id: str, *since_s: float, priority: int = 0, turn_ended: float = -1e9) -> Entry:
    """A stopped model with one waiter for each time."""
    entry = Entry(ModelRules(model_id, priority=priority), 0.0)
    entry.turn_ended = turn_ended
    for number, since in enumerate(since_s):
        entry.waiters[number] = Waiter(number, entry, since, number)
    return entry


def ready(model_id: str, ready_at: float, *, in_flight: int = 0) -> Entry:
    """A ready model, serving."""
    entry = Entry(ModelRules(model_id), 0.0)
    entry.state = State.READY
    entry.ready_at = ready_at
    entry.leases = {-1 - number: ready_at for number in range(in_flight)}
    entry.refresh()
    return entry
