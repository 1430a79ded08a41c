"""Profiles: sets of pins, each of which gives some names in requests another meaning."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Values
from types import MappingProxyType
from typing import Any

from .keys import stored_values
from .kinds import Text, ValueReader
from .models import ModelNames
from .nodes import Mapping, Node, Path, Report, Sequence, find_node
from .parts import PROFILE, PeerConfig, ProfileConfig


def read_profiles(
    node: Node | None,
    names: ModelNames,
    peers: Values[str, PeerConfig],
    selectors: Iterable[str],
    reader: ValueReader,
) -> Values[str, ProfileConfig]:
    """Return the profiles in ascending order of their names.

    The lists of models that llmsnap once had under this key have no effect.
    """
    path: Path = ("profiles",)
    if node is not None and not isinstance(node, Mapping):
        reader.mismatch(node, path, "a mapping", "write a line NAME: for each profile")
    if not isinstance(node, Mapping):
        return MappingProxyType({})
    if node.entries and all(isinstance(below, Sequence) for below in node.entries.values()):
        what = "has no effect: lists of models were replaced by groups"
        reader.report.advise(path, what, "say with groups what runs together", node)
        reader.report.suppress(path)
        return MappingProxyType({})
    pins = _Pins(names, peers, selectors, reader)
    found = {name: _read(name, node, pins, reader) for name in sorted(node.entries)}
    return MappingProxyType(found)


def _read(name: str, parent: Mapping, pins: _Pins, reader: ValueReader) -> ProfileConfig:
    path, node = ("profiles", name), parent.entries[name]
    if not name.strip():
        what = "the name of a profile can not be blank"
        reader.report.error(path, what, "give it a name", parent.keys[name])
    values: Values[str, Any] = PROFILE.read(node, path, reader)
    read = pins.read(values["pins"], (*path, "pins"), node)
    return ProfileConfig(id=name, **{**stored_values(ProfileConfig, values), "pins": read})


def startup_profile(
    values: Values[str, Any], profiles: Values[str, ProfileConfig], root: Node, report: Report
) -> str:
    """Return the name of the profile to activate at start; empty for none."""
    found = ""
    for spelling in ("on_startup", "onStartup"):
        name: str = values["hooks"][spelling]["profile"]
        if name and name not in profiles:
            path: Path = ("hooks", spelling, "profile")
            fix = report.nearest(name, profiles) or "name one of profiles, or remove it"
            report.error(path, f'"{name}" is no profile', fix, find_node(root, path))
        found = found or name
    return found


class _Pins:
    """Reads pins, whose targets are models, aliases, selectors and models of peers."""

    def __init__(
        self,
        names: ModelNames,
        peers: Values[str, PeerConfig],
        selectors: Iterable[str],
        reader: ValueReader,
    ) -> None:
        bare = {model for peer in peers.values() for model in peer.models}
        self._qualified = {f"{peer.id}/{model}" for peer in peers.values() for model in peer.models}
        self._targets = {*names.all(), *bare, *self._qualified, *selectors}
        self._reader = reader

    def read(self, node: Node | None, path: Path, profile: Node) -> Values[str, str]:
        """Return the target of each pin; an empty one disables the name."""
        report = self._reader.report
        if node is not None and not isinstance(node, Mapping):
            self._reader.mismatch(node, path, "a mapping", "write a line NAME: MODEL for each pin")
        elif (node is None or not node.entries) and not report.already_reported(path):
            fix = "write a line NAME: MODEL for each name with another meaning"
            report.error(path, "pins can not be empty", fix, node or profile)
        if not isinstance(node, Mapping):
            return MappingProxyType({})
        return MappingProxyType({pin: self._target(pin, node, path) for pin in node.entries})

    def _target(self, pin: str, pins: Mapping, above: Path) -> str:
        path, report, at = (*above, pin), self._reader.report, pins.entries[pin]
        if not pin.strip():
            what = "the name of a pin can not be blank"
            report.error(path, what, "write the name that requests use", pins.keys[pin])
        elif pin in self._qualified:
            what = f'"{pin}" names a model of one peer, which a pin can not hide'
            report.error(path, what, "pin another name, or remove it", pins.keys[pin])
        target: str = Text(strict=True).read(at, path, self._reader)
        if target and target not in self._targets:
            fix = report.nearest(target, self._targets)
            fix = (
                fix
                or "name a model id, an alias, a selector or a model of a peer, or leave it empty"
            )
            report.error(path, f'"{target}" is no model', fix, at)
        return target
