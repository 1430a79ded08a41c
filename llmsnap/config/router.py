"""What decides which models run together: groups or a matrix, at the top or below the router."""

from __future__ import annotations

from collections.abc import Collection
from collections.abc import Mapping as Values
from typing import Any, NamedTuple

from .groups import evicts, read_groups
from .kinds import ValueReader
from .matrix import allows, partners, read_matrix
from .memory import read_devices, read_memory_rules
from .models import ModelNames
from .nodes import Node, Path, Report, find_node, has_node
from .parts import DEFAULT_GROUP, EXTERNAL_GROUP, DeviceConfig, GroupConfig, MatrixConfig

ROUTER: Path = ("routing", "router")
USE: Path = (*ROUTER, "use")


class _Place(NamedTuple):
    """Where groups, or a matrix, are written; *node* is None if they are not."""

    node: Node | None
    path: Path


def read_router(
    values: Values[str, Any], names: ModelNames, root: Node, reader: ValueReader
) -> dict[str, Any]:
    """Return the fields of ``Config`` that say which models run together."""
    report = reader.report
    groups = _place("groups", values, report)
    matrix = _place("matrix", values, report)
    devices = read_devices(values["memory"], reader)
    counts = values["memory"] is not None or any(
        has_node(root, ("models", name, "memory")) for name in names.models
    )
    use = _used(values, groups, matrix, root, report)
    if counts and not values["routing"]["router"]["use"] and groups.node is matrix.node is None:
        use = "memory"
    if use == "memory":
        _check_memory(names, devices, matrix, report)
    elif counts:
        what = f"is not enforced: {'groups' if use == 'group' else 'a matrix'} decide"
        report.advise(("memory",), what, "set routing.router.use: memory", values["memory"])
    _check_placed(names, use, report)
    _advise_of_both_styles(values, report)
    return {
        "residency": use,
        "memory": devices,
        "memory_rules": read_memory_rules(values["memory"], reader),
        "groups": read_groups(groups.node, groups.path, names, reader),
        "matrix": _matrix(use, matrix, names, reader),
    }


def _place(name: str, values: Values[str, Any], report: Report) -> _Place:
    """Return where *name* is written: at the top, or below the router."""
    top: Node | None = values[name]
    below: Node | None = values["routing"]["router"]["settings"][name]
    if below is None:
        return _Place(top, (name,))
    path = (*ROUTER, "settings", name)
    if top is not None:
        noun = "groups are" if name == "groups" else "a matrix is"
        what = f"{noun} given twice, here and in line {top.line}"
        report.error(path, what, "keep one of the two", below)
    return _Place(below, path)


def _used(
    values: Values[str, Any], groups: _Place, matrix: _Place, root: Node, report: Report
) -> str:
    """Return ``group``, ``matrix`` or ``memory``: what the file asks for, or what it has."""
    use: str = values["routing"]["router"]["use"]
    if use == "matrix" and matrix.node is None:
        fix = "add matrix with its sets, or remove this line"
        report.error(USE, "there is no matrix", fix, find_node(root, USE))
        return "group"
    if not use and values["groups"] is not None and values["matrix"] is not None:
        what = f"stands beside groups, in line {values['groups'].line}"
        fix = "keep one of the two, or choose with routing.router.use"
        report.error(matrix.path, what, fix, matrix.node)
    if use:
        return use
    return "matrix" if matrix.node is not None and groups.node is None else "group"


def _check_memory(
    names: ModelNames, devices: tuple[DeviceConfig, ...], matrix: _Place, report: Report
) -> None:
    """Report a matrix, which memory contradicts; advise on needs on devices not listed."""
    if matrix.node is not None:
        fix = "keep one of the two: remove it, or routing.router.use"
        report.error(matrix.path, "a matrix beside use: memory", fix, matrix.node)
    gpus = [each.name for each in devices if each.name != "ram"]
    for model in names.models.values():
        needs = [each for each in (model.memory, model.asleep_memory) if each is not None]
        named = {size.device: "memory" for need in needs for size in need.sizes}
        for name, key in ({model.device: "device"} | named if gpus else {}).items():
            if name and name not in (*gpus, "ram"):
                path = ("models", model.id, key)
                what = f"{name} is not among the devices of memory: {', '.join(gpus)}"
                report.advise(path, what, f"add {name}, unless this machine has it")


def _check_placed(names: ModelNames, use: str, report: Report) -> None:
    """Report commands that name a GPU which is not chosen for them."""
    for model in names.models.values():
        chosen = use == "memory" and model.memory is not None and model.memory.anywhere_bytes
        if "${DEVICE}" in model.cmd and not chosen and not model.device.startswith("gpu"):
            what = "${DEVICE} is known only of a model with device, or with memory: {any: SIZE}"
            fix = "add device: gpu0 or memory: {any: SIZE} with use: memory, or write the number"
            report.error(("models", model.id, "cmd"), what, fix)


def _matrix(
    use: str, matrix: _Place, names: ModelNames, reader: ValueReader
) -> MatrixConfig | None:
    """Return the matrix in use; the mistakes of one that is not in use are advice."""
    if matrix.node is None:
        return None
    if use == "memory":
        return None  # reported as an error
    if use == "matrix":
        return read_matrix(matrix.node, matrix.path, names, reader)
    report = reader.report
    report.advise(matrix.path, f"has no effect with use: {use}", "remove it", matrix.node)
    trial = Report()
    read_matrix(matrix.node, matrix.path, names, ValueReader(trial, reader.macros))
    report.advice += [*trial.problems, *trial.advice]
    return None


def _advise_of_both_styles(values: Values[str, Any], report: Report) -> None:
    """Advise where llama-swap refuses a file: keys at the top beside those of the router."""
    router = values["routing"]["router"]
    below = router["use"] or any(router["settings"][name] for name in ("groups", "matrix"))
    for name in ("groups", "matrix"):
        top = values[name]
        if top is not None and below and router["settings"][name] is None:
            what = "stands beside keys of routing.router; llama-swap refuses such a file"
            fix = f"move it to routing.router.settings.{name}"
            report.advise((name,), what, fix, top)


_NO_GROUP = GroupConfig(DEFAULT_GROUP)


class Together:
    """Which models may run together: by groups, by a matrix, or, without sizes, by a budget."""

    def __init__(
        self, groups: Values[str, GroupConfig], matrix: MatrixConfig | None, residency: str
    ) -> None:
        self._has_budget = residency == "memory"
        self._groups = {name: each for each in groups.values() for name in each.members}
        self._matrix = matrix
        self._partners = partners(matrix) if matrix is not None else None

    def evicts(self, target: str, victim: str) -> bool:
        """Return whether loading *target* evicts *victim*, with no other model running."""
        external = {self._group(name).id for name in (target, victim)} & {EXTERNAL_GROUP}
        if self._partners is not None and not external:
            return victim not in self._partners.get(target, ())
        if self._has_budget:
            group = self._group(target)
            is_written = group.id not in {DEFAULT_GROUP, EXTERNAL_GROUP, _NO_GROUP.id}
            return is_written and group.swap and group.id == self._group(victim).id
        return evicts(self._group(target), self._group(victim))

    def all_fit(self, names: Collection[str]) -> bool:
        """Return whether all *names*, any two of which may run together, may do so."""
        here = frozenset(name for name in names if self._group(name).id != EXTERNAL_GROUP)
        return self._matrix is None or len(here) < 2 or allows(self._matrix, here)

    def _group(self, name: str) -> GroupConfig:
        return self._groups.get(name, _NO_GROUP)
