"""What ``routing`` says: where the groups stand, how waiting models are ordered."""

from __future__ import annotations

from collections.abc import Mapping as Values
from types import MappingProxyType
from typing import Any

from .decode import Number
from .names import Names
from .nodes import Mapping, Node, Path, find
from .reader import Reader
from .report import Report
from .settings import SchedulerConfig

_ROUTER: Path = ("routing", "router")
_SETTINGS: Path = ("routing", "scheduler", "settings")
_NO_MATRIX = "say with groups which models run together"


def groups_node(values: Values[str, Any], root: Node, report: Report) -> tuple[Node | None, Path]:
    """Return the groups and their path: ``groups``, or the newer place for the same thing."""
    router = values["routing"]["router"]
    newer: Node | None = router["settings"]["groups"]
    path = (*_ROUTER, "settings", "groups")
    _refuse_matrix(router, root, report)
    if newer is None:
        return values["groups"], ("groups",)
    if values["groups"] is not None:
        what = f"groups are given twice, here and in line {values['groups'].line}"
        report.error(path, what, "keep one of the two", newer)
    return newer, path


def _refuse_matrix(router: Values[str, Any], root: Node, report: Report) -> None:
    if router["use"] == "matrix":
        at = find(root, (*_ROUTER, "use"))
        report.error((*_ROUTER, "use"), "matrix is not supported yet", _NO_MATRIX, at)
    matrix: Node | None = router["settings"]["matrix"]
    if matrix is None:
        return
    path = (*_ROUTER, "settings", "matrix")
    if router["use"] == "group":
        report.advise(path, "has no effect with use: group", "remove it", matrix)
    else:
        report.error(path, "not supported yet", _NO_MATRIX, matrix)


def read_scheduler(values: Values[str, Any], names: Names, reader: Reader) -> SchedulerConfig:
    """Return how waiting models are ordered."""
    scheduler = values["routing"]["scheduler"]
    use: str = scheduler["use"]
    priorities = {
        name: _priorities(scheduler["settings"][name]["priority"], name, names, reader)
        for name in ("fair", "fifo")
    }
    for name, given in priorities.items():
        if given and name != use:
            path = (*_SETTINGS, name, "priority")
            at = scheduler["settings"][name]["priority"]
            fix = f"move it to settings.{use}, or set use: {name}"
            reader.report.advise(path, f"has no effect with use: {use}", fix, at)
    return SchedulerConfig(
        use=use,
        max_hold_s=scheduler["settings"]["fair"]["maxHold"],
        priorities=MappingProxyType(priorities[use]),
    )


def _priorities(node: Node | None, use: str, names: Names, reader: Reader) -> dict[str, int]:
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
