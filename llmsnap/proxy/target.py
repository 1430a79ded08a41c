"""How requests to one model or peer are rewritten and sent; compiled once per configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from llmsnap.config.settings import Config, ModelConfig, PeerConfig
from llmsnap.http.headers import RequestRule
from llmsnap.models import Address
from llmsnap.proxy.client import Limits
from llmsnap.proxy.filters import CompiledFilter
from llmsnap.routing.names import Names


@dataclass(frozen=True, slots=True)
class Target:
    """*model_name* replaces the name in the body when it is not empty."""

    rule: RequestRule
    filter: CompiledFilter
    limits: Limits
    model_name: str = ""


class Snapshot(Protocol):
    """One configuration as a request sees it from its beginning to its end."""

    config: Config
    names: Names

    def target(self, model: ModelConfig) -> Target:
        """Return how requests to a local model are rewritten and sent."""

    def ignores(self, path: str) -> bool:
        """Tell whether a request for *path* below ``/upstream/<model>`` never loads a model."""

    def observes(self, path: str) -> bool:
        """Tell whether a GET of *path* below ``/upstream/<model>`` only looks at the server."""

    def peer(self, peer: PeerConfig) -> tuple[Target, Address]:
        """Return how requests to a peer are rewritten and sent, and where."""
