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

    def all(self) -> list[str]:
        """Return every name."""
        return [*self.models, *self.aliases]


def collect(models: Iterable[ModelConfig], node: Node | None, report: Report) -> Names:
    """Return the names of *models*, in ascending order of ids.

    An alias stands on one model only; one that can never be reached is left out.
    """
    by_id = {model.id: model for model in models}
    owners: dict[str, str] = {}
    for model_id, model in by_id.items():
        usable = tuple(_usable_aliases(model, by_id, owners, node, report))
        owners.update(dict.fromkeys(usable, model_id))
        if usable != model.aliases:
            by_id[model_id] = replace(model, aliases=usable)
    return Names(MappingProxyType(by_id), MappingProxyType(owners))


def _usable_aliases(
    model: ModelConfig,
    by_id: Mapping[str, ModelConfig],
    owners: Mapping[str, str],
    node: Node | None,
    report: Report,
) -> Iterator[str]:
    path = ("models", model.id, "aliases")
    at = find(node, path[1:])
    seen: set[str] = set()
    for alias in model.aliases:
        if not alias.strip():
            report.advise(path, "an alias is empty", "remove it", at)
        elif alias in seen or alias in owners:
            what = f'duplicate alias "{alias}": it is on "{owners.get(alias, model.id)}" already'
            report.error(path, what, "keep it on one model, once", at)
        elif alias in by_id and alias != model.id:
            what = f'alias "{alias}" is never reached: it is the id of a model'
            report.advise(path, what, "choose another alias", at)
        elif alias != model.id:
            seen.add(alias)
            yield alias
    yield from _from_parameters(model, by_id, {**owners, **dict.fromkeys(seen, "")}, report, at)


def _from_parameters(
    model: ModelConfig,
    by_id: Mapping[str, ModelConfig],
    owners: Mapping[str, str],
    report: Report,
    at: Node | None,
) -> Iterator[str]:
    """Yield the names of ``setParamsByID``: each is an alias without being listed."""
    path = ("models", model.id, "filters", "setParamsByID")
    for name in model.filters.set_params_by_id:
        owner = name if name in by_id else owners.get(name, model.id)
        if owner == model.id and name != model.id:
            yield name
        elif owner not in (model.id, ""):
            what = f'"{name}" is never reached here: it belongs to model "{owner}"'
            report.advise(path, what, "choose another name", at)
