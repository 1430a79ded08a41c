"""What a policy decides: the order of waiting models, and when a swap may shut gates.

Everything else is mechanism and lives in ``turns``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from llmsnap.routing.ledger import Entry

AT_ONCE = float("-inf")
NEVER = float("inf")

Rank = tuple[float, ...]


class Policy(Protocol):
    """One way to share the room. Entries given to it have requests waiting, unless said."""

    def rank(self, entry: Entry, now: float) -> Rank:
        """Return what *entry* is sorted by; the smallest goes first."""

    def rank_changes_at(self, entry: Entry, now: float) -> float:
        """Return when the rank changes by the passing of time alone, NEVER if it does not."""

    def due_at(self, target: Entry, victims: Collection[Entry]) -> float:
        """Return when all gates of *victims* may shut for *target*.

        AT_ONCE when nobody is disturbed; NEVER: not before they are idle by themselves.
        """

    @property
    def reopen_after_s(self) -> float:
        """How long a drain keeps the gates shut before they open once more."""
