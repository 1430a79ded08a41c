"""What the parts of the scheduler share: the books, the clock of this step and its effects.

All moves of a model's state, all grants and all refusals are made here, so that what must happen
together does.
"""

from __future__ import annotations

from typing import Literal

from llmsnap.models import State
from llmsnap.routing.backoff import PROVEN_S
from llmsnap.routing.effects import (
    Answer,
    Effect,
    Grant,
    Outcome,
    PreloadEnded,
    Refusal,
    Refuse,
    SwapFinished,
)
from llmsnap.routing.fair import Fair
from llmsnap.routing.fifo import Fifo
from llmsnap.routing.ledger import AT_REST, LEAVING, Entry, Swap, Waiter
from llmsnap.routing.messages import Idled
from llmsnap.routing.plan import Plan
from llmsnap.routing.policy import Policy
from llmsnap.routing.rules import Options, PolicyName
from llmsnap.routing.swaps import Action, SwapOutcome
from llmsnap.routing.timers import Timers

TimerKind = Literal["queue", "load", "preload", "idle", "due", "reopen", "drain"]
TimerKey = tuple[TimerKind, int | str]


def choose_policy(options: Options) -> Policy:
    """Return the policy *options* ask for."""
    match options.policy:
        case PolicyName.FAIR:
            return Fair(options.max_hold_s)
        case PolicyName.FIFO:
            return Fifo()


class Desk:
    """The scheduler's whole state.

    *running* are the models that take room, *wanting* those that requests or sponsors wait for,
    *tickets* the waiting requests, *works* the stops and sleeps under way. *watched* are the models
    whose becoming idle may let a swap begin. *dirty* asks for a new look at which swaps may begin,
    at the end of the step.
    """

    def __init__(self, options: Options) -> None:
        self.now = 0.0
        self.out: list[Effect] = []
        self.dirty = False
        self.shutting_down = False
        self.entries: dict[str, Entry] = {}
        self.running: dict[str, Entry] = {}
        self.wanting: dict[str, Entry] = {}
        self.removed: dict[str, Entry] = {}
        self.tickets: dict[int, Waiter] = {}
        self.swaps: dict[int, Swap] = {}
        self.works: dict[int, Entry] = {}
        self.watched: set[str] = set()
        self.timers: Timers[TimerKey] = Timers()
        self.plan = Plan()
        self.options = options
        self.policy: Policy = choose_policy(options)
        self.last_number = 0

    def next_number(self) -> int:
        """Return a number never returned before, larger than all earlier ones."""
        self.last_number += 1
        return self.last_number

    def count_from(self, number: int) -> None:
        """Return *number* or more from now on."""
        self.last_number = max(self.last_number, number - 1)

    # --- where a model is ------------------------------------------------------------------

    def move(self, entry: Entry, state: State) -> None:
        """Note that *entry* is in *state* from now on."""
        if entry.state is State.READY:
            self._end_turn(entry)
        entry.state = state
        entry.since_s = self.now
        entry.stuck = False
        self._count_running(entry)
        if state is State.READY:
            entry.ready_at = entry.idle_since = self.now
        entry.refresh()
        self.arm_idle(entry)
        self.dirty = True

    def arm_idle(self, entry: Entry) -> None:
        """Have the clocks of an idle *entry* looked at when the first may run out."""
        rest = None if entry.leases else entry.next_rest
        if rest is not None:
            self.timers.set(("idle", entry.model_id), rest[0])
            entry.idle_armed = True

    def stay(self, entry: Entry) -> None:
        """Note that *entry*, which was to leave, did not after all: it is ready as before."""
        entry.state = State.READY
        entry.since_s = entry.ready_at
        entry.refresh()
        self.arm_idle(entry)
        self.dirty = True

    def release(self, entry: Entry) -> None:
        """Take *entry* out of the swap it was to leave for; what was owed to that swap is void."""
        claim, entry.claim = entry.claim, None
        if claim is not None:
            claim.victims.pop(entry.model_id, None)
            claim.settle(entry.leases)
        entry.refresh()
        self.dirty = True

    def _count_running(self, entry: Entry) -> None:
        """Keep track of who takes room; one that is stopped out of its sleep does not."""
        name = entry.model_id
        if entry.state in AT_REST:
            self.running.pop(name, None)
        elif entry.state is not State.STOPPING:
            self.running[name] = entry

    def _end_turn(self, entry: Entry) -> None:
        entry.turn_ended = self.now
        if self.now - entry.ready_at >= PROVEN_S:
            entry.backoff.clear()

    def left(self, entry: Entry, event: Idled) -> None:
        """Note where the leaving of *entry* led, and what it took."""
        self.move(entry, event.state)
        entry.stuck = event.state is State.STOPPING
        if event.error is None:
            action = Action.SLEEP if event.state is State.ASLEEP else Action.STOP
            entry.durations(action).append(event.duration_s)

    def end_swap(self, swap: Swap, outcome: SwapOutcome, error: str = "") -> None:
        """Close the books on *swap*; those it did not evict after all are free again."""
        del self.swaps[swap.work]
        swap.target.swap = None
        self.timers.cancel(("reopen", swap.work))
        for victim in swap.victims.values():
            victim.claim = None
            if victim.state in LEAVING and not swap.draining:
                self.stay(victim)
            victim.refresh()
        swap.note(self.now)
        self.out.append(SwapFinished(swap.record(outcome, error, self.now)))
        self.dirty = True

    # --- requests --------------------------------------------------------------------------

    def fill(self, entry: Entry) -> None:
        """Grant free slots to those who wait, oldest first, as far as the gate allows."""
        while entry.waiters and entry.serves and len(entry.leases) < entry.limit:
            waiter = next(iter(entry.waiters.values()))
            closing = entry.closing
            if closing is not None and waiter.number > closing.owed:
                return
            self.forget(waiter)
            entry.leases[waiter.ticket] = self.now
            self.out.append(Grant(waiter.ticket, entry.model_id, self.now - waiter.since_s))

    def refuse(
        self,
        waiter: Waiter,
        reason: Refusal,
        *,
        why: str = "",
        retry_after_s: float | None = None,
        error: Exception | None = None,
    ) -> None:
        """Send *waiter* away."""
        entry = waiter.entry
        self.forget(waiter)
        self.out.append(
            Refuse(
                waiter.ticket,
                entry.model_id,
                reason,
                entry.state,
                why=why,
                waited_s=self.now - waiter.since_s,
                retry_after_s=retry_after_s,
                error=error,
            )
        )

    def refuse_all(
        self,
        entry: Entry,
        reason: Refusal,
        *,
        retry_after_s: float | None = None,
        error: Exception | None = None,
    ) -> None:
        """Send all who wait for *entry* away."""
        for waiter in list(entry.waiters.values()):
            self.refuse(waiter, reason, retry_after_s=retry_after_s, error=error)

    def forget(self, waiter: Waiter) -> None:
        """Take *waiter* out of the queue."""
        entry = waiter.entry
        del entry.waiters[waiter.ticket]
        del self.tickets[waiter.ticket]
        self.timers.cancel(("queue", waiter.ticket))
        self._forget_unwanted(entry)

    # --- sponsors --------------------------------------------------------------------------

    def end_loads(self, entry: Entry, outcome: Outcome, error: Exception | None = None) -> None:
        """Answer every load command that waits for *entry*."""
        for command in list(entry.loads):
            self.end_load(entry, command, outcome, error)

    def end_load(
        self, entry: Entry, command: int, outcome: Outcome, error: Exception | None = None
    ) -> None:
        """Answer one load command that waits for *entry*."""
        del entry.loads[command]
        self.timers.cancel(("load", command))
        self.out.append(Answer(command, outcome, error))
        self._forget_unwanted(entry)

    def end_preload(self, entry: Entry, outcome: Outcome, error: Exception | None = None) -> None:
        """Say how the preload of *entry* ended, if one is under way."""
        if entry.preload_since is None:
            return
        entry.preload_since = None
        self.timers.cancel(("preload", entry.model_id))
        self.out.append(PreloadEnded(entry.model_id, outcome, error))
        self._forget_unwanted(entry)

    def _forget_unwanted(self, entry: Entry) -> None:
        """Note it when nobody waits for *entry* any more."""
        if entry.wanted:
            return
        self.wanting.pop(entry.model_id, None)
        self.timers.cancel(("due", entry.model_id))
        entry.checked = False
