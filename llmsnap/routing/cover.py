"""The cheapest way to free memory on several devices: branch and bound, from greedy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MOST_NODES = 5_000
"""Nodes looked at before the best way found so far is taken."""
EXACT_UP_TO = 12
"""Candidates up to which the answer is the optimum, whatever it takes."""

Bytes = tuple[int, ...]
"""Bytes by device, in the order of the devices."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way in which a candidate leaves: what it costs and frees. *tie* decides equal costs."""

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


def cheapest(candidates: Sequence[Sequence[Way]], need: Bytes) -> Cover | None:
    """Return the cheapest choice of ways that frees *need*; None if all together do not.

    Each way of a candidate frees at least as much on each device as the one before it; costs are
    above zero. The optimum for up to ``EXACT_UP_TO`` candidates, beyond that never worse than
    greedy. No victim of it could stay.
    """
    start = greedy(candidates, need)
    if start is None:
        return None
    search = _Search(candidates, start, need)
    search.run()
    return Cover(search.best.chosen, search.best.key, search.nodes)


def greedy(candidates: Sequence[Sequence[Way]], need: Bytes) -> Cover | None:
    """Return the choice of the best ratio of cost to what is still wanted, without idle victims."""
    chosen: list[int | None] = [None] * len(candidates)
    left = list(need)
    while any(each > 0 for each in left):
        best: tuple[float, int, int] | None = None
        for number, ways in enumerate(candidates):
            for index, way in enumerate(ways):
                now = chosen[number]
                if now is not None and index <= now:
                    continue
                useful = _gain(way, _way(ways, chosen[number]), left)
                extra = way.cost - _cost(ways, chosen[number])
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


def _without_idle(
    candidates: Sequence[Sequence[Way]], chosen: list[int | None], need: Bytes
) -> list[int | None]:
    """Return *chosen* without victims that may stay, the most expensive first."""
    order = sorted(
        range(len(chosen)), key=lambda number: -_cost(candidates[number], chosen[number])
    )
    for number in order:
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


class _Search:
    """Depth first over the candidates, largest first, with the cost of the best as the bound."""

    def __init__(self, candidates: Sequence[Sequence[Way]], start: Cover, need: Bytes) -> None:
        self._candidates = candidates
        self._need = need
        self.best = start
        self.nodes = 0
        self._most = float("inf") if len(candidates) <= EXACT_UP_TO else MOST_NODES
        devices = range(len(need))
        scale = [max(1, each) for each in need]
        self._order = sorted(
            range(len(candidates)),
            key=lambda n: (
                -max(
                    (sum(w.frees[d] / scale[d] for d in devices) for w in candidates[n]),
                    default=0.0,
                )
            ),
        )
        # What all candidates from a place on can free at most, and the lowest price of a byte.
        self._rest: list[list[int]] = [[0] * len(need)]
        self._price: list[list[float]] = [[float("inf")] * len(need)]
        for number in reversed(self._order):
            ways = candidates[number]
            frees = [max((way.frees[d] for way in ways), default=0) for d in devices]
            prices = [
                min((w.cost / w.frees[d] for w in ways if w.frees[d]), default=float("inf"))
                for d in devices
            ]
            self._rest.append([a + b for a, b in zip(self._rest[-1], frees, strict=True)])
            self._price.append([min(p) for p in zip(self._price[-1], prices, strict=True)])
        self._rest.reverse()
        self._price.reverse()

    def run(self) -> None:
        """Improve ``best`` until it is the optimum, or nodes run out."""
        self._visit(0, [None] * len(self._candidates), list(self._need), 0.0)

    def _visit(self, place: int, chosen: list[int | None], left: list[int], cost: float) -> None:
        self.nodes += 1
        if all(each <= 0 for each in left):
            found = cover_of(self._candidates, chosen)
            if found.key < self.best.key:
                self.best = found
            return
        if self.nodes > self._most or self._is_hopeless(place, left, cost):
            return
        number = self._order[place]
        for index, way in enumerate(self._candidates[number]):
            chosen[number] = index
            after = [a - b for a, b in zip(left, way.frees, strict=True)]
            self._visit(place + 1, chosen, after, cost + way.cost)
        chosen[number] = None
        self._visit(place + 1, chosen, left, cost)

    def _is_hopeless(self, place: int, left: list[int], cost: float) -> bool:
        """Tell whether what is left cannot be freed, or not at less than the best cost."""
        least = 0.0
        for device, wanted in enumerate(left):
            if wanted > 0:
                if self._rest[place][device] < wanted:
                    return True
                least = max(least, wanted * self._price[place][device])
        return cost + least > self.best.key[0] + 1e-9
