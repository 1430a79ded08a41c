"""What the driver reports about swaps and processes, and what follows from it."""

from __future__ import annotations

from llmsnap.errors import in_full
from llmsnap.models import State
from llmsnap.routing import outlook
from llmsnap.routing.backoff import PROVEN_S
from llmsnap.routing.desk import Desk
from llmsnap.routing.effects import Outcome, Refusal
from llmsnap.routing.ledger import Entry, Phase, Swap
from llmsnap.routing.messages import (
    CheckFailed,
    Exited,
    FilesChanged,
    Idled,
    LoadAborted,
    Loaded,
    LoadFailed,
)
from llmsnap.routing.swaps import SwapOutcome
from llmsnap.routing.turns import Turns


class Progress:
    """Follows swaps from the driver's reports. Methods return the models that moved."""

    def __init__(self, desk: Desk, turns: Turns) -> None:
        self._desk = desk
        self._turns = turns

    def victim_left(self, swap: Swap, event: Idled) -> Entry | None:
        """Note that one of those to be evicted is gone; after the last one the load begins."""
        victim = swap.victims.get(event.model_id)
        if victim is None or swap.phase is not Phase.EVICT:
            return None
        self._desk.left(victim, event)
        self._desk.release(victim)
        swap.doomed = swap.doomed or victim.stuck
        if not (swap.victims or swap.aborting or swap.doomed):
            self._turns.load(swap)
        return victim

    def loaded(self, event: Loaded) -> list[Entry]:
        """Grant the target to all who wait, oldest first, before anybody else has a turn."""
        swap = self._current(event)
        if swap is None:
            return []
        desk, target = self._desk, swap.target
        target.durations(event.kind).append(event.duration_s)
        swap.kind = event.kind
        desk.move(target, State.READY)
        target.loaded_by = swap.work
        desk.end_loads(target, Outcome.OK)
        desk.end_preload(target, Outcome.OK)
        waiting = list(target.waiters.values())[: target.limit - len(target.leases)]
        swap.waits_s = tuple(desk.now - waiter.since_s for waiter in waiting)
        desk.fill(target)
        desk.end_swap(swap, SwapOutcome.DONE)
        return [target]

    def failed(self, event: LoadFailed) -> list[Entry]:
        """Tell all who wait, unless the load was to be given up anyway."""
        swap = self._current(event)
        if swap is None:
            return []
        moved = self._end(swap, SwapOutcome.FAILED, event.state, in_full(event.error))
        if not swap.aborting:
            self._fail(swap.target, event.error)
        return moved

    def aborted(self, event: LoadAborted) -> list[Entry]:
        """Leave those who wait in the queue: their model is loaded again in its turn."""
        swap = self._current(event)
        if swap is None:
            return []
        return self._end(swap, SwapOutcome.ABORTED, event.state, "")

    def check_failed(self, event: CheckFailed) -> None:
        """Refuse at once what can never load, before anybody is disturbed for it."""
        entry = self._desk.entries.get(event.model_id)
        if entry is None or entry.state is State.READY or not entry.wanted:
            return
        if entry.swap is not None:
            if not entry.swap.draining:
                return
            self._turns.drop(entry.swap)
        self._fail(entry, event.error)

    def exited(self, event: Exited) -> Entry | None:
        """Note a crash. Within ``PROVEN_S`` of becoming ready it counts as a failed load.

        Those who wait have their model loaded again, unless it has to wait for that.
        """
        desk = self._desk
        entry = desk.entries.get(event.model_id)
        if entry is None or not (entry.stuck or _is_present(entry, event)):
            return None
        premature = entry.state is State.READY and desk.now - entry.ready_at < PROVEN_S
        if entry.claim is not None:
            desk.release(entry)
        desk.move(entry, State.STOPPED)
        if premature:
            entry.backoff.fail(event.error, desk.now)
            if outlook.backoff_s(desk, entry) > 0:
                self._turn_away(entry, event.error)
        return entry

    def files_changed(self, event: FilesChanged) -> None:
        """Let the next request start a model whose failures may have ended with its old files."""
        entry = self._desk.entries.get(event.model_id)
        if entry is not None:
            entry.backoff.clear()

    def _current(self, event: Loaded | LoadFailed | LoadAborted) -> Swap | None:
        """Return the swap *event* is about, None when it is long over."""
        swap = self._desk.swaps.get(event.work)
        if swap is None or swap.draining or swap.target.model_id != event.model_id:
            return None
        return swap

    def _end(self, swap: Swap, outcome: SwapOutcome, state: State, error: str) -> list[Entry]:
        """End *swap* without a ready target. Before the load the target's state is its own.

        Returns the target, and those that stay after all.
        """
        victims = list(swap.victims.values())
        if swap.phase is Phase.LOAD:
            self._desk.move(swap.target, state)
            swap.target.stuck = state is State.STOPPING
        self._desk.end_swap(swap, outcome, error)
        for victim in victims:
            self._desk.fill(victim)
        return [swap.target, *victims]

    def _fail(self, entry: Entry, error: Exception) -> None:
        """Count a failure of *entry* and tell all who wait for it."""
        entry.backoff.fail(error, self._desk.now)
        self._turn_away(entry, error)

    def _turn_away(self, entry: Entry, error: Exception) -> None:
        desk = self._desk
        retry_after_s = outlook.backoff_s(desk, entry) or None
        desk.refuse_all(entry, Refusal.FAILED, error=error, retry_after_s=retry_after_s)
        desk.end_loads(entry, Outcome.FAILED, error)
        desk.end_preload(entry, Outcome.FAILED, error)


def _is_present(entry: Entry, event: Exited) -> bool:
    """Tell whether *event* is about the process that is ready or asleep now."""
    return entry.loaded_by == event.work and entry.state in (State.READY, State.ASLEEP)
