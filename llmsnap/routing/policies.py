"""Policies decide when: the order of waiting models, and the time from which a swap may shut gates.

``POLICIES`` maps the words of ``routing.scheduler.use`` to classes: a new policy is one class and
one entry. Who has to leave is the matter of ``residency``, everything else is mechanism in
``swaps``. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Protocol

from llmsnap.routing.messages import Due, DueRule, SchedulerOptions

AT_ONCE = float("-inf")
NEVER = float("inf")

Rank = tuple[float, ...]


class Candidate(Protocol):
    """What a policy reads of a model: one that waits for a load, or one that may have to leave.

    Times are on the scheduler's clock.
    """

    @property
    def priority(self) -> int:
        """Higher goes first."""

    @property
    def oldest_arrival(self) -> float:
        """When the oldest waiting request for it came; plus infinity when none waits."""

    @property
    def turn_ended(self) -> float:
        """When it stopped being ready the last time; minus infinity if it never was."""

    @property
    def ready_at(self) -> float:
        """When it became ready the last time."""

    @property
    def busy(self) -> bool:
        """Requests are in flight or waiting."""

    @property
    def load_estimate_s(self) -> float:
        """How long its load, or its wake when asleep, is likely to take."""

    @property
    def leave_estimate_s(self) -> float:
        """How long its stop or sleep is likely to take."""


def swap_estimate_s(target: Candidate, victims: Collection[Candidate]) -> float:
    """Return how long evicting *victims* side by side, then loading *target*, is likely to take.

    Drains are not counted.
    """
    return target.load_estimate_s + max((v.leave_estimate_s for v in victims), default=0.0)


def _due_at_once(victims: Collection[Candidate]) -> Due:
    return Due(AT_ONCE, DueRule.IDLE if victims else DueRule.FREE)


class Policy(Protocol):
    """One way to share the room between models."""

    def rank(self, target: Candidate, now: float) -> Rank:
        """Return what *target* is sorted by; the smallest goes first."""

    def rank_changes_at(self, target: Candidate, now: float) -> float:
        """Return when the rank changes by the passing of time alone, NEVER if it does not."""

    def due(self, target: Candidate, victims: Collection[Candidate]) -> Due:
        """Return when all gates of *victims* may shut for *target*, and by which rule.

        AT_ONCE when all victims are idle; NEVER: not before they are idle by themselves.
        """

    @property
    def reopen_after_s(self) -> float:
        """How long a drain keeps the gates shut before they open once more."""


class Fair:
    """Every wait is bounded, and a swap does not begin before it pays.

    A waiting model is held off for as long as its swap is likely to take, and a loaded one keeps
    its turn for twice that, neither longer than ``maxHold``; so two thirds of the time go into
    serving, as long as swaps are short, however the requests are mixed.
    """

    def __init__(self, options: SchedulerOptions) -> None:
        self.max_hold_s = options.max_hold_s

    def rank(self, target: Candidate, now: float) -> Rank:
        """Those that waited longer than ``maxHold`` first, then by priority, then by age.

        Of two that began to wait in the same moment, the one served longer ago goes first.
        """
        since = waiting_since(target)
        if since + self.max_hold_s <= now:
            return (0, 0, since, target.turn_ended)
        return (1, -target.priority, since, target.turn_ended)

    def rank_changes_at(self, target: Candidate, now: float) -> float:
        """Return when *target* has waited ``maxHold``."""
        at = waiting_since(target) + self.max_hold_s
        return at if at > now else NEVER

    def due(self, target: Candidate, victims: Collection[Candidate]) -> Due:
        """Due when the oldest waiter waited long enough and each busy victim had its turn."""
        busy = [victim for victim in victims if victim.busy]
        if not busy:
            return _due_at_once(victims)
        swap_s = swap_estimate_s(target, victims)
        hold_s = min(swap_s, self.max_hold_s)
        turn_s = min(2 * swap_s, self.max_hold_s)
        held_until = target.oldest_arrival + hold_s
        turns_over = max(victim.ready_at for victim in busy) + turn_s
        if held_until >= turns_over:
            return Due(held_until, DueRule.HOLD, hold_s, turn_s)
        return Due(turns_over, DueRule.TURN, hold_s, turn_s)

    @property
    def reopen_after_s(self) -> float:
        """A drain longer than ``maxHold`` opens the gates once more."""
        return self.max_hold_s


def waiting_since(target: Candidate) -> float:
    """Return when *target* began to wait for its next turn.

    That is when its oldest waiter came, or when its last turn ended if that is later: what is left
    of a model that was served does not overtake one that was not.
    """
    return max(target.oldest_arrival, target.turn_ended)


class Fifo:
    """Arrival order with priorities, as llama-swap's scheduler; no gate shuts on a busy model.

    A ready model is served whatever waits, and a swap begins only when those it evicts happen to be
    idle. Nothing bounds the wait.
    """

    def __init__(self, options: SchedulerOptions) -> None:
        del options  # it has none

    def rank(self, target: Candidate, now: float) -> Rank:
        """By priority, then by the arrival of the oldest waiter."""
        return (-target.priority, target.oldest_arrival)

    def rank_changes_at(self, target: Candidate, now: float) -> float:
        """Never: waiting does not change the order."""
        return NEVER

    def due(self, target: Candidate, victims: Collection[Candidate]) -> Due:
        """At once when all victims are idle, else not before."""
        if any(victim.busy for victim in victims):
            return Due(NEVER, DueRule.BUSY)
        return _due_at_once(victims)

    @property
    def reopen_after_s(self) -> float:
        """There is nothing to reopen."""
        return NEVER


POLICIES: dict[str, Callable[[SchedulerOptions], Policy]] = {"fair": Fair, "fifo": Fifo}
