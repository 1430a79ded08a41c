"""Who must leave so that a model may load: pure functions of the groups.

Loading T makes M leave when both are in one group with ``swap``, or when T's group is
``exclusive`` and M is in another group that is not ``persistent``. This is not symmetric: a
non-exclusive model loads beside an exclusive one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

NOBODY: frozenset[str] = frozenset()
_NO_GROUP = -1


@dataclass(frozen=True, slots=True)
class Group:
    """Models that share swap rules."""

    name: str
    members: tuple[str, ...]
    swap: bool = True
    exclusive: bool = True
    persistent: bool = False


class Footprint:
    """The targets and victims of some swaps: what another swap must not touch."""

    __slots__ = ("groups", "models")

    def __init__(self) -> None:
        self.models: set[str] = set()
        self.groups: set[int] = set()


class Plan:
    """Who evicts whom, for one set of groups. Immutable.

    A model of no group evicts nobody and is evicted by exclusive groups only.
    """

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self.groups = tuple(groups)
        self._number = {m: i for i, group in enumerate(self.groups) for m in group.members}

    def __repr__(self) -> str:
        return f"<Plan {len(self.groups)} groups, {len(self._number)} models>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and other.groups == self.groups

    def __hash__(self) -> int:
        return hash(self.groups)

    def evicts(self, target: str, other: str) -> bool:
        """Tell whether loading *target* makes *other* leave."""
        return target != other and self._expels(self._group(target), self._group(other))

    def excludes(self, one: str, other: str) -> bool:
        """Tell whether loading one of the two makes the other leave, either way round."""
        return self.evicts(one, other) or self.evicts(other, one)

    def evicted_by(self, target: str, running: Collection[str]) -> frozenset[str]:
        """Return those of *running* that must leave before *target* loads."""
        mine = self._group(target)
        if mine == _NO_GROUP or not (self.groups[mine].swap or self.groups[mine].exclusive):
            return NOBODY
        number, expels = self._number, self._expels
        return frozenset(
            other
            for other in running
            if other != target and expels(mine, number.get(other, _NO_GROUP))
        )

    def cover(self, footprint: Footprint, models: Iterable[str]) -> None:
        """Add *models* to *footprint*."""
        for model_id in models:
            footprint.models.add(model_id)
            footprint.groups.add(self._group(model_id))

    def clashes(self, footprint: Footprint, models: Iterable[str]) -> bool:
        """Tell whether one of *models* is in *footprint*, or excludes one that is.

        Compares groups, so its cost does not grow with the number of models of a group.
        """
        mine: set[int] = set()
        for model_id in models:
            if model_id in footprint.models:
                return True
            mine.add(self._group(model_id))
        return any(
            self._expels(one, other) or self._expels(other, one)
            for one in mine
            for other in footprint.groups
        )

    def is_behind(self, footprint: Footprint, model_id: str) -> bool:
        """Tell whether *footprint* touches the swap group of *model_id*.

        Then a swap to it clashes, and concerns no group that *footprint* does not.
        """
        group = self._group(model_id)
        return group in footprint.groups and group != _NO_GROUP and self.groups[group].swap

    def _group(self, model_id: str) -> int:
        return self._number.get(model_id, _NO_GROUP)

    def _expels(self, mine: int, theirs: int) -> bool:
        """Tell whether loading a model of group *mine* makes another one of *theirs* leave."""
        if mine == _NO_GROUP:
            return False
        if mine == theirs:
            return self.groups[mine].swap
        persistent = theirs != _NO_GROUP and self.groups[theirs].persistent
        return self.groups[mine].exclusive and not persistent
