"""The names models are known by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

from .nodes import Node, find
from .report import Report
from .settings import ModelConfig


class Names(NamedTuple):
    """Every model by its id, and the id behind every alias."""

    models: Mapping[str, ModelConfig]
    aliases: Mapping[str, str]

    def resolve(self, name: str) -> str | None:
        """Return the id of the model called *name*."""
        return name if name in self.models else self.aliases.get(name)

    def all(self) -> Iterator[str]:
        """Yield every name."""
        yield from self.models
        yield from self.aliases


def collect(models: Iterable[ModelConfig], node: Node | None, report: Report) -> Names:
    """Return the names of *models*, in ascending order of ids.

    An alias stands on one model only; one that can never be reached is left out.
    """
    by_id = {model.id: model for model in models}
    aliases = _Aliases(by_id, node, report)
    for model_id, model in by_id.items():
        usable = tuple(dict.fromkeys((*aliases.listed(model), *aliases.with_parameters(model))))
        aliases.owners.update(dict.fromkeys(usable, model_id))
        if usable != model.aliases:
            by_id[model_id] = replace(model, aliases=usable)
    return Names(MappingProxyType(by_id), MappingProxyType(aliases.owners))


class _Aliases:
    def __init__(self, by_id: Mapping[str, ModelConfig], node: Node | None, report: Report) -> None:
        self.owners: dict[str, str] = {}
        self._by_id = by_id
        self._node = node
        self._report = report

    def listed(self, model: ModelConfig) -> Iterator[str]:
        """Yield those of the model's ``aliases`` that are of use."""
        path = ("models", model.id, "aliases")
        at = find(self._node, path[1:])
        seen: set[str] = set()
        for alias in model.aliases:
            if not alias.strip():
                self._report.advise(path, "an alias is empty", "remove it", at)
            elif alias in seen or alias in self.owners:
                owner = self.owners.get(alias, model.id)
                what = f'duplicate alias "{alias}": it is on "{owner}" already'
                self._report.error(path, what, "keep it on one model, once", at)
            elif alias in self._by_id and alias != model.id:
                what = f'alias "{alias}" is never reached: it is the id of a model'
                self._report.advise(path, what, "choose another alias", at)
            elif alias != model.id:
                seen.add(alias)
                yield alias

    def with_parameters(self, model: ModelConfig) -> Iterator[str]:
        """Yield the names of ``setParamsByID``: each is an alias without being listed."""
        for name in model.filters.set_params_by_id:
            owner = name if name in self._by_id else self.owners.get(name, model.id)
            if owner != model.id:
                path = ("models", model.id, "filters", "setParamsByID")
                what = f'"{name}" is never reached here: it belongs to model "{owner}"'
                self._report.advise(path, what, "choose another name", find(self._node, path[1:]))
            elif name != model.id:
                yield name
