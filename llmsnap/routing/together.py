"""What fits together: by the figures of a memory budget, or by a matrix. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from typing import Any

from llmsnap.routing.budget import UNKNOWN
from llmsnap.routing.matrix import Matrix
from llmsnap.routing.memory import Memory
from llmsnap.routing.occupancy import ANY_GPU
from llmsnap.routing.sentences import size

MOST_SETS, MOST_PAIRS = 50, 50
"""Sets that are searched for, and pairs that text lists."""
MOST_COMBINATIONS = 20
"""Combinations of a set of a matrix that are listed."""
MOST_CHECKS = 50_000
"""Sets of models that are looked at before the search ends."""

Names = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fits:
    """*sets* fit together, and no model can be added to them; pinned models are in each.

    *is_complete*: there are no others. *apart* are pairs that never fit together, *never* are
    models that can never be loaded, each with the reason.
    """

    sets: tuple[Names, ...]
    is_complete: bool
    apart: tuple[tuple[str, str], ...]
    never: Mapping[str, str]


def what_fits(memory: Memory, most_sets: int = MOST_SETS) -> Fits:
    """Return which models of *memory* fit together."""
    reasons = {each.model_id: memory.why_never(each.model_id) for each in memory.needs}
    never = {name: reason for name, reason in reasons.items() if reason}
    pinned = [each.model_id for each in memory.needs if each.always_stays]
    others = [name for name in reasons if name not in never and name not in pinned]
    apart = tuple(pair for pair in combinations(others, 2) if not memory.fits_together(pair))
    search = _Search(others, memory.fits_together)
    sets = tuple(islice(search.largest(), most_sets + 1)) if memory.fits_together(()) else ()
    ordered = (tuple(name for name in reasons if name in {*pinned, *each}) for each in sets)
    is_complete = len(sets) <= most_sets and not search.gave_up
    return Fits(tuple(ordered)[:most_sets], is_complete, apart, never)


class _Search:
    """Depth first, with each model before without it; *fits* holds for each part of a set, too."""

    def __init__(self, names: Sequence[str], fits: Callable[[Collection[str]], bool]) -> None:
        self._names = names
        self._fits = fits
        self._checks = 0

    @property
    def gave_up(self) -> bool:
        """Whether the search ended before all sets were found."""
        return self._checks > MOST_CHECKS

    def largest(self, place: int = 0, chosen: Names = (), without: Names = ()) -> Iterator[Names]:
        """Yield the sets that begin with *chosen* and have none of *without*, which would fit."""
        self._checks += 1
        if self.gave_up:
            return
        if place == len(self._names):
            if not any(self._fits((*chosen, name)) for name in without):
                yield chosen
            return
        name = self._names[place]
        if not self._fits((*chosen, name)):
            yield from self.largest(place + 1, chosen, without)
            return
        yield from self.largest(place + 1, (*chosen, name), without)
        # Without it only where others may take its room.
        if not self._fits((*chosen, *self._names[place:])):
            yield from self.largest(place + 1, chosen, (*without, name))


# --- for people -----------------------------------------------------------------------------------


def sets_document(matrix: Matrix) -> list[dict[str, Any]]:
    """Return the sets of *matrix*: how many combinations each has, and the first ones."""
    return [
        {"name": name, "combinations": number, "first": first}
        for name, number, first in matrix.sets(MOST_COMBINATIONS)
    ]


def said_of_sets(sets: Collection[Mapping[str, Any]]) -> Iterator[str]:
    """Yield lines about the document of ``sets_document``."""
    for each in sets:
        number = each["combinations"]
        yield f"set {each['name']}: {number} combination{'' if number == 1 else 's'}"
        yield from (f"  {', '.join(names)}" for names in each["first"])
        if number > len(each["first"]):
            yield "  and others"


def fits_document(memory: Memory) -> dict[str, Any]:
    """Return devices, what each model needs, and what fits together, in bytes."""
    found, alone = what_fits(memory), memory.unknown
    return {
        "devices": [
            {"name": each.name, "capacity": each.capacity, "reserve": each.reserve}
            for each in memory.devices
        ],
        "models": [
            {
                "model": each.model_id,
                "need": {share.device: share.size for share in each.shares}
                | ({ANY_GPU: each.anywhere} if each.anywhere else {}),
                "source": each.source if each.is_known else UNKNOWN,
                "alone_on": alone.get(each.model_id),
                "pinned": each.is_pinned,
                "never": found.never.get(each.model_id),
            }
            for each in memory.needs
        ],
        "together": [list(each) for each in found.sets],
        "together_is_complete": found.is_complete,
        "apart": [list(each) for each in found.apart],
    }


def said_of_fits(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines about the document of ``fits_document``."""
    devices = (f"{each['name']} {size(each['capacity'])}" for each in found["devices"])
    yield f"memory budget: {', '.join(devices)}"
    yield from map(_said_of_need, found["models"])
    if found["together"]:
        yield "these fit together:"
        yield from (f"  {', '.join(each)}" for each in found["together"] if each)
    if not found["together_is_complete"]:
        yield "  and others"
    pairs = found["apart"]
    if pairs:
        yield "these never fit together:"
        yield from (f"  {first} and {second}" for first, second in pairs[:MOST_PAIRS])
    if len(pairs) > MOST_PAIRS:
        yield f"  and {len(pairs) - MOST_PAIRS} other pairs"
    for each in found["models"]:
        if each["never"]:
            yield f"{each['model']} can never be loaded: {each['never']}"


def _said_of_need(model: Mapping[str, Any]) -> str:
    need = f"unknown, so it gets {model['alone_on']} alone"
    if model["source"] != UNKNOWN:
        parts = [
            f"{size(number)} on {'any one GPU' if name == ANY_GPU else name}"
            for name, number in model["need"].items()
        ]
        need = f"{' and '.join(parts) or 'nothing'}, {model['source']}"
    return f"  {model['model']}: {need}{', pinned' if model['pinned'] else ''}"
