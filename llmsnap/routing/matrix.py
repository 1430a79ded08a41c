"""Residency by a swap matrix: expressions say which models may be in memory together. Pure.

The product of an expression is never expanded. The expressions are one shared graph; a decision
gives a bit to the target and to each running model and evaluates the graph bottom up, keeping for
each term the largest sets of these models that one of its combinations contains. Definition order,
which decides between equals, comes from numbers: each combination has a rank in the expansion.
"""

from __future__ import annotations

import math
import sys
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterator, Mapping
from functools import partial
from heapq import nsmallest
from itertools import islice, product
from statistics import median
from typing import NamedTuple

from llmsnap.config import Expression, MatrixConfig
from llmsnap.models import State
from llmsnap.routing.residency import (
    Allowed,
    Considered,
    LoadKind,
    Lost,
    ModelFacts,
    Plan,
    PlannedSwap,
    Residency,
)

# --- the graph ------------------------------------------------------------------------------------


class Term(NamedTuple):
    """A term of the graph: a model, or ``and``, ``or``, ``of`` over other terms.

    *below* are the numbers of the operands, each lower than this term's. *models* has the bits of
    all models below, *size* is the number of combinations. ``of`` takes *take* operands, and
    ``rest[i][k]`` is the number of combinations of *k* of those from *i* on. *places* are those of
    its operands by their bits, if all of them are models, and different ones; else empty.
    """

    op: str
    below: tuple[int, ...]
    models: int
    size: int
    take: int
    rest: tuple[tuple[int, ...], ...]
    places: Mapping[int, int]


class Part(NamedTuple):
    """An alternative of a set: its term, and how many combinations are defined before it."""

    number: int
    before: int
    set_name: str


class Found(NamedTuple):
    """A combination: its rank in the expansion, and the bits of its models."""

    rank: int
    models: int


class Graph:
    """All expressions of a matrix; equal parts are one term.

    *bits* has the bit of each model, *parts* the alternatives that contain it, in order.
    """

    def __init__(self, config: MatrixConfig) -> None:
        self.terms: list[Term] = []
        self.bits: dict[str, int] = {}
        self.sets: dict[str, int] = {}
        self.parts: defaultdict[str, list[Part]] = defaultdict(list)
        self._numbers: dict[tuple[str, int, tuple[int, ...]], int] = {}
        self._names: list[str] = []
        before = 0
        for each in config.sets:
            self.sets[each.name] = number = self._add(each.expression)
            before = self._index(number, before, each.name)

    def names_of(self, mask: int) -> list[str]:
        """Return the models whose bits are in *mask*."""
        return [name for place, name in enumerate(self._names) if mask >> place & 1]

    def expand(self, numbers: tuple[int, ...], take: int) -> Iterator[int]:
        """Yield the combinations of *take* of the terms *numbers*, in order of definition."""
        if not take:
            yield 0
            return
        for place, number in enumerate(numbers):
            rest = numbers[place + 1 :]
            if len(rest) < take - 1:
                return
            for one in self._expanded(number):
                yield from (one | other for other in self.expand(rest, take - 1))

    def _expanded(self, number: int) -> Iterator[int]:
        term = self.terms[number]
        match term.op:
            case "model":
                yield term.models
            case "or":
                yield from (mask for each in term.below for mask in self._expanded(each))
            case "and":
                yield from self.expand(term.below, len(term.below))
            case _:
                yield from self.expand(term.below, term.take)

    def _index(self, number: int, before: int, set_name: str) -> int:
        term = self.terms[number]
        for part in term.below if term.op == "or" else (number,):
            for name in self.names_of(self.terms[part].models):
                self.parts[name].append(Part(part, before, set_name))
            before += self.terms[part].size
        return before

    def _add(self, expression: Expression) -> int:
        if expression.op == "set":
            return self.sets[expression.name]
        if expression.op == "model":
            bit = self.bits.get(expression.name)
            if bit is None:
                bit = self.bits[expression.name] = 1 << len(self._names)
                self._names.append(expression.name)
            return self._node("model", 0, (), bit, bit, ())
        below = tuple(self._add(each) for each in expression.operands)
        sizes = [self.terms[number].size for number in below]
        models = 0
        for number in below:
            models |= self.terms[number].models
        if expression.op == "of":
            rest = _sizes_of_rest(sizes, expression.count)
            return self._node("of", expression.count, below, models, 0, rest)
        size = sum(sizes) if expression.op == "or" else math.prod(sizes)
        return self._node(expression.op, 0, below, models, size, ())

    def _node(
        self,
        op: str,
        count: int,
        below: tuple[int, ...],
        models: int,
        size: int,
        rest: tuple[tuple[int, ...], ...],
    ) -> int:
        key = (op, models if op == "model" else count, below)
        number = self._numbers.setdefault(key, len(self.terms))
        if number == len(self.terms):
            size = 1 if op == "model" else rest[0][count] if rest else size
            places = {self.terms[each].models: place for place, each in enumerate(below)}
            is_flat = all(self.terms[each].op == "model" for each in below)
            if op != "of" or not is_flat or len(places) < len(below):
                places = {}
            self.terms.append(Term(op, below, models, size, count, rest, places))
        return number


def _sizes_of_rest(sizes: list[int], count: int) -> tuple[tuple[int, ...], ...]:
    rows = [(1, *[0] * count)]
    for size in reversed(sizes):
        after = rows[-1]
        rows.append((1, *(size * after[k - 1] + after[k] for k in range(1, count + 1))))
    return tuple(reversed(rows))


# --- the solver -----------------------------------------------------------------------------------


class Solver:
    """Answers about the models that matter for one decision: the target and those that run."""

    def __init__(self, graph: Graph, relevant: int) -> None:
        self._terms = graph.terms
        self._relevant = relevant
        self._largest: dict[int, list[int]] = {}
        self._suffixes: dict[int, list[list[int]]] = {}
        self._matter: dict[int, list[tuple[int, list[int]]]] = {}
        self._some: dict[tuple[int, int, int], list[int]] = {}
        self._first: dict[tuple[int, int], Found | None] = {}

    def largest(self, number: int) -> list[int]:
        """Return the relevant models of the term's combinations, without parts of others."""
        term = self._terms[number]
        relevant = term.models & self._relevant
        if not relevant:
            return [0]
        if term.op == "model":
            return [relevant]
        found = self._largest.get(number)
        if found is None:
            if term.op == "or":
                found = largest_of({mask for each in term.below for mask in self.largest(each)})
            elif term.op == "and":
                found = self._from(number, term.below, 0)
            else:
                found = self._some_from(number, term, 0, term.take)
            self._largest[number] = found
        return found

    def first(self, number: int, need: int) -> Found | None:
        """Return the first combination of the term with all models of *need*, None for none."""
        term = self._terms[number]
        if need & ~term.models:
            return None
        if term.op == "model":
            return Found(0, term.models)
        key = (number, need)
        if key not in self._first:
            steps = {"or": self._first_or, "and": self._first_and, "of": self._first_of}
            self._first[key] = steps[term.op](number, term, need)
        return self._first[key]

    def _from(self, number: int, below: tuple[int, ...], place: int) -> list[int]:
        """Return the largest sets of the product of the operands from *place* on."""
        suffixes = self._suffixes.get(number)
        if suffixes is None:
            suffixes = [[0]]
            for each in reversed(below):
                suffixes.append(unions(suffixes[-1], self.largest(each)))
            suffixes.reverse()
            self._suffixes[number] = suffixes
        return suffixes[place]

    def _some_from(self, number: int, term: Term, place: int, take: int) -> list[int]:
        """Return the largest sets of *take* of the operands from *place* on.

        Operands without relevant models stand for any others, so only those with some count.
        """
        matter = self._matter.get(number)
        if matter is None:
            terms, relevant = self._terms, self._relevant
            matter = self._matter[number] = [
                (place, self.largest(each))
                for place, each in enumerate(term.below)
                if terms[each].models & relevant
            ]
        start = sum(each < place for each, _ in matter)
        key = (number, start, take)
        found = self._some.get(key)
        if found is None:
            rest = [each for _, each in matter[start:]]
            found = self._some[key] = largest_of(choose(rest, min(take, len(rest))))
        return found

    def _first_or(self, _number: int, term: Term, need: int) -> Found | None:
        before = 0
        for number in term.below:
            found = self.first(number, need)
            if found is not None:
                return Found(before + found.rank, found.models)
            before += self._terms[number].size
        return None

    def _first_and(self, number: int, term: Term, need: int) -> Found | None:
        """Return the first: the leftmost operand varies slowest."""
        rank = models = 0
        for place, each in enumerate(term.below):
            found = self._first_beside(each, need, self._from(number, term.below, place + 1))
            if found is None:
                return None
            rank = rank * self._terms[each].size + found.rank
            models |= found.models
            need &= ~found.models
        return Found(rank, models)

    def _first_of(self, number: int, term: Term, need: int) -> Found | None:
        """Return the first: those with the first operand stand before those without it."""
        if term.places:
            return self._first_of_models(term, need)
        rank = models = 0
        take = term.take
        full = False  # the others have to take all of *need*, and cannot beside one more
        for place, operand in enumerate(term.below):
            others = term.rest[place + 1][take - 1] if take else 0
            if not others:
                continue
            matters = bool(self._terms[operand].models & self._relevant)
            found = None
            if matters or not full:
                beside = self._some_from(number, term, place + 1, take - 1)
                found = self._first_beside(operand, need, beside)
            full = found is None and not matters
            if found is None:
                rank += self._terms[operand].size * others
            else:
                rank += found.rank * others
                models |= found.models
                need &= ~found.models
                take -= 1
        return None if need or take else Found(rank, models)

    def _first_of_models(self, term: Term, need: int) -> Found | None:
        """Return the first of models: those of *need*, and the first others, as many as fit."""
        spare = term.take - need.bit_count()
        if spare < 0:
            return None
        chosen = sorted(term.places[bit] for bit in _bits(need))
        others = (place for place in range(len(term.below)) if place not in chosen)
        chosen = sorted([*chosen, *islice(others, spare)])
        rank = models = 0
        after, take = 0, term.take
        for place in chosen:
            rank += term.rest[after][take] - term.rest[place][take]  # those with one before it
            models |= self._terms[term.below[place]].models
            after, take = place + 1, take - 1
        return Found(rank, models)

    def _first_beside(self, number: int, need: int, beside: list[int]) -> Found | None:
        """Return the first combination that takes what no other one of *beside* takes of *need*."""
        wanted = {need & ~mask for mask in beside}
        found = [one for each in wanted if (one := self.first(number, each)) is not None]
        return min(found, default=None)


def _bits(mask: int) -> Iterator[int]:
    """Yield the single bits of *mask*."""
    while mask:
        bit = mask & -mask
        yield bit
        mask ^= bit


def choose(operands: list[list[int]], take: int) -> set[int]:
    """Return the unions of one set of each of *take* of *operands*."""
    found: list[set[int]] = [{0}, *(set[int]() for _ in range(take))]  # by how many were taken
    for number, operand in enumerate(operands):
        least = max(0, take - (len(operands) - number))
        for taken in reversed(range(least, min(take, number + 1))):
            found[taken + 1].update(one | other for one in found[taken] for other in operand)
    return found[take]


def unions(one: list[int], other: list[int]) -> list[int]:
    """Return the largest unions of a set of *one* and a set of *other*."""
    if len(other) == 1:
        mask = other[0]
        return largest_of({each | mask for each in one}) if mask else one
    return largest_of({a | b for a in one for b in other})


def largest_of(masks: set[int]) -> list[int]:
    """Return *masks* without those that are part of another."""
    if len(masks) < 2:
        return list(masks)
    kept: list[int] = []
    larger: list[int] = []
    size = -1
    for mask in sorted(masks, key=int.bit_count, reverse=True):
        if mask.bit_count() != size:  # sets of the same size are no parts of each other
            size, larger = mask.bit_count(), list(kept)
        if all(mask & ~each for each in larger):
            kept.append(mask)
    return kept


# --- the residency --------------------------------------------------------------------------------

CACHED = 256
"""Questions whose possible answers are kept."""
MOST_AT_ONCE = 4
"""Swaps under way beside which another one may be decided."""

_NEVER_USED = -math.inf
_IN_USE = sys.float_info.max
_PROMISED = math.inf
_LEAVING = (State.SLEEP_PENDING, State.STOPPING)


class _Question:
    """What is the same for each plan with one target and the same running models."""

    def __init__(self, graph: Graph, target: str, present: frozenset[str]) -> None:
        self._parts = graph.parts.get(target, [])
        self._first: dict[int, tuple[str, Found]] = {}
        relevant = graph.bits.get(target, 0)
        mine = relevant
        for name in present:
            relevant |= graph.bits.get(name, 0)
        self._solver = Solver(graph, relevant)
        found: set[int] = set()
        for part in self._parts:
            found.update(mask for mask in self._solver.largest(part.number) if mask & mine)
        self.masks = largest_of(found) or [0]
        """The largest sets of models that may stay beside the target; it alone if in no set."""
        self.present = [(name, graph.bits.get(name, 0)) for name in sorted(present)]
        """The models that run, and their bits."""

    def victims(self, mask: int) -> tuple[str, ...]:
        """Return the models that leave if those of *mask* stay."""
        return tuple(name for name, bit in self.present if not bit & mask)

    def keeping(self, leaving: Collection[str]) -> int | None:
        """Return the bits of all that run but *leaving*; None if one of them cannot stay."""
        bits = [bit for name, bit in self.present if name not in leaving]
        return sum(bits) if all(bits) else None

    def first(self, mask: int) -> tuple[str, Found]:
        """Return the first combination that contains the models of *mask*, and its set."""
        known = self._first.get(mask)
        if known is None:
            known = self._first[mask] = self._search(mask)
        return known

    def _search(self, mask: int) -> tuple[str, Found]:
        for part in self._parts:
            found = self._solver.first(part.number, mask)
            if found is not None:
                return part.set_name, Found(part.before + found.rank, found.models)
        return "", Found(0, 0)


class Alternative(NamedTuple):
    """One way to make room: *mask* are the models that may stay, target included.

    *key* is cost, whether a victim is busy, when the one used last was used; the smallest wins.
    """

    key: tuple[float, bool, float]
    mask: int


class Matrix(Residency):
    """Residency by a matrix: running models leave that are in no combination with the target.

    Among the combinations, the cheapest counts; then one whose victims are all idle; then the one
    whose most recently used victim was used longest ago; then the first one defined. A target that
    is in no combination runs alone. Models that are leaving already cost nothing. *external*
    models are servers of other programs: they leave for no model, and no model leaves for them.
    """

    replans = True
    """Which models leave depends on what else runs."""

    def __init__(self, config: MatrixConfig, external: Collection[str] = ()) -> None:
        self.config = config
        self.external = frozenset(external)
        self._graph = Graph(config)
        self._texts = {each.name: each.text for each in config.sets}
        self._costs = {each.model_id: float(each.cost) for each in config.costs}
        self._questions: OrderedDict[tuple[str, frozenset[str]], _Question] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Matrix {len(self._graph.sets)} sets, {len(self._graph.bits)} models>"

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Matrix)
            and other.config == self.config
            and other.external == self.external
        )

    def __hash__(self) -> int:
        return hash(self.config)

    def plan(
        self,
        target: str,
        running: Collection[str],
        facts: Mapping[str, ModelFacts],
        current: Plan | None = None,
        *,
        now: float = 0.0,
    ) -> Plan:
        """Return which of *running* leave for *target*."""
        if target in self.external:
            return Plan(stays=frozenset([*running, target]))
        others = [name for name in running if name != target and name not in self.external]
        leaving = [name for name in others if facts[name].state in _LEAVING]
        question = self._question(target, frozenset(others).difference(leaving))
        choices = self._choices(question, facts)
        lowest = min(choice.key for choice in choices)
        equal = [choice for choice in choices if choice.key == lowest]
        best = equal[0]
        if len(equal) > 1:
            best = min(equal, key=lambda choice: question.first(choice.mask)[1].rank)
        if current is not None:
            best = _keep(question.keeping(current.victims), choices, best)
        victims = question.victims(best.mask)
        stays = {target, *others}.difference(victims, leaving)
        waits = [name for name in leaving if not self.allows({*stays, name})]
        allowed = self._allowed(question, best.mask)
        return Plan(
            victims=tuple(sorted([*victims, *waits])),
            why=_why(target, allowed),
            cost=best.key[0],
            rivals=partial(_considered, question, choices, best),
            stays=frozenset(stays),
            allowed=allowed,
        )

    def swap_set(self) -> MatrixSwaps:
        """Return an empty set of swaps."""
        return MatrixSwaps(self)

    def allows(self, models: Collection[str]) -> bool:
        """Tell whether *models* may run together: one alone, or all in one combination."""
        models = [name for name in models if name not in self.external]
        if len(models) < 2:
            return True
        need = 0
        for name in models:
            bit = self._graph.bits.get(name)
            if bit is None:
                return False
            need |= bit
        solver = Solver(self._graph, need)
        parts = min((self._graph.parts[name] for name in models), key=len)
        return any(need in solver.largest(part.number) for part in parts)

    def sets(self, most: int) -> Iterator[tuple[str, int, list[list[str]]]]:
        """Yield each set: its name, the number of its combinations, and the first *most*."""
        graph = self._graph
        for name, number in graph.sets.items():
            first = islice(graph.expand((number,), 1), most)
            yield name, graph.terms[number].size, [graph.names_of(mask) for mask in first]

    def _question(self, target: str, present: frozenset[str]) -> _Question:
        key = (target, present)
        found = self._questions.get(key)
        if found is None:
            found = self._questions[key] = _Question(self._graph, target, present)
            if len(self._questions) > CACHED:
                self._questions.popitem(last=False)
        else:
            self._questions.move_to_end(key)
        return found

    def _choices(self, question: _Question, facts: Mapping[str, ModelFacts]) -> list[Alternative]:
        """Return the ways to make room for the target, none of which includes another."""
        costs = learned_costs(facts) if self.config.learns_costs else self._costs
        rows = [
            (bit, costs.get(name, 1.0), _is_busy(facts[name]), _last_used(facts[name]))
            for name, bit in question.present
        ]
        choices = []
        for mask in question.masks:
            total, busy, last = 0.0, False, _NEVER_USED
            for bit, cost, is_busy, used in rows:
                if not bit & mask:
                    total += cost
                    busy = busy or is_busy
                    last = max(last, used)
            choices.append(Alternative((total, busy, last), mask))
        return choices

    def _allowed(self, question: _Question, mask: int) -> Allowed | None:
        if not mask:
            return None
        name, found = question.first(mask)
        return Allowed(name, self._texts[name], tuple(self._graph.names_of(found.models)))


def learned_costs(facts: Mapping[str, ModelFacts]) -> dict[str, float]:
    """Return the measured load time of each model in whole seconds, at least 1.

    One that was never measured counts as the median of those that were.
    """
    measured = {name: each.measured_s(LoadKind.START) for name, each in facts.items()}
    known = [seconds for seconds in measured.values() if seconds is not None]
    usual = median(known) if known else 1.0
    return {
        name: max(1.0, float(round(usual if seconds is None else seconds)))
        for name, seconds in measured.items()
    }


def _is_busy(model: ModelFacts) -> bool:
    """Tell whether *model* serves, has waiters, or is still to become ready."""
    return model.busy or model.state is not State.READY


def _last_used(model: ModelFacts) -> float:
    if model.state is not State.READY:
        return _PROMISED
    return _IN_USE if model.busy else model.idle_since


def _keep(open_: int | None, choices: list[Alternative], best: Alternative) -> Alternative:
    """Return the choice that gates are shut for, unless *best* is cheaper, or idle at its cost.

    *open_* are the models whose gates are open, which stay; None: they cannot all stay.
    """
    kept = [choice for choice in choices if open_ is not None and not open_ & ~choice.mask]
    now = min(kept, key=lambda choice: choice.key[:2], default=best)
    (cost, busy, _), (cost_now, busy_now, _) = best.key, now.key
    return best if cost < cost_now or (cost == cost_now and busy_now and not busy) else now


def _considered(
    question: _Question, choices: list[Alternative], best: Alternative
) -> tuple[Considered, ...]:
    """Return the next best two choices, and what each of them lost by."""
    others = nsmallest(2, (choice for choice in choices if choice is not best))
    return tuple(
        Considered(question.victims(each.mask), each.key[0], _lost_by(each, best))
        for each in others
    )


def _lost_by(choice: Alternative, best: Alternative) -> Lost:
    if choice.key < best.key:
        return Lost.LATE
    reasons = (Lost.COST, Lost.BUSY, Lost.RECENT)
    for reason, one, other in zip(reasons, choice.key, best.key, strict=True):
        if one != other:
            return reason
    return Lost.ORDER


def _why(target: str, allowed: Allowed | None) -> str:
    if allowed is None:
        return f"{target} is in no set, so it runs alone"
    return f"set {allowed.set_name} allows {' & '.join(allowed.combination)}"


class MatrixSwaps:
    """Swaps as the models they concern, and what runs while and after they are carried out."""

    def __init__(self, matrix: Matrix) -> None:
        self._matrix = matrix
        self._swaps: list[PlannedSwap] = []
        self._models: set[str] = set()

    def add(self, swap: PlannedSwap) -> None:
        """Count *swap* in."""
        self._swaps.append(swap)
        self._models.update(swap.models)

    def admits(self, swap: PlannedSwap) -> bool:
        """Tell whether *swap* shares no model with the others and always fits beside them.

        What runs after all swaps must be allowed; and what runs while some of those under way are
        still to come, whose victims are there and whose targets are not.
        """
        if not self._models.isdisjoint(swap.models):
            return False
        stays = swap.plan.stays | {swap.target}
        after = set(stays)
        under_way = []
        for each in self._swaps:
            after.add(each.target)
            after.difference_update(each.plan.victims)
            if not stays.issuperset(each.plan.victims):
                under_way.append(each)
        if len(under_way) > MOST_AT_ONCE or not self._matrix.allows(after):
            return False
        return all(
            self._matrix.allows(_before(stays, under_way, done))
            for done in product((False, True), repeat=len(under_way))
            if not all(done)
        )

    def blocks(self, target: str) -> bool:
        """Return False: what a swap needs depends on its plan."""
        del target
        return False


def _before(stays: frozenset[str], swaps: list[PlannedSwap], done: tuple[bool, ...]) -> set[str]:
    """Return what runs when only some of *swaps* are over."""
    found = set(stays)
    for swap, over in zip(swaps, done, strict=True):
        if over:
            found.add(swap.target)
        else:
            found.discard(swap.target)
            found.update(swap.plan.victims)
    return found
