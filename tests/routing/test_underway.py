"""Facts about llmsnap.routing.underway."""

from __future__ import annotations

import pytest

from llmsnap.errors import LoadAborted
from llmsnap.routing.effects import StartSwap
from llmsnap.routing.leases import Ticket
from llmsnap.routing.swaps import LoadKind
from llmsnap.routing.underway import SwapUnderWay


def under_way() -> SwapUnderWay:
    return SwapUnderWay(StartSwap(7, "a", LoadKind.START))


def ticket(model_id: str = "a") -> Ticket:
    return Ticket(1, model_id, lambda _: None)


def test_a_load_that_was_given_up_does_not_begin() -> None:
    swap = under_way()
    swap.aborted = True
    with pytest.raises(LoadAborted, match="given up"):
        swap.begin_loading(1.0)
    assert swap.loading_since is None


def test_a_ticket_without_a_lease_knows_the_swap_it_waited_for() -> None:
    swap, evicting, loading, other = under_way(), ticket(), ticket(), ticket("b")
    swap.tell(evicting, 5.0)
    assert (evicting.swap_id, evicting.load_s) == (7, 0.0)
    swap.begin_loading(5.0)
    swap.tell(loading, 8.0)
    swap.tell(other, 8.0)
    assert (loading.swap_id, loading.load_s) == (7, 3.0)
    assert (other.swap_id, other.load_s) == (None, 0.0)
