"""The fifo policy: llama-swap's scheduler, for configurations that count on it.

Arrival order with priorities; a ready model is served whatever waits, and a swap begins only when
those it evicts happen to be idle. Nothing bounds the wait.
"""

from __future__ import annotations

from collections.abc import Collection

from llmsnap.routing.ledger import Entry
from llmsnap.routing.policy import AT_ONCE, NEVER, Rank


class Fifo:
    """First come, first loaded; no gate ever shuts on a busy model."""

    def rank(self, entry: Entry, now: float) -> Rank:
        """By priority, then by the arrival of the oldest waiter."""
        oldest = entry.oldest
        return (-entry.rules.priority, oldest.since_s if oldest else now)

    def rank_changes_at(self, entry: Entry, now: float) -> float:
        """Never: waiting does not change the order."""
        return NEVER

    def due_at(self, target: Entry, victims: Collection[Entry]) -> float:
        """At once when all victims are idle, else not before."""
        return NEVER if any(victim.busy for victim in victims) else AT_ONCE

    @property
    def reopen_after_s(self) -> float:
        """There is nothing to reopen."""
        return NEVER
