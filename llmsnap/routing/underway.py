"""What the driver must remember of a swap under way."""

from __future__ import annotations

from dataclasses import dataclass

from llmsnap.errors import LoadAborted
from llmsnap.routing.effects import StartSwap
from llmsnap.routing.leases import Ticket


@dataclass(slots=True)
class SwapUnderWay:
    """A swap from its start to its report. *loading_since*: None while it still evicts."""

    effect: StartSwap
    aborted: bool = False
    loading_since: float | None = None

    def begin_loading(self, now: float) -> None:
        """Note that the evictions are over. Raises: LoadAborted when nobody needs the load."""
        if self.aborted:
            raise LoadAborted(f"{self.effect.target}: its load was given up")
        self.loading_since = now

    def tell(self, ticket: Ticket, now: float) -> None:
        """Let *ticket*, which gets no lease, know the swap it waited for in vain."""
        if ticket.model_id == self.effect.target:
            ticket.swap_id = self.effect.work
            ticket.load_s = 0.0 if self.loading_since is None else now - self.loading_since
