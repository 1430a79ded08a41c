"""Groups, scheduler settings and preloads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Values
from types import MappingProxyType
from typing import Any

from .keys import stored_values
from .kinds import Number, ValueReader
from .launchers import LOCAL
from .model_settings import ModelConfig
from .models import ModelNames
from .nodes import Mapping, Node, Path, Report, find_node
from .parts import DEFAULT_GROUP, EXTERNAL_GROUP, GROUP, GroupConfig, SchedulerConfig


def read_groups(
    node: Node | None, path: Path, names: ModelNames, reader: ValueReader
) -> Values[str, GroupConfig]:
    """Return the groups in file order, then those made here, ``(default)`` last."""
    entries: dict[str, Node] = {}
    report = reader.report
    if isinstance(node, Mapping):
        entries = dict(node.entries)
    elif node is not None:
        reader.mismatch(node, path, "a mapping", "write a line ID: for each group")
    values = {
        group_id: GROUP.read(below, (*path, group_id), reader)
        for group_id, below in entries.items()
    }
    for made in (DEFAULT_GROUP, EXTERNAL_GROUP):
        if values.pop(made, None) is not None:
            what = "is made by llmsnap: it takes models that are in no other group"
            report.advise((*path, made), what, "give the group another name", entries[made])
    members = _Membership(node, path, names, report).resolve(values)
    groups = {
        group_id: GroupConfig(
            id=group_id,
            places=places_of(members[group_id], names),
            **{**stored_values(GroupConfig, group), "members": tuple(members[group_id])},
        )
        for group_id, group in values.items()
    }
    placed = {model_id for group in groups.values() for model_id in group.members}
    rest = [model for model in names.models.values() if model.id not in placed]
    groups |= made_groups(rest)
    return MappingProxyType(groups)


def places_of(members: Iterable[str], names: ModelNames) -> tuple[str, ...]:
    """Return the launchers of *members*, sorted; ``local`` for none."""
    found = {names.models[model_id].launcher for model_id in members}
    return tuple(sorted(found)) or (LOCAL,)


def made_groups(models: Sequence[ModelConfig]) -> dict[str, GroupConfig]:
    """Return the groups of the *models* that the file places in none."""
    others = tuple(model.id for model in models if model.is_elsewhere)
    own = tuple(model.id for model in models if not model.is_elsewhere)
    made = {DEFAULT_GROUP: GroupConfig(DEFAULT_GROUP, members=own)}
    if others:
        stays = GroupConfig(
            EXTERNAL_GROUP, swap=False, exclusive=False, persistent=True, members=others
        )
        made = {EXTERNAL_GROUP: stays, **made}
    return made


class _Membership:
    """Assigns models to groups: by id first, then by alias if the model has no group yet."""

    def __init__(self, node: Node | None, path: Path, names: ModelNames, report: Report) -> None:
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
        return find_node(self._node, (group_id, "members"))

    def _error(self, group_id: str, what: str, fix: str) -> None:
        self._report.error((*self._path, group_id, "members"), what, fix, self._at(group_id))

    def _advise(self, group_id: str, what: str, fix: str) -> None:
        self._report.advise((*self._path, group_id, "members"), what, fix, self._at(group_id))


def evicts(target: GroupConfig, victim: GroupConfig) -> bool:
    """Return whether loading a model of *target* evicts one of *victim*."""
    if target.id == victim.id:
        return target.swap
    is_near = not frozenset(target.places).isdisjoint(victim.places)
    return target.exclusive and not victim.persistent and is_near


# --- the scheduler --------------------------------------------------------------------------------

_SETTINGS: Path = ("routing", "scheduler", "settings")


def read_scheduler(
    values: Values[str, Any], names: ModelNames, root: Node, reader: ValueReader
) -> SchedulerConfig:
    """Return the scheduler settings, which order the waiting models.

    Where no scheduler is named, as in files of llama-swap, ``fair`` takes over ``fifo.priority``.
    """
    scheduler = values["routing"]["scheduler"]
    use: str = scheduler["use"]
    priorities = {
        name: _priorities(settings["priority"], name, names, reader)
        for name, settings in scheduler["settings"].items()
    }
    at = find_node(root, ("routing", "scheduler"))
    if not (isinstance(at, Mapping) and "use" in at.entries) and not priorities["fair"]:
        priorities["fair"], priorities["fifo"] = priorities["fifo"], {}
    for name, given in priorities.items():
        if given and name != use:
            path = (*_SETTINGS, name, "priority")
            at = scheduler["settings"][name]["priority"]
            fix = f"move it to settings.{use}, or set use: {name}"
            reader.report.advise(path, f"has no effect with use: {use}", fix, at)
    return SchedulerConfig(
        **stored_values(SchedulerConfig, scheduler),
        priorities=MappingProxyType(priorities.get(use, {})),
    )


def _priorities(
    node: Node | None, use: str, names: ModelNames, reader: ValueReader
) -> dict[str, int]:
    path = (*_SETTINGS, use, "priority")
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        reader.mismatch(node, path, "a mapping", "write a line MODEL: number for each")
        return {}
    found: dict[str, int] = {}
    for name, below in node.entries.items():
        model_id = names.resolve(name)
        priority = Number(0, whole=True).read(below, (*path, name), reader)
        if model_id is None:
            fix = reader.report.nearest(name, names.all()) or "name a model id or an alias"
            what = f'"{name}" is no model'
            reader.report.error((*path, name), what, fix, node.keys[name])
        elif found.setdefault(model_id, priority) != priority:
            what = f'model "{model_id}" has two priorities'
            reader.report.error((*path, name), what, "keep one", node.keys[name])
    return {model_id: priority for model_id, priority in found.items() if priority}


def preload(
    values: Values[str, Any], names: ModelNames, root: Node, report: Report
) -> tuple[str, ...]:
    """Return the ids of the models to load at start, each once."""
    found: dict[str, None] = {}
    for spelling in ("on_startup", "onStartup"):
        path: Path = ("hooks", spelling, "preload")
        for name in values["hooks"][spelling]["preload"]:
            model_id = names.resolve(name.strip())
            if model_id is not None:
                found[model_id] = None
            elif name.strip():
                fix = report.nearest(name.strip(), names.all()) or "name a model id or an alias"
                report.advise(path, f'"{name.strip()}" is no model', fix, find_node(root, path))
    return tuple(found)
