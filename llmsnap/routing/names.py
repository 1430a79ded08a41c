"""From the name in a request to what serves it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from urllib.parse import unquote

from llmsnap import suggestions
from llmsnap.config import Config, ModelConfig, PeerConfig, ProfileConfig, SelectorConfig
from llmsnap.errors import UnknownModel

NEAREST = 3


@dataclass(frozen=True, slots=True)
class LocalRoute:
    """Served here: *requested* is the client's name, or what a pin says, *model* its meaning."""

    requested: str
    model: ModelConfig


@dataclass(frozen=True, slots=True)
class PeerRoute:
    """Served by a peer, which is asked for *upstream_name*; *others* offer the model as well."""

    requested: str
    peer: PeerConfig
    upstream_name: str
    others: tuple[PeerConfig, ...] = ()


ModelRoute = LocalRoute | PeerRoute


@dataclass(frozen=True, slots=True)
class SelectorRoute:
    """Served by one of *targets*, by their names in the order of the configuration."""

    requested: str
    selector: SelectorConfig
    targets: Mapping[str, ModelRoute]


Route = ModelRoute | SelectorRoute


class Names:
    """All names a request may use, in this order of precedence.

    Pins of the active *profile*, selectors, ids, aliases (with the names of ``setParamsByID``),
    then models of peers: qualified names before bare ones. A pin is followed once: its target is no
    pin, even where one has that name; so is a selector. Names are compared as they are written.
    """

    def __init__(self, config: Config, profile: ProfileConfig | None = None) -> None:
        self.profile = profile
        self._pins: Mapping[str, str] = profile.pins if profile is not None else {}
        self._most_pin_segments = _most_segments(self._pins)
        self._models = config.models
        # Lists show aliases without the blanks around them, so they are known like that as well.
        self._aliases = {alias.strip(): config.aliases[alias] for alias in config.aliases}
        self._aliases |= config.aliases
        self._peers: dict[str, list[PeerConfig]] = {}
        self._qualified: dict[str, tuple[PeerConfig, str]] = {}
        for peer in config.peers.values():
            for model in peer.models:
                self._peers.setdefault(model, []).append(peer)
                self._qualified.setdefault(f"{peer.id}/{model}", (peer, model))
        names = [*self._models, *self._aliases, *self._peers, *self._qualified]
        self._most_segments = _most_segments(names)
        self._selectors = {
            selector.id: SelectorRoute(selector.id, selector, self._targets(selector))
            for selector in config.selectors.values()
        }

    def _targets(self, selector: SelectorConfig) -> dict[str, ModelRoute]:
        routes = {target: self._find_model(target) for target in selector.targets}
        return {target: route for target, route in routes.items() if route is not None}

    def local_id(self, name: str) -> str | None:
        """Return the id of the local model that *name* means, pins apart."""
        return name if name in self._models else self._aliases.get(name)

    def knows(self, name: str) -> bool:
        """Whether a model or a selector has this *name*, pins apart."""
        return self._find(name) is not None

    def selectors(self) -> Iterable[SelectorRoute]:
        """Return the selectors, by id."""
        return self._selectors.values()

    def served_id(self, name: str) -> str:
        """Return the id of the local model that serves requests for *name*, else its target."""
        target = self._pins.get(name, name)
        return self.local_id(target) or target

    def resolve(self, name: str, may_use: Callable[[str], bool] = lambda _: True) -> Route:
        """Return what serves *name*, if the caller *may_use* it by that name or its id.

        The route of a pinned name has the pin's target for its name. Raises: UnknownModel, with the
        nearest names the caller may use, or the profile that disables *name*.
        """
        target = self._pins.get(name, name)
        is_disabled = name in self._pins and not target
        route = None if is_disabled else self._find(target)
        if route is None or not (_permits(route, may_use) or may_use(name)):
            if is_disabled and self.profile is not None and may_use(name):
                raise _disabled(name, self.profile)
            known = chain(self._pins, self._models, self._aliases, self._selectors, self._peers)
            enabled = (known_name for known_name in known if self._pins.get(known_name, " "))
            raise self.unknown(name, enabled, may_use)
        return route

    def resolve_model(
        self, name: str, may_use: Callable[[str], bool] = lambda _: True
    ) -> ModelRoute:
        """Return what serves *name* where a selector can not. Raises: UnknownModel."""
        route = self.resolve(name, may_use)
        if isinstance(route, SelectorRoute):
            quoted = json.dumps(suggestions.shown(name), ensure_ascii=False)
            names = ", ".join(route.targets)
            raise UnknownModel(
                f"model not found: {quoted} is a selector, which serves inference routes only, "
                f"not /upstream; name one of its targets: {names}"
            )
        return route

    def _find(self, name: str) -> Route | None:
        # No selector has the id or an alias of a model, so these can be looked up first.
        model_id = self.local_id(name)
        if model_id is not None:
            return LocalRoute(name, self._models[model_id])
        return self._selectors.get(name) or self._find_model(name)

    def _find_model(self, name: str) -> ModelRoute | None:
        model_id = self.local_id(name)
        if model_id is not None:
            return LocalRoute(name, self._models[model_id])
        qualified = self._qualified.get(name)
        if qualified is not None:
            return PeerRoute(name, *qualified)
        peers = self._peers.get(name)
        if peers:
            return PeerRoute(name, peers[0], name, tuple(peers[1:]))
        return None

    def below_upstream(
        self, path: str, may_use: Callable[[str], bool] = lambda _: True
    ) -> tuple[str, str] | None:
        """Split a raw path below ``/upstream/`` as ``in_path`` does; the longest pin comes first.

        A pin counts even for a caller that may not use it: it hides what else has its name.
        """
        found = _split(path, self._most_pin_segments, self._pins.__contains__)
        return found or self.in_path(path, may_use)

    def in_path(
        self, path: str, may_use: Callable[[str], bool] = lambda _: True
    ) -> tuple[str, str] | None:
        """Split a raw path into the longest name it begins with and the raw rest; pins apart.

        *path* has no leading slash and is still percent-encoded; the rest is empty or begins with
        a slash, with its encoding kept. As many segments are tried as the longest name has. Names
        that the caller may not use count as unknown.
        """

        def is_known(name: str) -> bool:
            route = self._find_model(name)
            return route is not None and _permits(route, may_use)

        return _split(path, self._most_segments, is_known)

    def local_names(self) -> Iterator[str]:
        """Yield every id and alias."""
        return chain(self._models, self._aliases)

    def unknown(
        self, name: str, known: Iterable[str], may_use: Callable[[str], bool]
    ) -> UnknownModel:
        """Return the error for *name*, with the nearest of *known* that the caller may use."""
        names = dict.fromkeys(islice(known, suggestions.MAX_KNOWN))
        near = suggestions.nearest(name, filter(may_use, names), NEAREST)
        hint = f"did you mean {', '.join(near)}?" if near else "GET /v1/models lists them"
        quoted = json.dumps(suggestions.shown(name), ensure_ascii=False)
        return UnknownModel(f"model not found: {quoted}; {hint}")


def _permits(route: Route, may_use: Callable[[str], bool]) -> bool:
    if may_use(route.requested):
        return True
    if isinstance(route, SelectorRoute):
        return False
    return may_use(route.model.id if isinstance(route, LocalRoute) else route.upstream_name)


def _disabled(name: str, profile: ProfileConfig) -> UnknownModel:
    quoted = json.dumps(suggestions.shown(name), ensure_ascii=False)
    by = json.dumps(suggestions.shown(profile.id), ensure_ascii=False)
    return UnknownModel(f"model not found: {quoted}; the active profile {by} disables it")


def _most_segments(names: Iterable[str]) -> int:
    return max((name.count("/") + 1 for name in names), default=0)


def _split(path: str, most: int, is_known: Callable[[str], bool]) -> tuple[str, str] | None:
    """Return the longest known name that *path* begins with, and the raw rest.

    At most *most* segments are tried.
    """
    pieces = path.split("/", most)
    for end in range(min(len(pieces), most), 0, -1):
        name = unquote("/".join(pieces[:end]))
        if is_known(name):
            rest = pieces[end:]
            return name, "/" + "/".join(rest) if rest else ""
    return None
