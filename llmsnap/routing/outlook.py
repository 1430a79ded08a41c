"""What people are told about a waiting model: what is in the way, and how long it may take.

Reads the books and changes nothing. All times are estimates from measured durations.
"""

from __future__ import annotations

from collections.abc import Iterable

from llmsnap.models import State
from llmsnap.routing.desk import Desk
from llmsnap.routing.ledger import LEAVING, Entry, Phase, Swap, swap_estimate_s
from llmsnap.routing.policy import AT_ONCE, NEVER

LEAST_RETRY_S = 1.0


def explain(desk: Desk, entry: Entry) -> str:
    """Return what requests for *entry* wait for: "A is serving 1 request for 61 min"."""
    if entry.closing is not None:
        goal = "asleep" if entry.closing.to is State.ASLEEP else "stopped"
        what = f"{entry.model_id} is to be {goal} first"
        return f"{what}; {_serving(desk, entry)}" if entry.leases else what
    if entry.state in LEAVING:
        return f"{entry.model_id} is {_LEAVING_WORDS[entry.state]}"
    if entry.state is State.READY:
        return _explain_ready(desk, entry)
    if entry.swap is not None:
        return _explain_swap(desk, entry.swap)
    return _explain_waiting(desk, entry)


def _explain_ready(desk: Desk, entry: Entry) -> str:
    if entry.claim is not None and not entry.open:
        held = f"{entry.model_id} makes room for {entry.claim.target.model_id}"
        return f"{held}; {_explain_swap(desk, entry.claim)}"
    return f"{entry.model_id} has {entry.limit} slots (concurrencyLimit); {_serving(desk, entry)}"


def _explain_swap(desk: Desk, swap: Swap) -> str:
    target = swap.target.model_id
    if swap.phase is Phase.LOAD:
        return f"{target} has been loading for {span(desk.now - swap.since_s)}"
    return _holders(desk, swap.victims.values()) or f"{target} is about to load"


def _explain_waiting(desk: Desk, entry: Entry) -> str:
    """Explain a model whose swap has not been decided."""
    held = [swap for swap in desk.swaps.values() if _clash(desk, entry, swap)]
    if held:
        return "; ".join(f"{s.target.model_id} goes first: {_explain_swap(desk, s)}" for s in held)
    text = _holders(desk, _victims(desk, entry))
    if text:
        return text
    others = [other for other in desk.wanting.values() if other is not entry]
    names = ", ".join(other.model_id for other in others if other.state is not State.READY)
    return f"{names} waited longer" if names else f"{entry.model_id} is about to load"


def _holders(desk: Desk, victims: Iterable[Entry]) -> str:
    """Name those that have to leave and what keeps them."""
    return "; ".join(
        f"{v.model_id} is {_LEAVING_WORDS[v.state]}" if v.state in LEAVING else _serving(desk, v)
        for v in victims
        if v.leases or v.state in LEAVING
    )


def _serving(desk: Desk, entry: Entry) -> str:
    number = len(entry.leases)
    if not number:
        return f"{entry.model_id} is idle"
    oldest_s = desk.now - min(entry.leases.values())
    requests = "request" if number == 1 else "requests"
    return f"{entry.model_id} is serving {number} {requests} for {span(oldest_s)}"


_LEAVING_WORDS = {State.SLEEP_PENDING: "going to sleep", State.STOPPING: "stopping"}


def span(seconds: float) -> str:
    """Return *seconds* as people say it: ``45 s``, ``61 min``, ``5 h``."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h"


def eta_s(desk: Desk, entry: Entry) -> float:
    """Estimate how long until *entry* may serve a request that comes now.

    Requests in flight elsewhere are taken to end at once, as nobody knows when they will.
    """
    if entry.open:
        return 0.0
    swap = entry.swap
    if swap is not None:
        return max(0.0, _swap_left_s(desk, swap))
    victims = _victims(desk, entry)
    ahead = max(
        (_swap_left_s(desk, s) for s in desk.swaps.values() if _clash(desk, entry, s)), default=0.0
    )
    due_at = desk.policy.due_at(entry, victims)
    held = due_at - desk.now if AT_ONCE < due_at < NEVER else 0.0
    return max(0.0, ahead, held) + swap_estimate_s(entry, victims)


def retry_after_s(desk: Desk, entry: Entry) -> float:
    """Return after how many seconds it makes sense to ask for *entry* again."""
    return max(LEAST_RETRY_S, eta_s(desk, entry))


def backoff_s(desk: Desk, entry: Entry) -> float:
    """Return how long a start of *entry* has to wait after its failures."""
    evicts = bool(desk.plan.evicted_by(entry.model_id, desk.running))
    return entry.backoff.wait_s(desk.now, evicts=evicts)


def _swap_left_s(desk: Desk, swap: Swap) -> float:
    """Estimate what is left of *swap*; negative when it takes longer than usual."""
    target = swap.target
    if swap.phase is Phase.LOAD:
        usual = target.durations(swap.kind).p50_s
        usual_s = target.load_estimate_s if usual is None else usual
        return usual_s - (desk.now - swap.since_s)
    return swap_estimate_s(target, swap.victims.values())


def _victims(desk: Desk, entry: Entry) -> list[Entry]:
    names = desk.plan.evicted_by(entry.model_id, desk.running)
    return [desk.running[name] for name in sorted(names)]


def _clash(desk: Desk, entry: Entry, swap: Swap) -> bool:
    return any(desk.plan.excludes(entry.model_id, other) for other in swap.footprint)
