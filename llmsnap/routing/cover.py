"""The cheapest way to free memory on several devices: branch and bound, from greedy. Pure."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

MOST_NODES = 5_000
"""Nodes looked at before the best way found so far is taken."""
EXACT_UP_TO = 12
"""Candidates up to which the answer is the optimum, whatever it takes."""

_ROUNDED = 1e-6
"""Costs that differ by less are equal."""

Bytes = tuple[int, ...]
"""Bytes by device, in the order of the devices."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which a candidate leaves: what it costs and frees. *tie* decides equal costs.

    One that moves to another device when it sleeps frees less than nothing there.
    """

    cost: float
    frees: Bytes
    tie: tuple[bool, float]
    """Whether it is busy, and when it was used last."""


Chosen = tuple[int | None, ...]
"""For each candidate the index of the way in which it leaves, None if it stays."""


@dataclass(frozen=True, slots=True)
class Cover:
    """A choice that frees enough. Of several, the one with the smallest *key* is the best."""

    chosen: Chosen
    key: tuple[float, bool, float, tuple[int, ...]]
    nodes: int = 0


def cheapest(
    candidates: Sequence[Sequence[Way]], need: Bytes, most_nodes: float = MOST_NODES
) -> Cover | None:
    """Return the cheapest choice of ways that frees *need*; None if all together do not.

    A *need* below zero is what may be taken. Each way of a candidate frees at least as much on
    each device as the one before it; costs are above zero. The optimum for up to ``EXACT_UP_TO``
    candidates, beyond that the best of *most_nodes*, never worse than greedy. No victim of it could
    stay.
    """
    start = greedy(candidates, need)
    if start is None or not any(size > 0 for size in need):
        return start
    search = _Search(candidates, start, need)
    if len(candidates) > EXACT_UP_TO:
        search.limit(most_nodes)
    search.run()
    return Cover(search.best.chosen, search.best.key, search.nodes)


def greedy(candidates: Sequence[Sequence[Way]], need: Bytes) -> Cover | None:
    """Return the choice of the best ratio of cost to what is still wanted, without idle victims."""
    chosen: list[int | None] = [None] * len(candidates)
    left = list(need)
    while any(each > 0 for each in left):
        best: tuple[float, int, int] | None = None
        for number, ways in enumerate(candidates):
            now = chosen[number]
            before, paid = _way(ways, now), _cost(ways, now)
            for index in range(0 if now is None else now + 1, len(ways)):
                way = ways[index]
                useful = _gain(way, before, left)
                extra = way.cost - paid
                if useful > 0 and (best is None or (extra / useful, number, index) < best):
                    best = (extra / useful, number, index)
        if best is None:
            return None
        _, number, index = best
        before, after = _way(candidates[number], chosen[number]), candidates[number][index]
        for device in range(len(left)):
            left[device] -= after.frees[device] - (before.frees[device] if before else 0)
        chosen[number] = index
    return cover_of(candidates, _without_idle(candidates, chosen, need))


def cover_of(candidates: Sequence[Sequence[Way]], chosen: Sequence[int | None]) -> Cover:
    """Return *chosen* with its key."""
    ways = [
        (number, candidates[number][index])
        for number, index in enumerate(chosen)
        if index is not None
    ]
    key = (
        round(sum(way.cost for _, way in ways), 6),
        any(way.tie[0] for _, way in ways),
        max((way.tie[1] for _, way in ways), default=float("-inf")),
        tuple(number for number, _ in ways),
    )
    return Cover(tuple(chosen), key)


def is_enough(
    candidates: Sequence[Sequence[Way]], chosen: Sequence[int | None], need: Bytes
) -> bool:
    """Tell whether *chosen* frees *need* on each device."""
    freed = [0] * len(need)
    for ways, index in zip(candidates, chosen, strict=True):
        if index is not None:
            for device, size in enumerate(ways[index].frees):
                freed[device] += size
    return all(one >= other for one, other in zip(freed, need, strict=True))


def is_needed(
    candidates: Sequence[Sequence[Way]], chosen: Sequence[int | None], need: Bytes
) -> bool:
    """Tell whether *chosen* frees *need*, and would not if one stayed, or left by a lesser way."""
    for number, index in enumerate(chosen):
        for less in {None, index - 1 if index else None} if index is not None else ():
            if is_enough(candidates, (*chosen[:number], less, *chosen[number + 1 :]), need):
                return False
    return is_enough(candidates, chosen, need)


def _without_idle(
    candidates: Sequence[Sequence[Way]], chosen: list[int | None], need: Bytes
) -> list[int | None]:
    """Return *chosen* without victims that may stay, the most expensive first."""
    victims = [number for number, index in enumerate(chosen) if index is not None]
    victims.sort(key=lambda number: -_cost(candidates[number], chosen[number]))
    for number in victims:
        kept = chosen[number]
        chosen[number] = None
        if not is_enough(candidates, chosen, need):
            chosen[number] = kept
    return chosen


def _way(ways: Sequence[Way], index: int | None) -> Way | None:
    return None if index is None else ways[index]


def _cost(ways: Sequence[Way], index: int | None) -> float:
    return 0.0 if index is None else ways[index].cost


def _gain(way: Way, before: Way | None, left: Sequence[int]) -> float:
    """Return which part of what is still wanted *way* frees in place of *before*."""
    gain = 0.0
    for device, wanted in enumerate(left):
        if wanted > 0:
            freed = way.frees[device] - (before.frees[device] if before else 0)
            gain += min(freed, wanted) / wanted
    return gain


class _Step(NamedTuple):
    """A way of a candidate, by its number, and what it frees of the devices that matter."""

    number: int
    cost: float
    frees: Bytes
    tie: tuple[bool, float]


class _Rest:
    """What the candidates from a place on can free of one device, the cheapest bytes first."""

    def __init__(self, items: Sequence[tuple[float, int]]) -> None:
        self._prices = [price for price, _ in items]
        self._freed = [0, *accumulate(size for _, size in items)]
        self._costs = [0.0, *accumulate(price * size for price, size in items)]

    def least(self, wanted: int) -> float:
        """Return the least cost to free *wanted* if parts of models could leave; inf: never."""
        place = bisect_left(self._freed, wanted) - 1
        if place == len(self._prices):
            return math.inf
        return self._costs[place] + (wanted - self._freed[place]) * self._prices[place]


class _Search:
    """Depth first over the candidates, largest first; the best so far bounds cost and ties."""

    def __init__(self, candidates: Sequence[Sequence[Way]], start: Cover, need: Bytes) -> None:
        self._candidates = candidates
        frees = [way.frees for ways in candidates for way in ways]
        self._devices = [
            device
            for device, wanted in enumerate(need)
            if wanted > 0 or min(sizes[device] for sizes in frees) < 0
        ]
        self._need = tuple(need[device] for device in self._devices)
        self.best = start
        self.nodes = 0
        self._most = math.inf
        self._chosen: list[int | None] = [None] * len(candidates)
        steps = {number: self._steps(ways) for number, ways in enumerate(candidates)}
        useful = [number for number, found in steps.items() if found]
        useful.sort(key=lambda number: self._rank(steps[number]))
        self._order = [(number, steps[number]) for number in useful]
        self._prices = [self._prices_of(device) for device in range(len(self._need))]
        self._rests: dict[int, list[_Rest]] = {}

    def limit(self, nodes: float) -> None:
        """Look at about *nodes* at most."""
        self._most = nodes

    def run(self) -> None:
        """Improve ``best`` until it is the optimum, or nodes run out."""
        self._visit(0, self._need, 0.0, (False, -math.inf))

    def _steps(self, ways: Sequence[Way]) -> list[_Step]:
        """Return the ways that free what is needed; each frees more than the one before."""
        found: list[_Step] = []
        for index, way in enumerate(ways):
            frees = tuple(way.frees[device] for device in self._devices)
            if max(frees, default=0) > 0 and (not found or frees != found[-1].frees):
                found.append(_Step(index, way.cost, frees, way.tie))
        return found

    def _rank(self, steps: list[_Step]) -> tuple[float, float, tuple[bool, float]]:
        last = steps[-1]
        pairs = zip(last.frees, self._need, strict=True)
        parts = (size / wanted for size, wanted in pairs if wanted > 0)
        return -sum(parts), last.cost, last.tie

    def _prices_of(self, device: int) -> list[tuple[float, int, int]]:
        """Return the least price of a byte, the bytes and the place of each candidate, sorted."""
        return sorted(
            (
                min(step.cost / step.frees[device] for step in steps if step.frees[device] > 0),
                steps[-1].frees[device],
                place,
            )
            for place, (_, steps) in enumerate(self._order)
            if steps[-1].frees[device] > 0
        )

    def _rest(self, place: int) -> list[_Rest]:
        """Return what can still be freed of each device from *place* on."""
        found = self._rests.get(place)
        if found is None:
            found = self._rests[place] = [
                _Rest([(price, size) for price, size, at in prices if at >= place])
                for prices in self._prices
            ]
        return found

    def _visit(self, place: int, left: Bytes, cost: float, tie: tuple[bool, float]) -> None:
        """Try all choices from *place* on; *tie* is whether a victim is busy, and the last use."""
        self.nodes += 1
        if max(left, default=0) <= 0:
            found = cover_of(self._candidates, self._chosen)
            if found.key < self.best.key:
                self.best = found
            return
        if self.nodes > self._most or self._is_hopeless(place, left, cost, tie):
            return
        number, steps = self._order[place]
        for step in steps:
            self._chosen[number] = step.number
            after = tuple(a - b for a, b in zip(left, step.frees, strict=True))
            busy, used = tie[0] or step.tie[0], max(tie[1], step.tie[1])
            self._visit(place + 1, after, cost + step.cost, (busy, used))
        self._chosen[number] = None
        self._visit(place + 1, left, cost, tie)

    def _is_hopeless(self, place: int, left: Bytes, cost: float, tie: tuple[bool, float]) -> bool:
        """Tell whether what is left cannot be freed, or not by a better choice than the best."""
        least = cost
        for rest, wanted in zip(self._rest(place), left, strict=True):
            if wanted > 0:
                least = max(least, cost + rest.least(wanted))
        key = self.best.key
        return least > key[0] + _ROUNDED or (least > key[0] - _ROUNDED and tie > key[1:3])
