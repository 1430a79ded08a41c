"""Launchers on clusters: which models leave when no machine is free for another one. Pure.

The engine of a launcher decides where a model runs, and may have no machine for it. Then an idle
model of the same launcher leaves, the cheapest first, and the start is tried again. ``Pooled`` adds
that to the residency of the configuration, which knows groups, sets, or the memory of this machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from llmsnap.models import State
from llmsnap.routing.memory import Memory, Need, reload_cost
from llmsnap.routing.residency import (
    Action,
    Answer,
    ModelFacts,
    Plan,
    Residency,
    SwapSet,
)

_LEAVING = (State.SLEEP_PENDING, State.STOPPING)
_SETTLED = (State.READY, State.ASLEEP)


@dataclass(frozen=True, slots=True)
class Pool:
    """The models that one launcher runs on its cluster, in order of definition."""

    launcher: str
    needs: tuple[Need, ...]

    def one_more(
        self,
        target: str,
        running: Collection[str],
        facts: Mapping[str, ModelFacts],
        current: Collection[str],
        now: float,
    ) -> str:
        """Return the model that costs least to stop for *target*; "" if none may leave.

        Idle ones come first, then those that ask for the same labels, which run on machines that
        *target* may use. A busy one among *current* is kept, so that its gate stays shut.
        """
        own = next(need for need in self.needs if need.model_id == target)
        latest = max((each.idle_since for each in facts.values()), default=0.0)
        costs: dict[str, tuple[bool, bool, float, float]] = {}
        for need in self.needs:
            model = facts.get(need.model_id)
            if model is not None and need is not own and _may_leave(need, model, target, running):
                costs[need.model_id] = (
                    model.busy or model.state not in _SETTLED,
                    need.labels != own.labels,
                    reload_cost(need, model, Action.STOP, latest) + model.answers_s(now),
                    model.idle_since,
                )
        best = min(costs, key=costs.__getitem__, default="")
        kept = next((name for name in costs if name in current), "")
        return kept if kept and costs[best][0] else best


def _may_leave(need: Need, model: ModelFacts, target: str, running: Collection[str]) -> bool:
    """Tell whether a model holds a part of its cluster, and may be stopped for *target*."""
    holds = model.state is State.ASLEEP or need.model_id in running
    stays = model.leaves is None or model.leaves[0] == target
    return holds and stays and not need.is_pinned and model.state not in _LEAVING


class Pooled(Residency):
    """A residency for models on this machine and on clusters, each of which is a pool.

    *here* answers first: its groups may have members of several launchers.
    """

    def __init__(self, here: Residency, pools: Iterable[Pool]) -> None:
        self.here = here
        self.pools = tuple(pools)
        self._pool_of = {need.model_id: pool for pool in self.pools for need in pool.needs}

    def __repr__(self) -> str:
        return f"<Pooled {self.here!r}, {', '.join(pool.launcher for pool in self.pools)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pooled) and (self.here, self.pools) == (other.here, other.pools)

    def __hash__(self) -> int:
        return hash((self.here, self.pools))

    replans = True
    """Which models leave depends on what else runs, for a model that found no machine."""

    def plan(
        self,
        target: str,
        running: Collection[str],
        facts: Mapping[str, ModelFacts],
        current: Plan | None = None,
        *,
        now: float = 0.0,
    ) -> Answer:
        """Return which models leave so that *target* may load."""
        answer = self.here.plan(target, running, facts, current, now=now)
        pool, model = self._pool_of.get(target), facts.get(target)
        if pool is None or model is None or not model.retries or not isinstance(answer, Plan):
            return answer
        # One that was to sleep would keep what it has of the cluster.
        leaving = [name for name in answer.victims if self._pool_of.get(name) is pool]
        if not leaving:
            before = current.victims if current is not None else ()
            leaving = list(filter(None, [pool.one_more(target, running, facts, before, now)]))
        if not leaving:
            return answer
        return replace(
            answer,
            victims=tuple(sorted({*answer.victims, *leaving})),
            how={**answer.how, **dict.fromkeys(leaving, Action.STOP)},
            why=f"{pool.launcher} had no machine free for {target}",
            stays=answer.stays.difference(leaving),
        )

    def swap_set(self) -> SwapSet:
        """Return an empty set of swaps."""
        return self.here.swap_set()


def here_of(residency: Residency) -> Residency:
    """Return the part of *residency* that is not about clusters."""
    return residency.here if isinstance(residency, Pooled) else residency


def budget_in(residency: Residency) -> Memory | None:
    """Return the memory budget of this machine; None where the residency is another one."""
    here = here_of(residency)
    return here if isinstance(here, Memory) else None


def with_budget(residency: Residency, budget: Memory) -> Residency:
    """Return *residency* with *budget* as that of this machine."""
    return Pooled(budget, residency.pools) if isinstance(residency, Pooled) else budget
