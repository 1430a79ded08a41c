"""Launchers on clusters: which models leave when no machine has room for another one. Pure.

The engine of a launcher decides where a model runs. Where it tells which GPUs its machines have and
which are free, these are devices of a memory budget of their own, and models leave before the
start. Those figures are some seconds old and do not say all, so a start that finds no machine is
tried again after one more model has left, the cheapest first. ``Pooled`` adds that to the residency
of the configuration, which knows groups, sets, or the memory of this machine.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from llmsnap.models import State
from llmsnap.routing.memory import (
    GPU_PARTS,
    Device,
    Memory,
    MemorySwaps,
    Need,
    reload_cost,
)
from llmsnap.routing.residency import (
    Action,
    Answer,
    Blocked,
    Freed,
    ModelFacts,
    NeverFits,
    Plan,
    PlannedSwap,
    Residency,
    SwapSet,
)

_LEAVING = (State.SLEEP_PENDING, State.STOPPING)
_SETTLED = (State.READY, State.ASLEEP)


@dataclass(frozen=True, slots=True)
class Pool:
    """The models that one launcher runs on its cluster, in order of definition.

    *nodes* are its machines as far as its engine tells, none if it does not.
    """

    launcher: str
    needs: tuple[Need, ...]
    nodes: tuple[Device, ...] = ()


@dataclass(frozen=True, slots=True)
class _Question:
    """What is asked of a residency: see ``Residency.plan``."""

    target: str
    running: Collection[str]
    facts: Mapping[str, ModelFacts]
    current: Plan | None
    now: float

    @property
    def retries(self) -> int:
        """How often no machine was found for the target."""
        model = self.facts.get(self.target)
        return 0 if model is None else model.retries

    def without(self, names: Collection[str]) -> _Question:
        """Return the question as if *names* had left."""
        facts = {name: each for name, each in self.facts.items() if name not in names}
        return replace(self, running=[n for n in self.running if n not in names], facts=facts)


class PoolPlanner:
    """Says who leaves for the models of one pool."""

    def __init__(self, pool: Pool) -> None:
        self.launcher = pool.launcher
        self._pool = pool
        self._need_of = {need.model_id: need for need in pool.needs}
        self._budgets: dict[tuple[Device, ...], Memory] = {}

    def __repr__(self) -> str:
        return f"<PoolPlanner {self.launcher}, {len(self._pool.nodes)} machines>"

    def plan(self, asked: _Question, leaving: Collection[str]) -> Plan | None:
        """Return which models leave; None: none, as far as is known.

        *leaving* are those of the pool that leave in any case. A start is never kept waiting for
        programs of others: the engine decides whether it has a machine.
        """
        own = self._need_of[asked.target]
        answer = self._by_figures(own, asked, leaving) if self._pool.nodes else None
        if isinstance(answer, (Blocked, NeverFits)):
            return None
        if answer is not None and (answer.victims or not asked.retries):
            return replace(answer, why=self._why(own))
        if not asked.retries:
            return None
        # One that was to sleep would keep what it has of the cluster.
        names = leaving or filter(None, [self._one_more(own, asked)])
        return self._stopping(names, Plan(why=f"{self.launcher} had no machine for {own.model_id}"))

    # --- by what the engine tells ----------------------------------------------------------------

    def _by_figures(self, own: Need, asked: _Question, leaving: Collection[str]) -> Answer | None:
        """Return which models leave by what the machines have; None where it is not known.

        Where labels of machines are not known, those count that run a model with the same labels.
        """
        nodes = [node for node in self._pool.nodes if _may_suit(node, own)]
        answer = self._ask(nodes, asked, leaving)
        is_sure = not own.labels or all(node.labels is not None for node in nodes)
        if is_sure or not isinstance(answer, Plan) or set(answer.victims) <= set(leaving):
            return answer
        same = [name for name, need in self._need_of.items() if need.labels == own.labels]
        proven = {asked.facts[name].device for name in same if name in asked.facts}
        nodes = [node for node in nodes if node.labels is not None or node.name in proven]
        answer = self._ask(nodes, asked, leaving)
        return answer if isinstance(answer, Plan) else None

    def _ask(self, nodes: Iterable[Device], asked: _Question, leaving: Collection[str]) -> Answer:
        budget = self._budget(tuple(nodes))
        answer = _ask(budget, asked)
        if not leaving or (isinstance(answer, Plan) and not answer.victims):
            return answer
        answer = _ask(budget, asked.without(leaving))
        if not isinstance(answer, Plan):
            return answer
        frees = (Freed(name, budget.holds(name, asked.facts[name].device)) for name in leaving)
        room = answer.room and replace(answer.room, frees=(*answer.room.frees, *frees))
        return self._stopping(leaving, replace(answer, room=room))

    def _budget(self, nodes: tuple[Device, ...]) -> Memory:
        found = self._budgets.get(nodes)
        if found is None:
            found = self._budgets[nodes] = Memory(nodes, self._pool.needs)
        return found

    def _why(self, own: Need) -> str:
        gpus = own.anywhere / GPU_PARTS
        what = "1 GPU" if gpus == 1 else f"{gpus:g} GPUs"
        return f"{own.model_id} needs {what} on a machine of {self.launcher}"

    # --- after a start that found no machine -----------------------------------------------------

    def _one_more(self, own: Need, asked: _Question) -> str:
        """Return the model that costs least to stop; "" if none may leave.

        Idle ones come first, then those that ask for the same labels, which run on machines that
        the target may use. A busy one that is drained already is kept.
        """
        facts = asked.facts
        latest = max((each.idle_since for each in facts.values()), default=0.0)
        costs: dict[str, tuple[bool, bool, float, float]] = {}
        for need in self._pool.needs:
            model = facts.get(need.model_id)
            if model is not None and need is not own and self._may_leave(need, own, model, asked):
                costs[need.model_id] = (
                    model.busy or model.state not in _SETTLED,
                    need.labels != own.labels,
                    reload_cost(need, model, Action.STOP, latest) + model.answers_s(asked.now),
                    model.idle_since,
                )
        best = min(costs, key=costs.__getitem__, default="")
        current = asked.current.victims if asked.current is not None else ()
        kept = next((name for name in costs if name in current), "")
        return kept if kept and costs[best][0] else best

    def _may_leave(self, need: Need, own: Need, model: ModelFacts, asked: _Question) -> bool:
        """Tell whether a model holds a part of the cluster that may help, and may be stopped."""
        holds = model.state is State.ASLEEP or need.model_id in asked.running
        stays = model.leaves is None or model.leaves[0] == asked.target
        if not (holds and stays) or need.is_pinned or model.state in _LEAVING:
            return False
        node = next((node for node in self._pool.nodes if node.name == model.device), None)
        return node is None or (_may_suit(node, own) and node.capacity >= own.anywhere)

    def _stopping(self, names: Iterable[str], plan: Plan) -> Plan:
        """Return *plan* with *names* leaving, too, by a stop."""
        how = {**plan.how, **dict.fromkeys(names, Action.STOP)}
        victims = tuple(sorted({*plan.victims, *how}))
        return replace(plan, victims=victims, how=how, stays=plan.stays.difference(how))


def _ask(budget: Memory, asked: _Question) -> Answer:
    return budget.plan(asked.target, asked.running, asked.facts, asked.current, now=asked.now)


def _may_suit(node: Device, need: Need) -> bool:
    """Tell whether a machine offers the labels of a model, as far as is known."""
    return node.labels is None or set(need.labels) <= set(node.labels)


class Pooled(Residency):
    """A residency for models on this machine and on clusters, each of which is a pool.

    *here* answers first: its groups may have members of several launchers.
    """

    replans = True
    """Which models leave depends on what else runs on a cluster."""

    def __init__(self, here: Residency, pools: Iterable[Pool]) -> None:
        self.here = here
        self.pools = tuple(pools)
        self._planner_of = {
            need.model_id: planner
            for pool, planner in [(pool, PoolPlanner(pool)) for pool in self.pools]
            for need in pool.needs
        }

    def __repr__(self) -> str:
        return f"<Pooled {self.here!r}, {', '.join(pool.launcher for pool in self.pools)}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pooled) and (self.here, self.pools) == (other.here, other.pools)

    def __hash__(self) -> int:
        return hash((self.here, self.pools))

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
        planner = self._planner_of.get(target)
        if planner is None or not isinstance(answer, Plan):
            return answer
        leaving = [name for name in answer.victims if self._planner_of.get(name) is planner]
        found = planner.plan(_Question(target, running, facts, current, now), leaving)
        if found is None:
            return answer
        victims = tuple(sorted({*answer.victims, *found.victims}))
        return replace(
            found,
            victims=victims,
            why=answer.why if victims == answer.victims and victims else found.why,
            how={**answer.how, **found.how},
            cost=answer.cost + found.cost,
            stays=(answer.stays | found.stays).difference(victims),
        )

    def swap_set(self) -> SwapSet:
        """Return an empty set of swaps."""
        return PooledSwaps(self.here.swap_set())


class PooledSwaps:
    """Swaps that *here* admits side by side, and that fit on the machines of their clusters."""

    def __init__(self, here: SwapSet) -> None:
        self._here, self._rooms = here, MemorySwaps()

    def add(self, swap: PlannedSwap) -> None:
        """Count *swap* in."""
        self._here.add(swap)
        self._rooms.add(swap)

    def admits(self, swap: PlannedSwap) -> bool:
        """Tell whether *swap* is compatible with all swaps of the set together."""
        return self._here.admits(swap) and self._rooms.admits(swap)

    def blocks(self, target: str) -> bool:
        """Tell whether no swap to *target* can be admitted."""
        return self._here.blocks(target)


def here_of(residency: Residency) -> Residency:
    """Return the part of *residency* that is not about clusters."""
    return residency.here if isinstance(residency, Pooled) else residency


def pools_in(residency: Residency) -> tuple[Pool, ...]:
    """Return the launchers on clusters of *residency*."""
    return residency.pools if isinstance(residency, Pooled) else ()


def budget_in(residency: Residency) -> Memory | None:
    """Return the memory budget of this machine; None where the residency is another one."""
    here = here_of(residency)
    return here if isinstance(here, Memory) else None


def with_budget(residency: Residency, budget: Memory) -> Residency:
    """Return *residency* with *budget* as that of this machine."""
    return Pooled(budget, residency.pools) if isinstance(residency, Pooled) else budget
