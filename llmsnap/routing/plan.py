"""Who must leave so that a model may load: pure functions of the groups.

Loading T makes M leave when both are in one group with ``swap``, or when T's group is
``exclusive`` and M is in another group that is not ``persistent``. This is not symmetric: a
non-exclusive model loads beside an exclusive one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Group:
    """Models that share swap rules."""

    name: str
    members: tuple[str, ...]
    swap: bool = True
    exclusive: bool = True
    persistent: bool = False


class Plan:
    """Who evicts whom, for one set of groups. Immutable.

    A model of no group evicts nobody and is evicted by exclusive groups only.
    """

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self.groups = tuple(groups)
        self._group_of = {member: group for group in self.groups for member in group.members}

    def __repr__(self) -> str:
        return f"<Plan {len(self.groups)} groups, {len(self._group_of)} models>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Plan) and other.groups == self.groups

    def __hash__(self) -> int:
        return hash(self.groups)

    def evicts(self, target: str, other: str) -> bool:
        """Tell whether loading *target* makes *other* leave."""
        if target == other:
            return False
        mine = self._group_of.get(target)
        if mine is None:
            return False
        theirs = self._group_of.get(other)
        if theirs is mine:
            return mine.swap
        return mine.exclusive and not (theirs is not None and theirs.persistent)

    def excludes(self, one: str, other: str) -> bool:
        """Tell whether loading one of the two makes the other leave, either way round."""
        return self.evicts(one, other) or self.evicts(other, one)

    def evicted_by(self, target: str, running: Collection[str]) -> frozenset[str]:
        """Return those of *running* that must leave before *target* loads."""
        group = self._group_of.get(target)
        if group is None or not (group.swap or group.exclusive):
            return NOBODY
        return frozenset(other for other in running if self.evicts(target, other))
