"""The scheduler's state: models, waiters, swaps and their timers. Pure.

``SchedulerState`` holds all of it, as ``entries``. Only the methods of this module change it:
``scheduler`` and ``swaps`` decide and call them, so that what must happen together does.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Literal

from llmsnap.models import State
from llmsnap.routing.entries import (
    AT_REST,
    LEAVING,
    ModelState,
    PendingStop,
    Phase,
    Swap,
    Waiter,
)
from llmsnap.routing.messages import (
    CheckModel,
    CommandDone,
    Due,
    Effect,
    Eviction,
    Grant,
    Idled,
    LeaseReturned,
    LoadCancelled,
    LoadDone,
    LoadFailed,
    ModelRules,
    Outcome,
    PreloadEnded,
    RefusalReason,
    Refuse,
    RequestArrived,
    SchedulerOptions,
    SwapEnded,
    SwapOutcome,
)
from llmsnap.routing.policies import NEVER, POLICIES, Policy
from llmsnap.routing.residency import (
    Action,
    Answer,
    Groups,
    LoadKind,
    Plan,
    PlannedSwap,
    Residency,
)
from llmsnap.routing.timing import ANSWER_WEIGHT, HALF_LIFE_S, MIN_UPTIME_S, Timers

# --- the state of the scheduler -------------------------------------------------------------------

TimerKind = Literal["queue", "load", "preload", "idle", "due", "reopen", "drain", "check", "yield"]
TimerKey = tuple[TimerKind, int | str]


class SchedulerState:
    """The scheduler's whole state.

    *running* are the models that take room, *awaited* those that requests, loads by hand or a
    preload wait for, *tickets* the waiting requests, *active_stops* the models that a stop or sleep
    of their own concerns, by its number. *watched* are the models whose becoming idle may let a
    swap begin. *in_flight* counts the requests that all models serve, of which *limit* may be
    granted. *needs_replan*: the planner decides again at the end of the step.
    """

    def __init__(self, options: SchedulerOptions) -> None:
        self.now = 0.0
        self.effects: list[Effect] = []
        self.needs_replan = False
        self.shutting_down = False
        self.models: dict[str, ModelState] = {}
        self.running: dict[str, ModelState] = {}
        self.awaited: dict[str, ModelState] = {}
        self.removed: dict[str, ModelState] = {}
        self.tickets: dict[int, Waiter] = {}
        self.swaps: dict[int, Swap] = {}
        self.active_stops: dict[int, ModelState] = {}
        self.watched: set[str] = set()
        self.timers: Timers[TimerKey] = Timers()
        self.residency: Residency = Groups()
        self.options = options
        self.limit = options.concurrency_limit or sys.maxsize
        self.in_flight = 0
        self.policy: Policy = POLICIES[options.policy](options)
        self.last_number = 0

    # --- a step ----------------------------------------------------------------------------

    def begin_step(self, now: float) -> None:
        """Begin the step of one event at *now*, which has no effects yet."""
        self.now = now
        self.effects = []

    def set_clock(self, now: float) -> None:
        """Take *now* as the time that views and estimates refer to."""
        self.now = now

    def request_replan(self) -> None:
        """Have the planner decide again at the end of the step."""
        self.needs_replan = True

    def take_replan(self) -> bool:
        """Whether a new decision was requested since the last call."""
        requested, self.needs_replan = self.needs_replan, False
        return requested

    def pop_due(self) -> list[TimerKey]:
        """Return and forget the timers that are due, in order of their times."""
        return self.timers.pop_due(self.now)

    def next_number(self) -> int:
        """Return a number never returned before, larger than all earlier ones."""
        self.last_number += 1
        return self.last_number

    def count_from(self, number: int) -> None:
        """Return *number* or more from now on."""
        self.last_number = max(self.last_number, number - 1)

    # --- who leaves ------------------------------------------------------------------------

    def plan(
        self,
        target: ModelState,
        current: Plan | None = None,
        *,
        beside: ModelState | None = None,
        residency: Residency | None = None,
    ) -> Answer:
        """Return what the residency answers for *target*; *beside* counts as running.

        *current* is the plan of the swap to *target* that is draining. *residency* is another one
        than that in force, which it resembles.
        """
        running: Collection[str] = self.running.keys()
        if self.residency.replans:
            running = self._running_after_swaps(target)
        elif beside is not None and beside.model_id not in self.running:
            running = [*running, beside.model_id]
        residency = residency or self.residency
        return residency.plan(target.model_id, running, self.models, current, now=self.now)

    def _running_after_swaps(self, target: ModelState) -> list[str]:
        """Return what runs once the decided swaps are over, except that to *target*."""
        own = target.swap
        found = {
            name: None
            for name, model in self.running.items()
            if model.evicted_by is None or model.evicted_by is own
        }
        for swap in self.swaps.values():
            if swap is not own and not swap.aborting:
                found[swap.target.model_id] = None
        return list(found)

    def under_way(self, swap: Swap) -> PlannedSwap:
        """Return *swap* as other swaps must be compatible with it."""
        planned = swap.planned
        if not self.residency.replans:
            return planned
        left = replace(planned.plan, victims=tuple(sorted(swap.victims)))
        return PlannedSwap(planned.target, left)

    def victims_of(self, plan: Plan) -> list[ModelState]:
        """Return the models that *plan* evicts."""
        return [self.models[name] for name in plan.victims]

    def watch(self, victims: Iterable[ModelState]) -> None:
        """Decide again when one of *victims* becomes idle: that may let a swap begin."""
        self.watched.update(victim.model_id for victim in victims)

    def unwatch_all(self) -> None:
        """Watch no model for becoming idle."""
        self.watched.clear()

    # --- which models there are ------------------------------------------------------------

    def configure(self, residency: Residency, options: SchedulerOptions) -> None:
        """Decide by *residency* and *options* from now on."""
        self.residency = residency
        self.options = options
        self.limit = options.concurrency_limit or sys.maxsize
        self.policy = POLICIES[options.policy](options)

    def add_model(self, rules: ModelRules) -> None:
        """Add a stopped model."""
        self.models[rules.model_id] = ModelState(rules, self.now)

    def redefine(self, model: ModelState, rules: ModelRules) -> None:
        """Give *model* new limits and clocks."""
        model.rules = rules
        model.limit = rules.concurrency_limit
        self.timers.cancel(("idle", model.model_id))
        model.idle_armed = False
        self.arm_idle(model)

    def mark_removed(self, model: ModelState) -> None:
        """Note that *model* is no longer configured."""
        model.removed = True
        self.removed[model.model_id] = model

    def restore(self, model: ModelState) -> None:
        """Note that a removed *model*, of which something is left, is configured again."""
        del self.removed[model.model_id]
        model.removed = False

    def retire(self, model: ModelState) -> None:
        """Forget a removed *model* of which nothing is left."""
        del self.removed[model.model_id]
        del self.models[model.model_id]
        self.timers.cancel(("idle", model.model_id))

    def look_for_memory(self, after_s: float) -> None:
        """Have it looked at after *after_s* seconds whether models leave for other programs."""
        self.timers.set(("yield", 0), self.now + after_s)

    def begin_shutdown(self) -> None:
        """Note that no request is served from now on."""
        self.shutting_down = True

    def limit_drain(self, seconds: float) -> None:
        """Have the requests that a shutdown lets end cut after *seconds*."""
        self.timers.set(("drain", 0), self.now + seconds)

    def end_drain(self) -> None:
        """Forget the limit of ``limit_drain``: the shutdown is complete."""
        self.timers.cancel(("drain", 0))

    # --- where a model is ------------------------------------------------------------------

    def move(self, model: ModelState, to: State) -> None:
        """Note that *model* is in state *to* from now on."""
        if model.state is State.READY:
            self._end_turn(model)
        if to in LEAVING and model.state not in LEAVING:
            model.left_from = model.state
        model.state = to
        model.since_s = self.now
        model.stuck = False
        self._count_running(model)
        if to is State.READY:
            model.ready_at = model.idle_since = self.now
        model.refresh()
        self.arm_idle(model)
        self.needs_replan = True

    def arm_idle(self, model: ModelState) -> None:
        """Have the clocks of an idle *model* looked at when the first may run out."""
        rest = None if model.leases else model.next_rest
        if rest is not None:
            self.timers.set(("idle", model.model_id), rest[0])
            model.idle_armed = True

    def note_idle(self, model: ModelState) -> bool:
        """Note that the last request in flight is over; whether that set an idle clock."""
        model.uses = 1.0 + model.uses * 0.5 ** ((self.now - model.idle_since) / HALF_LIFE_S)
        model.idle_since = self.now
        if not model.idle_armed:
            self.arm_idle(model)
            return model.idle_armed
        return False

    def restart_idle(self, model: ModelState) -> None:
        """Count the idle time of *model*, which is waited for, from now on."""
        model.idle_since = self.now

    def disarm_idle(self, model: ModelState) -> None:
        """Note that the idle clock of *model* has gone off."""
        model.idle_armed = False

    def revert_leave(self, model: ModelState) -> None:
        """Note that *model*, which was to leave, did not after all: it is where it was before."""
        model.state = model.left_from
        model.since_s = model.ready_at
        model.refresh()
        self.arm_idle(model)
        self.needs_replan = True

    def release(self, model: ModelState) -> None:
        """Take *model* out of the swap that evicts it."""
        swap, model.evicted_by = model.evicted_by, None
        if swap is not None:
            swap.victims.pop(model.model_id, None)
            swap.requests_ended(model.leases)
        model.refresh()
        self.needs_replan = True

    def _count_running(self, model: ModelState) -> None:
        """Keep track of who takes room; one that is stopped out of its sleep does not."""
        name = model.model_id
        if model.state in AT_REST:
            self.running.pop(name, None)
        elif model.state is not State.STOPPING:
            self.running[name] = model

    def _end_turn(self, model: ModelState) -> None:
        model.turn_ended = self.now
        if self.now - model.ready_at >= MIN_UPTIME_S:
            model.backoff.clear()

    def note_exit(self, model: ModelState, error: Exception) -> bool:
        """Note that the process of *model* ended by itself; whether that counts as a failed load.

        It does within ``MIN_UPTIME_S`` of becoming ready.
        """
        premature = model.state is State.READY and self.now - model.ready_at < MIN_UPTIME_S
        if model.evicted_by is not None:
            self.release(model)
        self.move(model, State.STOPPED)
        if premature:
            self.note_failure(model, error)
        return premature

    def note_failure(self, model: ModelState, error: Exception) -> None:
        """Count a failure of *model*; starts wait longer after each."""
        model.backoff.fail(error, self.now)

    def note_blocked(self, model: ModelState, *, blocked: bool) -> None:
        """Note whether other programs hold the room of *model*."""
        model.blocked = blocked

    def note_retry(self, model: ModelState) -> None:
        """Note that those who wait for *model*, whose load failed, have it loaded again."""
        model.retries += 1
        self.needs_replan = True

    def forget_failures(self, model: ModelState) -> None:
        """Let the next request start *model*."""
        model.backoff.clear()

    def note_left(self, model: ModelState, event: Idled) -> None:
        """Note where the leaving of *model* led, and what it took."""
        self.move(model, event.state)
        model.stuck = event.state is State.STOPPING
        if event.error is None:
            action = Action.SLEEP if event.state is State.ASLEEP else Action.STOP
            model.durations(action).append(event.duration_s)

    # --- stops and sleeps of one model -----------------------------------------------------

    def shut_until(self, model: ModelState, to: State) -> PendingStop:
        """Shut the gate of *model* until it is stopped or asleep, as *to* says.

        Replaces a pending stop or sleep, which the caller answers.
        """
        model.pending_stop = pending = PendingStop(to)
        return pending

    def shut_until_checked(self, model: ModelState, limit_s: float) -> None:
        """Shut the gate of *model* until its server was checked, which begins within *limit_s*."""
        self.shut_until(model, State.STOPPED).if_faulty = True
        self.timers.set(("check", model.model_id), self.now + limit_s)

    def begin_check(self, model: ModelState, pending: PendingStop) -> None:
        """Have the server of *model* checked."""
        pending.check = self.next_number()
        self.timers.cancel(("check", model.model_id))
        self.effects.append(CheckModel(pending.check, model.model_id))

    def serve_waiters_first(self, pending: PendingStop) -> None:
        """Have those who wait now served before *pending* is carried out."""
        pending.served_first = self.next_number()

    def end_pending_stop(self, model: ModelState) -> None:
        """Let *model* be loaded again: its pending stop is carried out or given up."""
        model.pending_stop = None
        self.timers.cancel(("check", model.model_id))
        model.refresh()
        self.needs_replan = True

    def begin_stop(self, model: ModelState, to: State) -> int:
        """Note that *model* is stopped or put to sleep by itself; return the number of that."""
        work = self.next_number()
        self.active_stops[work] = model
        self.move(model, to)
        return work

    def end_stop(self, event: Idled) -> ModelState | None:
        """Note the end of what ``begin_stop`` began; return the model, None for any other end."""
        model = self.active_stops.get(event.work)
        if model is None or model.model_id != event.model_id:
            return None
        del self.active_stops[event.work]
        if model.evicted_by is not None:
            self.release(model)
        self.note_left(model, event)
        return model

    # --- swaps -----------------------------------------------------------------------------

    def postpone(self, model: ModelState, at: float) -> None:
        """Look at the swap to *model* again at *at*; NEVER: when something else ends."""
        if at == NEVER:
            self.timers.cancel(("due", model.model_id))
        else:
            self.timers.set(("due", model.model_id), at)

    def begin_swap(
        self,
        model: ModelState,
        victims: Iterable[ModelState],
        planned: PlannedSwap,
        reason: str,
        due: Due,
    ) -> Swap:
        """Decide the swap to *model*: from now on *victims* take no new requests."""
        swap = Swap(
            work=self.next_number(),
            target=model,
            victims={victim.model_id: victim for victim in victims},
            reason=reason,
            planned=planned,
            due=due,
            began_s=self.now,
            since_s=self.now,
            phases=[("wait", self.now - model.asked_at)],
        )
        swap.note_waiters()
        model.swap = self.swaps[swap.work] = swap
        if planned.plan.room is not None:
            # At once: other plans count the target as running there from now on.
            model.device = planned.plan.room.device
        self.timers.cancel(("due", model.model_id))
        for victim in swap.victims.values():
            victim.evicted_by = swap
            victim.refresh()
            swap.in_flight_before.update(victim.leases)
        return swap

    def limit_gates(self, swap: Swap) -> None:
        """Have the gates of *swap* opened once more when its drain takes too long."""
        if self.policy.reopen_after_s < NEVER:
            self.timers.set(("reopen", swap.work), self.now + self.policy.reopen_after_s)

    def reopen(self, swap: Swap) -> None:
        """Open the gates of *swap* until the requests of before have ended."""
        swap.phase = Phase.REOPENED
        swap.reopened = True
        for victim in swap.victims.values():
            victim.refresh()
            self.fill(victim)

    def begin_eviction(self, swap: Swap) -> None:
        """Note that the victims of *swap*, which is drained, leave."""
        self.timers.cancel(("reopen", swap.work))
        swap.enter(Phase.EVICT, self.now)
        swap.kind = swap.target.load_kind
        how = swap.planned.plan.how
        swap.evicted = tuple(
            Eviction(v.model_id, how.get(v.model_id, v.leave_by)) for v in swap.victims.values()
        )
        for victim, eviction in zip(list(swap.victims.values()), swap.evicted, strict=True):
            sleeps = eviction.action is Action.SLEEP
            self.move(victim, State.SLEEP_PENDING if sleeps else State.STOPPING)

    def victim_left(self, swap: Swap, victim: ModelState, event: Idled) -> None:
        """Note that *victim*, which *swap* evicts, is gone, or could not be stopped."""
        self.note_left(victim, event)
        swap.add_steps(event.steps)
        self.release(victim)
        swap.eviction_failed = swap.eviction_failed or victim.stuck

    def begin_load(self, swap: Swap) -> None:
        """Note that all victims have left and the driver loads the target."""
        target = swap.target
        swap.enter(Phase.LOAD, self.now)
        swap.kind = target.load_kind
        waking = swap.kind is LoadKind.WAKE
        self.move(target, State.WAKING if waking else State.STARTING)

    def hold_load(self, swap: Swap, why: str) -> None:
        """Note that the load of *swap* waits for memory, and why; empty: it begins."""
        swap.hold(why, self.now)

    def complete_swap(self, swap: Swap, event: LoadDone) -> None:
        """Note that the target is ready, grant it to its waiters, and end *swap*."""
        target = swap.target
        target.durations(event.kind).append(event.duration_s)
        swap.kind = event.kind
        swap.add_steps(event.steps)
        self.move(target, State.READY)
        target.loaded_by = swap.work
        target.retries = 0
        target.device = event.device or target.device
        self.end_loads(target, Outcome.OK)
        self.end_preload(target, Outcome.OK)
        waiting = list(target.waiters.values())[: self.free_slots(target)]
        swap.waits_s = tuple(self.now - waiter.since_s for waiter in waiting)
        swap.note_waiters()
        self.fill(target)
        self.end_swap(swap, SwapOutcome.DONE)

    def give_up_swap(
        self, swap: Swap, outcome: SwapOutcome, event: LoadFailed | LoadCancelled, error: str
    ) -> None:
        """End *swap*, whose target is not ready but where *event* says; victims left serve on.

        Before the load the target's state is its own.
        """
        victims = list(swap.victims.values())
        if swap.loading:
            swap.add_steps(event.steps)
            self.move(swap.target, event.state)
            swap.target.stuck = event.state is State.STOPPING
        self.end_swap(swap, outcome, error)
        for victim in victims:
            self.fill(victim)

    def end_swap(self, swap: Swap, outcome: SwapOutcome, error: str = "") -> None:
        """End *swap*; victims it did not evict stay ready."""
        del self.swaps[swap.work]
        swap.target.swap = None
        self.timers.cancel(("reopen", swap.work))
        for victim in swap.victims.values():
            victim.evicted_by = None
            if victim.state in LEAVING and not swap.draining:
                self.revert_leave(victim)
            victim.refresh()
        swap.note(self.now)
        swap.note_waiters()
        self.effects.append(SwapEnded(swap.record(outcome, error, self.now)))
        self.needs_replan = True

    # --- requests --------------------------------------------------------------------------

    def grant_at_once(self, request: RequestArrived, now: float) -> bool:
        """Begin the step of *request*; grant it if its model has a slot that no waiter claims."""
        self.now = now
        model = self.models.get(request.model_id)
        if (
            model is not None
            and model.open
            and not model.waiters
            and len(model.leases) < model.limit
            and self.in_flight < self.limit
        ):
            self.in_flight += 1
            model.leases[request.ticket] = now
            self.effects = [Grant(request.ticket, request.model_id)]
            return True
        self.effects = []
        return False

    def return_lease(self, event: LeaseReturned, now: float) -> ModelState | None:
        """Begin the step of *event*, whose slot the next waiter gets; return the model if idle."""
        self.now = now
        self.effects = []
        model = self.models.get(event.model_id)
        began = None if model is None else model.leases.pop(event.ticket, None)
        if model is None or began is None:
            return None
        model.answer_s += (now - began - model.answer_s) * ANSWER_WEIGHT
        was_full = self.is_full
        self.in_flight -= 1
        if model.evicted_by is not None:
            model.evicted_by.requests_ended((event.ticket,))
        if was_full:
            self.fill_all()
        elif model.waiters:
            self.fill(model)
        return None if model.leases else model

    def enqueue(self, model: ModelState, ticket: int, limit_s: float | None) -> None:
        """Let a request wait for *model*, at most *limit_s*."""
        waiter = Waiter(ticket, model, self.now, self.next_number())
        if not model.waiters and model.state is not State.READY:
            self.needs_replan = True
        model.waiters[ticket] = self.tickets[ticket] = waiter
        self.awaited[model.model_id] = model
        if limit_s is not None:
            self.timers.set(("queue", ticket), self.now + limit_s)

    @property
    def is_full(self) -> bool:
        """All models together serve as many requests as they may."""
        return self.in_flight >= self.limit

    def free_slots(self, model: ModelState) -> int:
        """Return how many further requests *model* may serve; less than 1 for none."""
        return min(model.limit - len(model.leases), self.limit - self.in_flight)

    def fill_all(self) -> None:
        """Grant free slots to those who wait for ready models, the oldest first."""
        for model in sorted(self.awaited.values(), key=lambda model: model.oldest_arrival):
            self.fill(model)

    def fill(self, model: ModelState) -> None:
        """Grant free slots to those who wait, oldest first, as far as the gate allows."""
        while model.waiters and model.serves and self.free_slots(model) > 0:
            waiter = next(iter(model.waiters.values()))
            pending_stop = model.pending_stop
            if pending_stop is not None and waiter.number > pending_stop.served_first:
                return
            self.forget(waiter)
            self.in_flight += 1
            model.leases[waiter.ticket] = self.now
            self.effects.append(Grant(waiter.ticket, model.model_id, self.now - waiter.since_s))

    def refuse(
        self,
        waiter: Waiter,
        reason: RefusalReason,
        *,
        why: str = "",
        retry_after_s: float | None = None,
        error: Exception | None = None,
    ) -> None:
        """Send *waiter* away."""
        model = waiter.model
        self.forget(waiter)
        self.effects.append(
            Refuse(
                waiter.ticket,
                model.model_id,
                reason,
                model.state,
                why=why,
                waited_s=self.now - waiter.since_s,
                retry_after_s=retry_after_s,
                error=error,
            )
        )

    def refuse_all(
        self,
        model: ModelState,
        reason: RefusalReason,
        *,
        why: str = "",
        retry_after_s: float | None = None,
        error: Exception | None = None,
    ) -> None:
        """Send all who wait for *model* away."""
        for waiter in list(model.waiters.values()):
            self.refuse(waiter, reason, why=why, retry_after_s=retry_after_s, error=error)

    def forget(self, waiter: Waiter) -> None:
        """Take *waiter* out of the queue."""
        model = waiter.model
        del model.waiters[waiter.ticket]
        del self.tickets[waiter.ticket]
        self.timers.cancel(("queue", waiter.ticket))
        self._forget_unwanted(model)

    # --- loads by hand and preloads --------------------------------------------------------

    def await_load(self, model: ModelState, command: int) -> None:
        """Let the load *command* wait for *model*, whatever failed before."""
        model.backoff.clear()
        model.loads[command] = self.now
        self._await(model, ("load", command))

    def await_preload(self, model: ModelState) -> None:
        """Let the preload of *model* wait."""
        model.preload_since = self.now
        self._await(model, ("preload", model.model_id))

    def _await(self, model: ModelState, deadline: TimerKey) -> None:
        self.awaited[model.model_id] = model
        self.needs_replan = True
        if self.options.queue_timeout_s > 0:
            self.timers.set(deadline, self.now + self.options.queue_timeout_s)

    def end_loads(
        self, model: ModelState, outcome: Outcome, error: Exception | None = None
    ) -> None:
        """Answer every load command that waits for *model*."""
        for command in list(model.loads):
            self.end_load(model, command, outcome, error)

    def end_load(
        self, model: ModelState, command: int, outcome: Outcome, error: Exception | None = None
    ) -> None:
        """Answer one load command that waits for *model*."""
        del model.loads[command]
        self.timers.cancel(("load", command))
        self.effects.append(CommandDone(command, outcome, error))
        self._forget_unwanted(model)

    def end_preload(
        self, model: ModelState, outcome: Outcome, error: Exception | None = None
    ) -> None:
        """Say how the preload of *model* ended, if one is under way."""
        if model.preload_since is None:
            return
        model.preload_since = None
        self.timers.cancel(("preload", model.model_id))
        self.effects.append(PreloadEnded(model.model_id, outcome, error))
        self._forget_unwanted(model)

    def _forget_unwanted(self, model: ModelState) -> None:
        """Note it when nothing waits for *model* any more."""
        if model.wanted:
            return
        self.awaited.pop(model.model_id, None)
        self.timers.cancel(("due", model.model_id))
        model.checked = model.blocked = False
        model.retries = 0
