"""From the name in a request to what serves it. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from urllib.parse import unquote

from llmsnap import suggestions
from llmsnap.config import Config, ModelConfig, PeerConfig
from llmsnap.errors import UnknownModel

NEAREST = 3


@dataclass(frozen=True, slots=True)
class LocalRoute:
    """Served here: *requested* is the client's name, *model* what it means."""

    requested: str
    model: ModelConfig


@dataclass(frozen=True, slots=True)
class PeerRoute:
    """Served by a peer, which is asked for *upstream_name*; *others* offer the model as well."""

    requested: str
    peer: PeerConfig
    upstream_name: str
    others: tuple[PeerConfig, ...] = ()


Route = LocalRoute | PeerRoute


class Names:
    """All names a request may use: ids, aliases, then peers' models, qualified ones first."""

    def __init__(self, config: Config) -> None:
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
        self._most_segments = max((name.count("/") + 1 for name in names), default=0)

    def local_id(self, name: str) -> str | None:
        """Return the id of the local model that *name* means."""
        return name if name in self._models else self._aliases.get(name)

    def resolve(self, name: str, may_use: Callable[[str], bool] = lambda _: True) -> Route:
        """Return what serves *name*, if the caller *may_use* it by that name or its id.

        Raises: UnknownModel, with the nearest names the caller may use.
        """
        route = self._find(name)
        if route is None or not _permits(route, may_use):
            raise self.unknown(name, chain(self._models, self._aliases, self._peers), may_use)
        return route

    def _find(self, name: str) -> Route | None:
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

    def in_path(
        self, path: str, may_use: Callable[[str], bool] = lambda _: True
    ) -> tuple[str, str] | None:
        """Split a raw path into the longest name it begins with and the raw rest.

        *path* has no leading slash and is still percent-encoded; the rest is empty or begins with
        a slash, with its encoding kept. As many segments are tried as the longest name has. Names
        that the caller may not use count as unknown.
        """
        pieces = path.split("/", self._most_segments)
        for end in range(min(len(pieces), self._most_segments), 0, -1):
            name = unquote("/".join(pieces[:end]))
            route = self._find(name)
            if route is not None and _permits(route, may_use):
                rest = pieces[end:]
                return name, "/" + "/".join(rest) if rest else ""
        return None

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
    return may_use(route.model.id if isinstance(route, LocalRoute) else route.upstream_name)
