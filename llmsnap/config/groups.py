"""Groups: every model in exactly one, the rest in ``(default)``."""

from __future__ import annotations

from collections.abc import Mapping as Values
from types import MappingProxyType
from typing import Any

from .keys import GROUP
from .names import Names
from .nodes import Mapping, Node, Path, find
from .reader import Reader
from .report import Report
from .settings import DEFAULT_GROUP, GroupConfig


def read_groups(
    node: Node | None, path: Path, names: Names, report: Report
) -> Values[str, GroupConfig]:
    """Return the groups in file order, ``(default)`` last."""
    entries: dict[str, Node] = {}
    reader = Reader(report)  # without macros: members are taken literally
    if isinstance(node, Mapping):
        entries = dict(node.entries)
    elif node is not None:
        reader.mismatch(node, path, "a mapping", "write a line ID: for each group")
    values = {
        group_id: GROUP.read(below, (*path, group_id), reader)
        for group_id, below in entries.items()
    }
    own = values.pop(DEFAULT_GROUP, None)
    if own is not None:
        what = "is made by llmsnap: it takes every model that is in no other group"
        fix = "give the group another name"
        report.advise((*path, DEFAULT_GROUP), what, fix, entries[DEFAULT_GROUP])
    members = _Membership(node, path, names, report).resolve(values)
    groups = {
        group_id: GroupConfig(
            id=group_id,
            swap=group["swap"],
            exclusive=group["exclusive"],
            persistent=group["persistent"],
            members=tuple(members[group_id]),
        )
        for group_id, group in values.items()
    }
    placed = {model_id for group in groups.values() for model_id in group.members}
    rest = tuple(model_id for model_id in names.models if model_id not in placed)
    groups[DEFAULT_GROUP] = GroupConfig(DEFAULT_GROUP, members=rest)
    return MappingProxyType(groups)


class _Membership:
    """Puts models into groups: by id first, then by alias where the model is still free."""

    def __init__(self, node: Node | None, path: Path, names: Names, report: Report) -> None:
        self._node = node
        self._path = path
        self._names = names
        self._report = report
        self._group_of: dict[str, str] = {}

    def resolve(self, values: Values[str, Values[str, Any]]) -> dict[str, list[str]]:
        """Return the model ids of each group."""
        listed = self._without_duplicates(values)
        self._group_of = {
            name: group for name, group in listed.items() if name in self._names.models
        }
        for name, group_id in listed.items():
            if name not in self._names.models:
                self._place_by_alias(name, group_id)
        members: dict[str, list[str]] = {group_id: [] for group_id in values}
        for model_id, group_id in self._group_of.items():
            members[group_id].append(model_id)
        return members

    def _without_duplicates(self, values: Values[str, Values[str, Any]]) -> dict[str, str]:
        owners: dict[str, str] = {}
        for group_id, group in values.items():
            for name in group["members"]:
                owner = owners.get(name)
                owners.setdefault(name, group_id)
                if owner == group_id:
                    self._error(group_id, f'member "{name}" is listed twice', "remove one of them")
                elif owner is not None:
                    what = f'member "{name}" is in two groups, "{owner}" and "{group_id}"'
                    self._error(group_id, what, "keep it in one of them")
        return owners

    def _place_by_alias(self, name: str, group_id: str) -> None:
        model_id = self._names.aliases.get(name)
        if model_id is None:
            fix = self._report.nearest(name, self._names.all()) or "remove it"
            self._advise(group_id, f'member "{name}" is no model', fix)
        elif model_id in self._group_of:
            what = f'member "{name}" is an alias of "{model_id}", which is in '
            what += f'"{self._group_of[model_id]}"'
            self._advise(group_id, what, "remove it")
        else:
            self._group_of[model_id] = group_id

    def _at(self, group_id: str) -> Node | None:
        return find(self._node, (group_id, "members"))

    def _error(self, group_id: str, what: str, fix: str) -> None:
        self._report.error((*self._path, group_id, "members"), what, fix, self._at(group_id))

    def _advise(self, group_id: str, what: str, fix: str) -> None:
        self._report.advise((*self._path, group_id, "members"), what, fix, self._at(group_id))
