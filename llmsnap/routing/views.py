"""The scheduler's books as ``/running`` and the loading remarks show them."""

from __future__ import annotations

from dataclasses import dataclass

from llmsnap.models import State
from llmsnap.routing import outlook
from llmsnap.routing.desk import Desk
from llmsnap.routing.durations import DurationStats
from llmsnap.routing.ledger import Entry


@dataclass(frozen=True, slots=True)
class ModelView:
    """One model now. Times are seconds from now, or ago where the name says *for*.

    *gate_open*: new requests are served as slots come free. *why* says what those who wait wait
    for, *eta_s* how long that may take; both empty when nobody waits. *rest_in_s* is when its idle
    clock runs out and *rest* where that leads. *backoff_s*: requests are refused for that long.
    """

    model_id: str
    state: State
    state_for_s: float
    gate_open: bool
    in_flight: int
    waiting: int
    oldest_in_flight_for_s: float | None
    oldest_waiting_for_s: float | None
    why: str
    eta_s: float | None
    rest_in_s: float | None
    rest: State | None
    failures: int
    backoff_s: float
    start: DurationStats
    wake: DurationStats
    sleep: DurationStats
    stop: DurationStats


def view(desk: Desk, entry: Entry) -> ModelView:
    """Return how *entry* stands."""
    now = desk.now
    oldest = entry.oldest
    rest = None if entry.leases or entry.wanted else entry.next_rest
    return ModelView(
        model_id=entry.model_id,
        state=entry.state,
        state_for_s=now - entry.since_s,
        gate_open=entry.open,
        in_flight=len(entry.leases),
        waiting=len(entry.waiters),
        oldest_in_flight_for_s=now - min(entry.leases.values()) if entry.leases else None,
        oldest_waiting_for_s=now - oldest.since_s if oldest else None,
        why=outlook.explain(desk, entry) if entry.wanted else "",
        eta_s=outlook.eta_s(desk, entry) if entry.wanted else None,
        rest_in_s=rest[0] - now if rest else None,
        rest=rest[1] if rest else None,
        failures=entry.backoff.failures,
        backoff_s=outlook.backoff_s(desk, entry) if entry.backoff.failures else 0.0,
        start=entry.starts.snapshot(),
        wake=entry.wakes.snapshot(),
        sleep=entry.sleeps.snapshot(),
        stop=entry.stops.snapshot(),
    )


def position(desk: Desk, ticket: int) -> int | None:
    """Return the place of a waiting request in the queue of its model, from 1."""
    waiter = desk.tickets.get(ticket)
    if waiter is None:
        return None
    return list(waiter.entry.waiters).index(ticket) + 1
