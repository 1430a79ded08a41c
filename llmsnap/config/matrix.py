"""The swap matrix: sets of expressions that say which models may be in memory together."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping as Values
from itertools import combinations
from typing import Any

from .expressions import NAME, Expression, ExpressionError, parse
from .kinds import Number, ValueReader
from .models import ModelNames
from .nodes import Mapping, Node, Path, Scalar
from .parts import MATRIX, EvictCost, MatrixConfig, MatrixSet

_VARIABLE = re.compile(r"[A-Za-z0-9.-]{1,32}")
AUTO = "auto"
MAX_LEVELS = 120
"""Operators within operators, also through sets that refer to sets."""
MOST_SETS_COMPARED, MOST_MODELS_COMPARED = 20, 8
"""In a matrix, and in a set: comparing takes time at each reload."""


def read_matrix(
    node: Node, path: Path, names: ModelNames, reader: ValueReader
) -> MatrixConfig | None:
    """Return the matrix in *node*; None if something in it was reported as an error."""
    before = len(reader.report.problems)
    values = MATRIX.read(node, path, reader)
    found = _Matrix(node, path, names, reader).read(values)
    return found if len(reader.report.problems) == before else None


class _Matrix:
    """The reading of one matrix."""

    def __init__(self, node: Node, path: Path, names: ModelNames, reader: ValueReader) -> None:
        self._node = node
        self._path = path
        self._names = names
        self._reader = reader
        self._report = reader.report
        self._vars: dict[str, str] = {}

    def read(self, values: Values[str, Any]) -> MatrixConfig:
        self._vars = self._variables(values["vars"])
        costs, learns = self._costs(values["evict_costs"])
        return MatrixConfig(sets=self._sets(values["sets"]), costs=costs, learns_costs=learns)

    # --- vars and costs --------------------------------------------------------------------

    def _variables(self, node: Node | None) -> dict[str, str]:
        path: Path = (*self._path, "vars")
        found: dict[str, str] = {}
        for name, below in self._entries(node, path, "a line NAME: MODEL for each short name"):
            if not _VARIABLE.fullmatch(name):
                what = f'"{name}" is no short name'
                fix = "use 1 to 32 of the letters a to z, digits, - and ."
                self._report.error((*path, name), what, fix, self._key(node, name))
            target = self._reader.text(below, (*path, name), "the id of a model", strict=True)
            if target is not None and target in self._names.models:
                found[name] = target
            elif target is not None or not self._report.already_reported((*path, name)):
                self._unknown_target(name, target or "", below, (*path, name))
        return found

    def _unknown_target(self, name: str, target: str, at: Node, path: Path) -> None:
        owner = self._names.aliases.get(target)
        if owner is not None:
            fix = f'write "{owner}", the id of that model'
            self._report.error(path, f'"{target}" is an alias', fix, at)
        else:
            fix = self._report.nearest(target, self._names.models) or "write the id of a model"
            self._report.error(path, f'"{target}", which {name} stands for, is no model', fix, at)

    def _costs(self, node: Node | None) -> tuple[tuple[EvictCost, ...], bool]:
        path: Path = (*self._path, "evict_costs")
        if isinstance(node, Scalar):
            if self._reader.text(node, path, f"a mapping, or {AUTO}", strict=True) == AUTO:
                return (), True
            if not self._report.already_reported(path):
                self._reader.mismatch(node, path, f"a mapping, or {AUTO}")
            return (), False
        found: dict[str, int] = {}
        for name, below in self._entries(node, path, "a line MODEL: number for each"):
            cost = Number(1, least=1, whole=True).read(below, (*path, name), self._reader)
            model_id = self._model_of(name)
            if model_id is None:
                fix = (
                    self._report.nearest(name, self._known()) or "write a var or the id of a model"
                )
                what = f'"{name}" is neither a var nor a model'
                self._report.error((*path, name), what, fix, self._key(node, name))
            elif found.setdefault(model_id, cost) != cost:
                what = f'model "{model_id}" has two costs'
                self._report.error((*path, name), what, "keep one", self._key(node, name))
        return tuple(EvictCost(name, cost) for name, cost in sorted(found.items())), False

    # --- sets ------------------------------------------------------------------------------

    def _sets(self, node: Node | None) -> tuple[MatrixSet, ...]:
        path: Path = (*self._path, "sets")
        if not isinstance(node, Mapping) or not node.entries:
            if node is not None and not isinstance(node, Mapping):
                self._reader.mismatch(node, path, "a mapping", "write a line NAME: EXPRESSION")
            elif not self._report.already_reported(self._path):
                fix = "write a line NAME: EXPRESSION below sets, as in small: a & b"
                self._report.error(path, "a matrix needs at least one set", fix, self._node)
            return ()
        found = {
            name: one
            for name, below in node.entries.items()
            if (one := self._set(name, below, node, (*path, name))) is not None
        }
        return self._ordered(found, node)

    def _set(self, name: str, below: Node, node: Mapping, path: Path) -> MatrixSet | None:
        if not NAME.fullmatch(name):
            what = f'no expression can refer to "{name}"'
            fix = "use letters, digits, _ - and . in the name of a set"
            self._report.advise(path, what, fix, node.keys[name])
        text = self._reader.text(below, path, "an expression such as a & b", strict=True) or ""
        if self._report.already_reported(path):
            return None
        try:
            parsed = parse(text)
        except ExpressionError as error:
            self._fault(path, error, below, text)
            return None
        known = [self._is_known(leaf, node, path, below, text) for leaf in parsed.leaves()]
        if not all(known):
            return None
        return MatrixSet(name, text, parsed.renamed(lambda name: self._model_of(name) or name))

    def _is_known(self, leaf: Expression, sets: Mapping, path: Path, node: Node, text: str) -> bool:
        if leaf.op == "set":
            if leaf.name in sets.entries:
                return True
            fix = self._report.nearest(leaf.name, sets.entries) or "write the name of a set after +"
            error = ExpressionError(f'there is no set "{leaf.name}"', fix, leaf.at)
        else:
            if self._model_of(leaf.name) is not None:
                return True
            error = self._unknown_name(leaf, sets)
        self._fault(path, error, node, text)
        return False

    def _unknown_name(self, leaf: Expression, sets: Mapping) -> ExpressionError:
        name = leaf.name
        if name in sets.entries:
            what, fix = f'"{name}" is a set, not a model', f"write +{name}"
        elif name in self._names.aliases:
            owner = self._names.aliases[name]
            fix = f'write "{owner}", the id of that model, or give it a short name under vars'
            what = f'"{name}" is an alias'
        else:
            what = f'"{name}" is neither a var nor a model'
            fix = self._report.nearest(name, self._known()) or (
                "a model whose id has other characters than letters, digits, _ - and . needs a "
                "short name under vars"
            )
        return ExpressionError(what, fix, leaf.at)

    def _ordered(self, sets: dict[str, MatrixSet], node: Mapping) -> tuple[MatrixSet, ...]:
        """Return the sets in definition order: one that another refers to stands before it."""
        ordered: dict[str, MatrixSet] = {}
        in_circles: set[str] = set()
        for first, one in sets.items():
            # Depth first without recursion: chains of sets may be long.
            chain = [(first, _references(one))]
            while chain and first not in ordered:
                name, references = chain[-1]
                following = next((each for each in references if each not in ordered), None)
                if following is None:
                    ordered[name] = sets[name]
                    chain.pop()
                elif following in (open_names := [each for each, _ in chain]):
                    members = open_names[open_names.index(following) :]
                    if not in_circles.intersection(members):
                        self._circle(members, node)
                    in_circles.update(members)
                elif following in sets:
                    chain.append((following, _references(sets[following])))
        self._limit_depth(ordered, node)
        return tuple(ordered.values())

    def _limit_depth(self, sets: dict[str, MatrixSet], node: Mapping) -> None:
        """Refuse what could not be evaluated: sets within sets within sets."""
        depths: dict[str, int] = {}
        for name, one in sets.items():
            depths[name] = _depth(one.expression, depths)
            if depths[name] > MAX_LEVELS:
                what = f"more than {MAX_LEVELS} operators within operators, with the sets it uses"
                path = (*self._path, "sets", name)
                self._report.error(path, what, "use fewer levels of sets", node.entries[name])
                return

    def _circle(self, members: list[str], node: Mapping) -> None:
        shown = " -> ".join([*members, members[0]])
        path = (*self._path, "sets", members[0])
        what = f"the sets refer to each other in a circle: {shown}"
        self._report.error(path, what, "take one reference out", node.entries[members[0]])

    # --- names and places ------------------------------------------------------------------

    def _model_of(self, name: str) -> str | None:
        """Return the model that *name* stands for; a var hides a model of the same name."""
        return self._vars.get(name) or (name if name in self._names.models else None)

    def _known(self) -> list[str]:
        return [*self._vars, *self._names.models]

    def _entries(self, node: Node | None, path: Path, fix: str) -> list[tuple[str, Node]]:
        if node is None:
            return []
        if not isinstance(node, Mapping):
            self._reader.mismatch(node, path, "a mapping", f"write {fix}")
            return []
        return list(node.entries.items())

    @staticmethod
    def _key(node: Node | None, name: str) -> Node | None:
        return node.keys[name] if isinstance(node, Mapping) else node

    def _fault(self, path: Path, error: ExpressionError, node: Node, text: str) -> None:
        """Report *error* at its place, which is known where the value is written in one line."""
        if isinstance(node, Scalar) and node.written == text and "\n" not in text:
            column = node.column + error.at + (0 if node.plain else 1)
            self._report.error(path, error.what, error.fix, Node(node.line, column))
        else:
            what = f"{error.what} (character {error.at + 1})"
            self._report.error(path, what, error.fix, node)


def _depth(node: Expression, of_sets: Values[str, int]) -> int:
    if node.op == "set":
        return of_sets.get(node.name, 0)
    return 1 + max((_depth(each, of_sets) for each in node.operands), default=0)


def _references(one: MatrixSet) -> Iterator[str]:
    return iter(list(dict.fromkeys(x.name for x in one.expression.leaves() if x.op == "set")))


# --- what a matrix says ---------------------------------------------------------------------------


def partners(matrix: MatrixConfig) -> dict[str, set[str]]:
    """Return for each model of *matrix* those that may be in memory beside it."""
    below: dict[str, tuple[set[str], set[frozenset[str]]]] = {}
    pairs: set[frozenset[str]] = set()
    found: dict[str, set[str]] = {}
    for each in matrix.sets:
        below[each.name] = members, of_set = _pairs(each.expression, below)
        pairs |= of_set
        for name in members:
            found.setdefault(name, set())
    for pair in pairs:
        first, second = pair
        found[first].add(second)
        found[second].add(first)
    return found


def allows(matrix: MatrixConfig, models: frozenset[str]) -> bool:
    """Return whether one combination of *matrix* contains all *models*; they should be few."""
    sets: dict[str, set[frozenset[str]]] = {}
    for each in matrix.sets:
        sets[each.name] = _shared(each.expression, models, sets)
    return any(models in found for found in sets.values())


def needless(matrix: MatrixConfig) -> dict[str, tuple[str, ...]]:
    """Return the sets that add nothing: each with those that allow all its combinations, too.

    A set that another one refers to is not among them, and no large one.
    """
    found: dict[str, tuple[str, ...]] = {}
    if len(matrix.sets) > MOST_SETS_COMPARED:
        return found
    used = {name for each in matrix.sets for name in _references(each)}
    below: dict[str, tuple[set[str], set[frozenset[str]]]] = {}
    for each in matrix.sets:
        below[each.name] = _pairs(each.expression, below)
    for one in reversed(matrix.sets):
        members = frozenset(below[one.name][0])
        if one.name in used or len(members) > MOST_MODELS_COMPARED:
            continue
        sets: dict[str, set[frozenset[str]]] = {}
        for each in matrix.sets:
            sets[each.name] = _shared(each.expression, members, sets)
        others = [each.name for each in matrix.sets if each is not one and each.name not in found]
        covering = [
            next((name for name in others if any(each <= other for other in sets[name])), "")
            for each in sets[one.name]
        ]
        if all(covering):
            found[one.name] = tuple(name for name in others if name in covering)
    return found


def _shared(
    node: Expression, models: frozenset[str], sets: Values[str, set[frozenset[str]]]
) -> set[frozenset[str]]:
    """Return which of *models* combinations of *node* contain."""
    if node.op == "model":
        return {models & {node.name}}
    if node.op == "set":
        return sets[node.name]
    parts = [_shared(each, models, sets) for each in node.operands]
    if node.op == "or":
        return set().union(*parts)
    found: list[set[frozenset[str]]] = [{frozenset()}, *(set() for _ in parts)]
    for number, part in enumerate(parts, start=1):
        for taken in range(number, 0, -1):
            found[taken] |= {one | other for one in found[taken - 1] for other in part}
    return found[node.count if node.op == "of" else len(parts)]


def _pairs(
    node: Expression, sets: Values[str, tuple[set[str], set[frozenset[str]]]]
) -> tuple[set[str], set[frozenset[str]]]:
    """Return the models of *node*, and the pairs that one of its combinations contains."""
    if node.op == "model":
        return {node.name}, set()
    if node.op == "set":
        return sets[node.name]
    parts = [_pairs(each, sets) for each in node.operands]
    members = set().union(*(names for names, _ in parts))
    pairs: set[frozenset[str]] = set().union(*(of_part for _, of_part in parts))
    if node.op == "and" or (node.op == "of" and node.count > 1):
        for (one, _), (other, _) in combinations(parts, 2):
            pairs.update(frozenset((a, b)) for a in one for b in other if a != b)
    return members, pairs
