"""The fair policy: everybody's wait is bounded, and a swap is not begun before it pays.

A waiting model is held off for as long as its swap is likely to take, and a loaded one keeps its
turn for twice that, neither longer than ``maxHold``; so two thirds of the time go into serving, as
long as swaps are short, however the requests are mixed.
"""

from __future__ import annotations

from collections.abc import Collection

from llmsnap.routing.ledger import Entry, swap_estimate_s
from llmsnap.routing.policy import AT_ONCE, NEVER, Rank


class Fair:
    """Bounded waiting with as few swaps as that allows."""

    def __init__(self, max_hold_s: float) -> None:
        self.max_hold_s = max_hold_s

    def rank(self, entry: Entry, now: float) -> Rank:
        """Those that waited longer than ``maxHold`` first, then by priority, then by age.

        Of two that began to wait in the same moment, the one served longer ago goes first.
        """
        since = waiting_since(entry)
        if since + self.max_hold_s <= now:
            return (0, 0, since, entry.turn_ended)
        return (1, -entry.rules.priority, since, entry.turn_ended)

    def rank_changes_at(self, entry: Entry, now: float) -> float:
        """Return when *entry* has waited ``maxHold``."""
        at = waiting_since(entry) + self.max_hold_s
        return at if at > now else NEVER

    def due_at(self, target: Entry, victims: Collection[Entry]) -> float:
        """Due when the oldest waiter waited long enough and each busy victim had its turn."""
        busy = [victim for victim in victims if victim.busy]
        if not busy:
            return AT_ONCE
        oldest = target.oldest
        if oldest is None:
            return NEVER
        swap_s = swap_estimate_s(target, victims)
        turn_s = min(2 * swap_s, self.max_hold_s)
        turns_over = max(victim.ready_at for victim in busy) + turn_s
        return max(oldest.since_s + min(swap_s, self.max_hold_s), turns_over)

    @property
    def reopen_after_s(self) -> float:
        """A drain longer than ``maxHold`` opens the gates once more."""
        return self.max_hold_s


def waiting_since(entry: Entry) -> float:
    """Return when *entry* began to wait for its next turn.

    That is when its oldest waiter came, or when its last turn ended if that is later: what is left
    of a model that was served does not overtake one that was not.
    """
    oldest = entry.oldest
    return max(oldest.since_s, entry.turn_ended) if oldest else NEVER
