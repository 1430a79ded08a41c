"""Whose turn it is: which swaps begin, and when.

A swap is decided when its turn has come by the policy and nothing under way or ranked above it
touches the same models. From then on the gates of those it evicts are shut; when the last of them
is drained the driver is told to evict and load. Nobody who is serving is ever evicted.
"""

from __future__ import annotations

from collections.abc import Collection

from llmsnap.models import State
from llmsnap.routing.desk import Desk
from llmsnap.routing.effects import AbortLoad, Check, Outcome, StartSwap
from llmsnap.routing.ledger import LEAVING, Entry, Phase, Swap
from llmsnap.routing.plan import Footprint
from llmsnap.routing.policy import NEVER
from llmsnap.routing.swaps import Action, Eviction, LoadKind, SwapOutcome


class Turns:
    """Decides swaps, drains those who have to leave, and lets the driver begin."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def decide(self) -> None:
        """Let every swap begin that may begin now, in the order of rank."""
        desk = self._desk
        self._go_on()
        desk.watched.clear()
        under_way, above = Footprint(), Footprint()
        for swap in desk.swaps.values():
            desk.plan.cover(under_way, swap.footprint)
        for entry in self._contenders():
            if entry.checked and desk.plan.is_behind(above, entry.model_id):
                if desk.timers.get(("due", entry.model_id)) is None:
                    self._postpone(entry, (), NEVER)
                continue
            victims = self._victims(entry)
            models = frozenset({entry.model_id, *(victim.model_id for victim in victims)})
            at = NEVER
            if not desk.plan.clashes(above, models):
                at = self._begins_at(entry, victims, models, under_way)
            if at <= desk.now:
                self._begin(entry, victims, models)
            else:
                self._postpone(entry, victims, at)
            desk.plan.cover(above, models)

    def withdraw(self) -> None:
        """Take back all swaps that evicted nobody yet.

        Nobody is granted what they held back: a new decision may shut the same gates in the same
        step, and the caller grants what is open after it.
        """
        for swap in [swap for swap in self._desk.swaps.values() if swap.draining]:
            self._desk.end_swap(swap, SwapOutcome.ABORTED, "the configuration changed")

    def drop(self, swap: Swap) -> None:
        """Give up *swap*, which evicted nobody yet: the gates open again."""
        victims = list(swap.victims.values())
        self._desk.end_swap(swap, SwapOutcome.ABORTED, "nobody waits any more")
        for victim in victims:
            self._desk.fill(victim)

    def abort(self, swap: Swap) -> None:
        """Tell the driver to give *swap* up; it reports where that led."""
        if swap.aborting:
            return
        swap.aborting = True
        self._desk.out.append(AbortLoad(swap.work, swap.target.model_id))
        if swap.phase is Phase.LOAD:
            self._desk.move(swap.target, State.STOPPING)

    def reopen(self, work: int) -> None:
        """Open the gates of a long drain once more, until the requests of before have ended."""
        swap = self._desk.swaps.get(work)
        if swap is None or not swap.former:
            return
        swap.phase = Phase.REOPENED
        swap.reopened = True
        for victim in swap.victims.values():
            victim.refresh()
            self._desk.fill(victim)

    def load(self, swap: Swap) -> None:
        """Note that all have left and the driver loads the target."""
        target = swap.target
        swap.enter(Phase.LOAD, self._desk.now)
        swap.kind = target.load_kind
        waking = swap.kind is LoadKind.WAKE
        self._desk.move(target, State.WAKING if waking else State.STARTING)

    # --- the steps of a decision -----------------------------------------------------------

    def _go_on(self) -> None:
        """Drop the drains nobody waits for, and begin the swaps whose drain is over."""
        for swap in [swap for swap in self._desk.swaps.values() if swap.draining]:
            if not swap.target.waiters:
                self.drop(swap)
            else:
                self._evict_if_drained(swap)

    def _contenders(self) -> list[Entry]:
        """Return the models that wait for a load: those of clients by rank, then the sponsored."""
        desk = self._desk
        waiting = [
            e for e in desk.wanting.values() if e.swap is None and e.state is not State.READY
        ]
        clients = [entry for entry in waiting if entry.waiters]
        clients.sort(key=lambda entry: desk.policy.rank(entry, desk.now))
        sponsored = [entry for entry in waiting if not entry.waiters]
        sponsored.sort(key=_sponsor_rank)
        return clients + sponsored

    def _victims(self, entry: Entry) -> list[Entry]:
        desk = self._desk
        names = desk.plan.evicted_by(entry.model_id, desk.running)
        return [desk.running[name] for name in sorted(names)]

    def _begins_at(
        self,
        entry: Entry,
        victims: Collection[Entry],
        models: frozenset[str],
        under_way: Footprint,
    ) -> float:
        """Return when the swap to *entry* may be decided; NEVER: not before something else ends."""
        if self._desk.plan.clashes(under_way, models):
            self._make_room(entry)
            return NEVER
        if entry.state in LEAVING or entry.closing is not None:
            return NEVER
        if any(victim.state in LEAVING for victim in victims):
            return NEVER
        return self._desk.policy.due_at(entry, victims)

    def _make_room(self, entry: Entry) -> None:
        """Abort the loads that nobody waits for and that *entry* would evict.

        A preload counts as waiting, but not against a client.
        """
        desk = self._desk
        for swap in desk.swaps.values():
            target = swap.target
            if swap.draining or target.waiters or target.loads:
                continue
            if target.preload_since is not None and not entry.waiters:
                continue
            if desk.plan.evicts(entry.model_id, target.model_id):
                desk.end_preload(target, Outcome.SUPERSEDED)
                self.abort(swap)

    def _postpone(self, entry: Entry, victims: Collection[Entry], at: float) -> None:
        """Let *entry* wait, and look again at the next point in time that may change that."""
        desk = self._desk
        self._check(entry, victims)
        desk.watched.update(victim.model_id for victim in victims)
        if entry.waiters:
            at = min(at, desk.policy.rank_changes_at(entry, desk.now))
        if at == NEVER:
            desk.timers.cancel(("due", entry.model_id))
        else:
            desk.timers.set(("due", entry.model_id), at)

    def _begin(self, entry: Entry, victims: Collection[Entry], models: frozenset[str]) -> None:
        """Decide the swap: from now on *victims* take no new requests."""
        desk = self._desk
        now = desk.now
        asked_at = entry.asked_at
        swap = Swap(
            work=desk.next_number(),
            target=entry,
            victims={victim.model_id: victim for victim in victims},
            reason=_reason(entry),
            footprint=models,
            began_s=now,
            since_s=now,
            phases=[("wait", now - asked_at)],
        )
        entry.swap = desk.swaps[swap.work] = swap
        desk.timers.cancel(("due", entry.model_id))
        for victim in victims:
            victim.claim = swap
            victim.refresh()
            swap.former.update(victim.leases)
        if not self._evict_if_drained(swap):
            self._check(entry, victims)
            if desk.policy.reopen_after_s < NEVER:
                desk.timers.set(("reopen", swap.work), now + desk.policy.reopen_after_s)

    def _check(self, entry: Entry, victims: Collection[Entry]) -> None:
        """Have the driver find out early what cannot work."""
        if not entry.checked:
            entry.checked = True
            leaving = tuple(victim.model_id for victim in victims)
            self._desk.out.append(Check(entry.model_id, leaving))

    def _evict_if_drained(self, swap: Swap) -> bool:
        """Let the driver begin as soon as nobody who has to leave serves or moves."""
        target = swap.target
        if swap.phase is Phase.REOPENED or target.closing is not None:
            return False
        if any(v.leases or v.state in LEAVING for v in swap.victims.values()):
            return False
        desk = self._desk
        desk.timers.cancel(("reopen", swap.work))
        swap.enter(Phase.EVICT, desk.now)
        swap.kind = target.load_kind
        swap.evicted = tuple(Eviction(v.model_id, v.leave_by) for v in swap.victims.values())
        desk.out.append(StartSwap(swap.work, target.model_id, swap.kind, swap.evicted))
        for victim in swap.victims.values():
            sleeps = victim.leave_by is Action.SLEEP
            desk.move(victim, State.SLEEP_PENDING if sleeps else State.STOPPING)
        if not swap.victims:
            self.load(swap)
        return True


def _sponsor_rank(entry: Entry) -> tuple[int, float]:
    """Order models that only sponsors wait for: loads by hand first, then preloads."""
    return (0 if entry.loads else 1, entry.asked_at)


def _reason(entry: Entry) -> str:
    if entry.waiters:
        return "request"
    return "load" if entry.loads else "preload"
