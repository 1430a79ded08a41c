"""Swaps: which begin and when, and what follows from the driver's reports. Pure.

A swap is decided when the policy says it is due and no active or higher-ranked swap touches the
same models. From then on the gates of its victims are shut; when the last victim is drained the
driver evicts them and loads the target. A model with requests in flight is never evicted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace

from llmsnap.errors import ModelDoesNotFit, in_full
from llmsnap.models import State
from llmsnap.routing import explain
from llmsnap.routing.entries import LEAVING, ModelState, Phase, Swap
from llmsnap.routing.memory import is_node
from llmsnap.routing.messages import (
    AbortLoad,
    CheckFailed,
    CheckStart,
    Due,
    Exited,
    FilesChanged,
    Idled,
    LoadCancelled,
    LoadDone,
    LoadFailed,
    LoadHeld,
    Outcome,
    RefusalReason,
    StartSwap,
    SwapOutcome,
)
from llmsnap.routing.policies import NEVER
from llmsnap.routing.residency import Blocked, NeverFits, Plan, PlannedSwap, SwapSet
from llmsnap.routing.state import SchedulerState

MIN_RECHECK_S = 0.1
"""The shortest time after which a blocked residency is asked again."""
RETRIES = 3
"""How often a model that found no machine is tried again, each time after others have left."""

# --- decisions -----------------------------------------------------------------------------------


class SwapPlanner:
    """Decides swaps, drains those who have to leave, and lets the driver begin."""

    def __init__(self, state: SchedulerState) -> None:
        self._state = state

    def decide(self) -> None:
        """Let every swap begin that may begin now, in the order of rank."""
        state = self._state
        self._advance_drains()
        state.unwatch_all()
        active, above = state.residency.swap_set(), state.residency.swap_set()
        for swap in state.swaps.values():
            active.add(state.under_way(swap))
        for model in self._contenders():
            if model.checked and above.blocks(model.model_id):
                if state.timers.get(("due", model.model_id)) is None:
                    self._postpone(model, (), NEVER)
                continue
            plan = state.plan(model)
            if isinstance(plan, Plan):
                above.add(self._decide(model, plan, active, above))
            else:
                self._hold_off(model, plan)
        if any(swap.draining for swap in state.swaps.values()):
            self._watch(())

    def cancel_undecided(self) -> None:
        """Cancel all swaps that are still draining.

        Requests they held back are not granted: a new decision may shut the same gates in the same
        step, and the caller grants what is open after it.
        """
        for swap in [swap for swap in self._state.swaps.values() if swap.draining]:
            self._state.end_swap(swap, SwapOutcome.ABORTED, "the configuration changed")

    def drop(self, swap: Swap, why: str = "no request waits for it any more") -> None:
        """Give up *swap*, which is still draining: the gates open again."""
        victims = list(swap.victims.values())
        self._state.end_swap(swap, SwapOutcome.ABORTED, why)
        for victim in victims:
            self._state.fill(victim)

    def abort(self, swap: Swap) -> None:
        """Tell the driver to give *swap* up; it reports where that led."""
        if swap.aborting:
            return
        swap.mark_aborting()
        self._state.effects.append(AbortLoad(swap.work, swap.target.model_id))
        if swap.loading:
            self._state.move(swap.target, State.STOPPING)

    def reopen(self, work: int) -> None:
        """Open the gates of a long drain once more, until the requests of before have ended."""
        swap = self._state.swaps.get(work)
        if swap is None or not swap.in_flight_before:
            return
        self._state.reopen(swap)

    # --- the steps of a decision -----------------------------------------------------------

    def _decide(
        self, model: ModelState, plan: Plan, active: SwapSet, above: SwapSet
    ) -> PlannedSwap:
        """Let the swap to *model* begin, or postpone it; return it."""
        self._state.note_blocked(model, blocked=False)
        victims = self._state.victims_of(plan)
        planned = PlannedSwap(model.model_id, plan)
        due = None
        if above.admits(planned) and self._may_begin(model, victims, planned, active):
            due = self._state.policy.due(model, victims)
        if due is not None and due.at <= self._state.now:
            self._begin(model, victims, planned, due)
        else:
            self._postpone(model, victims, NEVER if due is None else due.at)
        return planned

    def _advance_drains(self) -> None:
        """Drop drains without waiters or of a former plan, begin the swaps whose drain is over."""
        for swap in [swap for swap in self._state.swaps.values() if swap.draining]:
            if not swap.target.waiters:
                self.drop(swap)
            elif self._is_outdated(swap):
                self.drop(swap, "there is a better plan")
            else:
                self._evict_if_drained(swap)

    def _is_outdated(self, swap: Swap) -> bool:
        """Tell whether other models than those of *swap* are to leave for its target now."""
        if not self._state.residency.replans:
            return False
        plan = self._state.plan(swap.target, swap.planned.plan)
        if not isinstance(plan, Plan) or set(plan.victims) != swap.victims.keys():
            return True
        return _device(plan) != _device(swap.planned.plan)

    def _contenders(self) -> list[ModelState]:
        """Return the models that wait for a load: those with requests by rank, then the others."""
        state = self._state
        waiting = [
            model
            for model in state.awaited.values()
            if model.swap is None and model.state is not State.READY
        ]
        clients = [model for model in waiting if model.waiters]
        clients.sort(key=lambda model: state.policy.rank(model, state.now))
        others = [model for model in waiting if not model.waiters]
        others.sort(key=_load_rank)
        return clients + others

    def _hold_off(self, model: ModelState, answer: NeverFits | Blocked) -> None:
        """Refuse all who wait for *model*, or let them wait on, as the residency answered."""
        if isinstance(answer, NeverFits):
            self._refuse_for_good(model, answer.reason)
        else:
            state = self._state
            state.note_blocked(model, blocked=True)
            self._postpone(model, (), state.now + max(answer.recheck_s, MIN_RECHECK_S))
            self._watch(state.running.values())

    def _refuse_for_good(self, model: ModelState, reason: str) -> None:
        """Refuse all who wait for *model*, which can never load."""
        error = ModelDoesNotFit(f"{model.model_id} does not fit", detail=f": {reason}")
        self._state.refuse_all(model, RefusalReason.NEVER_FITS, why=reason)
        self._state.end_loads(model, Outcome.FAILED, error)
        self._state.end_preload(model, Outcome.FAILED, error)

    def _may_begin(
        self,
        model: ModelState,
        victims: Collection[ModelState],
        planned: PlannedSwap,
        active: SwapSet,
    ) -> bool:
        """Tell whether the swap to *model* may be decided before something else ends."""
        if not active.admits(planned):
            self._abort_unwanted_loads(model)
            return False
        if model.state in LEAVING or model.pending_stop is not None:
            return False
        return not any(victim.state in LEAVING for victim in victims)

    def _abort_unwanted_loads(self, model: ModelState) -> None:
        """Abort the loads without waiters that *model* would evict.

        A preload counts as waiting, but not against a client.
        """
        state = self._state
        for swap in state.swaps.values():
            target = swap.target
            if swap.draining or target.waiters or target.loads:
                continue
            if target.preload_since is not None and not model.waiters:
                continue
            plan = state.plan(model, beside=target)
            if isinstance(plan, Plan) and target.model_id in plan.victims:
                state.end_preload(target, Outcome.SUPERSEDED)
                self.abort(swap)

    def _postpone(self, model: ModelState, victims: Collection[ModelState], at: float) -> None:
        """Let *model* wait, and look again at the next point in time that may change that."""
        state = self._state
        self._check(model, victims)
        self._watch(victims)
        if model.waiters:
            at = min(at, state.policy.rank_changes_at(model, state.now))
        state.postpone(model, at)

    def _watch(self, victims: Iterable[ModelState]) -> None:
        """Decide again when one of *victims* becomes idle, or any model if that changes plans."""
        state = self._state
        state.watch(state.running.values() if state.residency.replans else victims)

    def _begin(
        self, model: ModelState, victims: Collection[ModelState], planned: PlannedSwap, due: Due
    ) -> None:
        """Decide the swap: from now on *victims* take no new requests."""
        swap = self._state.begin_swap(model, victims, planned, _reason(model), due)
        if not self._evict_if_drained(swap):
            self._check(model, victims)
            self._state.limit_gates(swap)

    def _check(self, model: ModelState, victims: Collection[ModelState]) -> None:
        """Have the driver find out early what cannot work."""
        if not model.checked:
            model.note_checked()
            leaving = tuple(victim.model_id for victim in victims)
            self._state.effects.append(CheckStart(model.model_id, leaving))

    def _evict_if_drained(self, swap: Swap) -> bool:
        """Let the driver begin as soon as no victim serves or moves."""
        target = swap.target
        if swap.phase is Phase.REOPENED or target.pending_stop is not None:
            return False
        if any(v.leases or v.state in LEAVING for v in swap.victims.values()):
            return False
        state = self._state
        state.begin_eviction(swap)
        start = StartSwap(swap.work, target.model_id, swap.kind, swap.evicted)
        plan = swap.planned.plan
        if plan.room is not None and not any(map(is_node, plan.room.names)):
            start = replace(start, device=plan.room.device, room=plan.room.by_device)
        state.effects.append(start)
        if not swap.victims:
            state.begin_load(swap)
        return True


def _device(plan: Plan) -> str:
    """Return the GPU on which a plan places its target; "" where it places it on none."""
    return plan.room.device if plan.room is not None else ""


def _load_rank(model: ModelState) -> tuple[int, float]:
    """Order models without requests: loads by hand first, then preloads."""
    return (0 if model.loads else 1, model.asked_at)


def _reason(model: ModelState) -> str:
    if model.waiters:
        return "request"
    return "load" if model.loads else "preload"


# --- reports of the driver -----------------------------------------------------------------------


class Reports:
    """Follows swaps from the driver's reports. Methods return the models that moved."""

    def __init__(self, state: SchedulerState, planner: SwapPlanner) -> None:
        self._state = state
        self._planner = planner

    def victim_left(self, swap: Swap, event: Idled) -> ModelState | None:
        """Note that one of those to be evicted is gone; after the last one the load begins."""
        victim = swap.victims.get(event.model_id)
        if victim is None or swap.phase is not Phase.EVICT:
            return None
        self._state.victim_left(swap, victim, event)
        if not (swap.victims or swap.aborting or swap.eviction_failed):
            self._state.begin_load(swap)
        return victim

    def held(self, event: LoadHeld) -> None:
        """Note that a load waits for memory, or waits no longer."""
        swap = self._current(event)
        if swap is not None and swap.loading:
            self._state.hold_load(swap, event.why)

    def loaded(self, event: LoadDone) -> list[ModelState]:
        """Grant the target to its waiters, oldest first, before another swap may begin."""
        swap = self._current(event)
        if swap is None:
            return []
        self._state.complete_swap(swap, event)
        return [swap.target]

    def failed(self, event: LoadFailed) -> list[ModelState]:
        """Refuse all who wait, unless the load was aborted, or may work once more room is made."""
        swap = self._current(event)
        if swap is None:
            return []
        target = swap.target
        moved = self._end(swap, SwapOutcome.FAILED, event, in_full(event.error))
        if swap.aborting:
            return moved
        if not self._tries_again(target, event):
            self._fail(target, event.error)
        return moved

    def _tries_again(self, target: ModelState, event: LoadFailed) -> bool:
        """Have *target* loaded once more where that may work: with more memory, or a machine."""
        most = RETRIES if event.unplaced else int(event.lacked)
        if not target.wanted or target.retries >= most:
            return False
        self._state.note_retry(target)
        answer = self._state.plan(target)
        return event.lacked or (isinstance(answer, Plan) and bool(answer.victims))

    def aborted(self, event: LoadCancelled) -> list[ModelState]:
        """Leave the waiters in the queue: their model is loaded again in its turn."""
        swap = self._current(event)
        if swap is None:
            return []
        return self._end(swap, SwapOutcome.ABORTED, event, "")

    def check_failed(self, event: CheckFailed) -> None:
        """Refuse at once what cannot start, before a model is evicted for it."""
        model = self._state.models.get(event.model_id)
        if model is None or model.state is State.READY or not model.wanted:
            return
        if model.swap is not None:
            if not model.swap.draining:
                return
            self._planner.drop(model.swap)
        self._fail(model, event.error)

    def exited(self, event: Exited) -> ModelState | None:
        """Note a crash. Within ``MIN_UPTIME_S`` of becoming ready it counts as a failed load.

        Those who wait have their model loaded again, unless it has to wait for that.
        """
        state = self._state
        model = state.models.get(event.model_id)
        if model is None or not (model.stuck or _is_present(model, event)):
            return None
        if state.note_exit(model, event.error) and explain.backoff_s(state, model) > 0:
            self._refuse_waiting(model, event.error)
        return model

    def files_changed(self, event: FilesChanged) -> None:
        """Let the next request start a model whose failures may have ended with its old files."""
        model = self._state.models.get(event.model_id)
        if model is not None:
            self._state.forget_failures(model)

    def _current(self, event: LoadHeld | LoadDone | LoadFailed | LoadCancelled) -> Swap | None:
        """Return the swap *event* is about, None when it is long over."""
        swap = self._state.swaps.get(event.work)
        if swap is None or swap.draining or swap.target.model_id != event.model_id:
            return None
        return swap

    def _end(
        self, swap: Swap, outcome: SwapOutcome, event: LoadFailed | LoadCancelled, error: str
    ) -> list[ModelState]:
        """End *swap* without a ready target; return the target, and those that stay after all."""
        victims = list(swap.victims.values())
        self._state.give_up_swap(swap, outcome, event, error)
        return [swap.target, *victims]

    def _fail(self, model: ModelState, error: Exception) -> None:
        """Count a failure of *model* and refuse all who wait for it."""
        self._state.note_failure(model, error)
        self._refuse_waiting(model, error)

    def _refuse_waiting(self, model: ModelState, error: Exception) -> None:
        state = self._state
        retry_after_s = explain.backoff_s(state, model) or None
        state.refuse_all(model, RefusalReason.FAILED, error=error, retry_after_s=retry_after_s)
        state.end_loads(model, Outcome.FAILED, error)
        state.end_preload(model, Outcome.FAILED, error)


def _is_present(model: ModelState, event: Exited) -> bool:
    """Tell whether *event* is about the process that is ready or asleep now."""
    return model.loaded_by == event.work and model.state in (State.READY, State.ASLEEP)
