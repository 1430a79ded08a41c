"""Selectors: names in requests, each with several targets, one of which is chosen per request."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping as Values
from types import MappingProxyType
from typing import Any, NamedTuple

from .keys import stored_values
from .kinds import HeaderNames, Number, ValueReader
from .models import ModelNames
from .nodes import Mapping, Node, Path, Scalar, find_node
from .parts import RETRY_STATUS, SELECTOR, PeerConfig, SelectorConfig
from .router import Together
from .scalars import yes_or_no

_OWN_SETTINGS = {
    "spillover": ("spillover",),
    "failover": ("retryStatus", "headerTimeout", "failures", "retryAfter", "maxAttempts"),
}
_MOST_HEADERS = 16


class TargetNames(NamedTuple):
    """What targets may be: names of local models, and of models that one peer offers."""

    local: ModelNames
    remote: Values[str, str]
    """Qualified name, or bare name that is offered once and hidden by none -> qualified name."""
    together: Together
    """Which local models may run together."""

    @classmethod
    def of(
        cls, names: ModelNames, peers: Values[str, PeerConfig], together: Together
    ) -> TargetNames:
        """Return the names that *names* and *peers* define."""
        offers: dict[str, list[str]] = {}
        for peer in peers.values():
            for model in peer.models:
                offers.setdefault(model, []).append(f"{peer.id}/{model}")
        qualified = {name: name for found in offers.values() for name in found}
        bare = {model: found[0] for model, found in offers.items() if len(found) == 1}
        return cls(names, {**bare, **qualified}, together)

    def all(self) -> Iterator[str]:
        """Yield every name."""
        yield from self.local.all()
        yield from self.remote

    def meaning(self, target: str) -> str | None:
        """Return the id of a local model, or the qualified name of a peer's; None for neither."""
        return self.local.resolve(target) or self.remote.get(target)


def read_selectors(
    node: Node | None, names: TargetNames, session_headers: tuple[str, ...], reader: ValueReader
) -> Values[str, SelectorConfig]:
    """Return the selectors in ascending order of their ids.

    *session_headers* are what ``affinity: true`` stands for.
    """
    if node is not None and not isinstance(node, Mapping):
        reader.mismatch(node, ("selectors",), "a mapping", "write a line ID: for each selector")
    if not isinstance(node, Mapping):
        return MappingProxyType({})
    found = {
        name: _Reading(name, node, names, reader).read(session_headers)
        for name in sorted(node.entries)
    }
    return MappingProxyType(found)


class _Reading:
    """The reading of one selector."""

    def __init__(self, name: str, parent: Mapping, names: TargetNames, reader: ValueReader) -> None:
        self._id = name
        self._key = parent.keys[name]
        self._node = parent.entries[name]
        self._path: Path = ("selectors", name)
        self._others = parent.entries
        self._names = names
        self._reader = reader

    def read(self, session_headers: tuple[str, ...]) -> SelectorConfig:
        """Return the selector, and report its mistakes."""
        self._check_id()
        values: Values[str, Any] = SELECTOR.read(self._node, self._path, self._reader)
        strategy: str = values["strategy"]
        if not strategy and not self._is_reported("strategy"):
            fix = "write pin, warm, spillover or failover"
            self._error("strategy", "is missing: it says how a target is chosen", fix)
        self._check_targets(values["targets"], strategy)
        self._advise_about_settings(strategy)
        settings = values["settings"]
        own = {
            "retry_status": self._statuses(settings["retryStatus"]),
            "affinity": self._affinity(settings["affinity"], session_headers),
        }
        return SelectorConfig(id=self._id, **{**stored_values(SelectorConfig, values), **own})

    def _check_id(self) -> None:
        report, names = self._reader.report, self._names
        model_id = names.local.resolve(self._id)
        if not self._id.strip():
            what = "the id of a selector can not be blank"
            report.error(self._path, what, "give it a name", self._key)
        elif model_id == self._id:
            what = f'"{self._id}" is the id of a model'
            report.error(self._path, what, "give the selector another id", self._key)
        elif model_id is not None:
            what = f'"{self._id}" is a name of model "{model_id}"'
            report.error(self._path, what, "give the selector another id", self._key)
        elif names.remote.get(self._id) == self._id:
            what = f'"{self._id}" names a model of one peer'
            report.error(self._path, what, "give the selector another id", self._key)

    # --- targets -------------------------------------------------------------------------------

    def _check_targets(self, targets: tuple[str, ...], strategy: str) -> None:
        if not targets and not self._is_reported("targets"):
            self._error("targets", "targets can not be empty", "list at least one model")
        for index, target in enumerate(targets):
            self._check_target(index, target, strategy)
        if strategy == "spillover":
            self._check_spillover(targets)

    def _check_target(self, index: int, target: str, strategy: str) -> None:
        path: Path = ("targets", index)
        if target in self._others and self._names.meaning(target) is None:
            what = f'"{target}" is a selector, which can not be a target'
            self._error_at(path, what, "list that selector's targets instead")
        elif self._names.meaning(target) is None:
            fix = self._reader.report.nearest(target, self._names.all())
            fix = fix or "name a model id, an alias or a model of a peer"
            what = f'"{target}" is no model'
            if target:
                offered = [name for name in self._names.remote if name.endswith(f"/{target}")]
                if len(offered) > 1:
                    what = f'"{target}" is offered by several peers'
                    fix = f"write {' or '.join(offered)}"
            self._error_at(path, what, fix)
        elif strategy == "warm" and self._names.local.resolve(target) is None:
            what = f'"{target}" is a model of a peer, and warm chooses by what is loaded here'
            self._error_at(path, what, "remove it, or use failover or spillover")

    def _check_spillover(self, targets: tuple[str, ...]) -> None:
        """Report a model that is listed twice, and local ones that can not run together."""
        first: dict[str, str] = {}
        clash = False
        for index, target in enumerate(targets):
            meaning = self._names.meaning(target)
            if meaning is None:
                continue
            if meaning in first:
                what = f'"{target}" is the same model as "{first[meaning]}"'
                self._error_at(("targets", index), what, "list each model once")
                continue
            for other, shown in first.items():
                if self._swap(meaning, other):
                    what = f'"{target}" and "{shown}" can not run together'
                    fix = "put them into one group with swap: false, or one combination of a matrix"
                    self._error_at(("targets", index), what, fix)
                    clash = True
                    break
            first[meaning] = target
        local = [name for name in first if name in self._names.local.models]
        if not clash and not self._names.together.all_fit(local):
            what = "its targets can not all run together"
            self._error("targets", what, "put them into one combination of the matrix")

    def _swap(self, one: str, other: str) -> bool:
        """Return whether one of two local models evicts the other."""
        names = self._names
        if one not in names.local.models or other not in names.local.models:
            return False
        return names.together.evicts(one, other) or names.together.evicts(other, one)

    # --- settings ------------------------------------------------------------------------------

    def _advise_about_settings(self, strategy: str) -> None:
        node = find_node(self._node, ("settings",))
        if not isinstance(node, Mapping) or node is self._node or not strategy:
            return
        for owner, keys in _OWN_SETTINGS.items():
            for key in keys:
                if key in node.entries and owner != strategy:
                    self._advise(key, f"has no effect with strategy: {strategy}")
        if strategy == "pin" and "affinity" in node.entries:
            self._advise("affinity", "has no effect with strategy: pin")

    def _statuses(self, node: Node | None) -> frozenset[int]:
        path: Path = ("settings", "retryStatus")
        if node is None:
            return RETRY_STATUS
        items = getattr(node, "items", None)
        if not isinstance(items, list):
            self._reader.mismatch(node, (*self._path, *path), "a list", "write [502, 503, 504]")
            return frozenset()
        status = Number(0, least=400, most=599, whole=True)
        read = [
            status.read(item, (*self._path, *path, index), self._reader)
            for index, item in enumerate(items)
        ]
        return frozenset(read) - {0}

    def _affinity(self, node: Node | None, session_headers: tuple[str, ...]) -> tuple[str, ...]:
        path = (*self._path, "settings", "affinity")
        if node is None:
            return ()
        if isinstance(node, Scalar):
            given = self._reader.scalar(node, path, "true, false or a list of headers")
            wanted = yes_or_no(given) if isinstance(given, str) else given
            if not isinstance(wanted, bool):
                self._reader.mismatch(node, path, "true, false or a list of headers")
            return session_headers if wanted is True else ()
        found: tuple[str, ...] = HeaderNames().read(node, path, self._reader)
        if len(found) > _MOST_HEADERS:
            what = f"has more than {_MOST_HEADERS} headers"
            self._reader.report.error(path, what, "list those that name sessions", node)
        return found

    # --- reports -------------------------------------------------------------------------------

    def _is_reported(self, name: str) -> bool:
        return self._reader.report.already_reported((*self._path, name))

    def _error(self, name: str, what: str, fix: str) -> None:
        at = find_node(self._node, (name,))
        at = self._key if at is self._node else at
        self._reader.report.error((*self._path, name), what, fix, at)

    def _error_at(self, path: Path, what: str, fix: str) -> None:
        self._reader.report.error((*self._path, *path), what, fix, find_node(self._node, path))

    def _advise(self, key: str, what: str) -> None:
        path: Path = ("settings", key)
        at = find_node(self._node, path)
        self._reader.report.advise((*self._path, *path), what, "remove it", at)
