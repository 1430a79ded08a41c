"""One configuration and what is derived from it; a request uses the same one from begin to end."""

from __future__ import annotations

import copy
import re
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from llmsnap.config import Config, ModelConfig, PeerConfig, Timeouts
from llmsnap.http import HostRule, Keyring, PageOrigin, PageRules, RequestRule, TrustedProxies
from llmsnap.models import Address, parse_address
from llmsnap.proxy import CompiledFilter, UpstreamSettings, UpstreamTimeouts
from llmsnap.routing import Names


class Runtime:
    """A configuration compiled for serving; immutable, but upstream settings compile lazily."""

    def __init__(self, config: Config, listen_host: str = "", profile: str = "") -> None:
        self.config = config
        self.names = Names(config, config.profiles.get(profile))
        self.keyring = Keyring(config.api_keys)
        self.page_rules = PageRules(
            config.allowed_origins, config.inference_origins, keys=not self.keyring.open
        )
        self.pages = PageOrigin(
            separate=config.ui_origin == "separate",
            address=config.pages_origin,
            model_ids=config.models,
        )
        own = [name for name in (socket.gethostname(), listen_host, self.pages.host) if name]
        self.hosts = HostRule(config.allowed_hosts, own)
        self.proxies = TrustedProxies(config.trusted_proxies)
        self.session_keys = tuple(
            f"HTTP_{name.upper().replace('-', '_')}" for name in config.session_headers
        )
        """The headers that name a client's session, as a WSGI environ has them."""
        self._rule = RequestRule(pass_credentials=self.keyring.open, limit_encodings=True)
        self._ignored = [re.compile(pattern) for pattern in config.ignore_paths]
        self._observing = [re.compile(pattern) for pattern in config.observe_paths]
        self._settings: dict[str, UpstreamSettings] = {}
        self._peers: dict[str, tuple[UpstreamSettings, Address]] = {}

    def __repr__(self) -> str:
        return f"<Runtime {self.config.source or 'from text'}, {len(self.config.models)} models>"

    @property
    def profile(self) -> str:
        """The name of the active profile; empty: none is."""
        return self.names.profile.id if self.names.profile is not None else ""

    def with_profile(self, name: str) -> Runtime:
        """Return this runtime with the profile *name* active, none if it is empty."""
        made = copy.copy(self)
        made.names = Names(self.config, self.config.profiles[name] if name else None)
        return made

    def upstream_settings(self, model: ModelConfig) -> UpstreamSettings:
        """Return how requests to a local model are rewritten and sent."""
        found = self._settings.get(model.id)
        if found is None:
            rule = self._rule
            if model.api_key or model.headers:
                rule = replace(rule, api_key=model.api_key, own=model.headers)
            if model.runs_on.is_remote and not model.api_key:
                rule = replace(rule, pass_credentials=False)  # its own key is in their place
            found = self._settings[model.id] = UpstreamSettings(
                rule, _compile(model), _limits(model.timeouts), model.use_model_name
            )
        return found

    def ignores(self, path: str) -> bool:
        """Return whether a request for *path* below ``/upstream/<model>`` never loads a model."""
        return any(pattern.search(path) for pattern in self._ignored)

    def observes(self, path: str) -> bool:
        """Return whether a GET of *path* below ``/upstream/<model>`` only observes the server."""
        return any(pattern.search(path) for pattern in self._observing)

    def peer(self, peer: PeerConfig) -> tuple[UpstreamSettings, Address]:
        """Return how requests to a peer are rewritten and sent, and where."""
        found = self._peers.get(peer.id)
        if found is None:
            address = replace(parse_address(peer.proxy), name=f"peer {peer.id}")
            rule = RequestRule(
                host=address.netloc,
                api_key=peer.api_key,
                pass_credentials=self.keyring.open,
                limit_encodings=True,
                foreign=True,
            )
            settings = UpstreamSettings(
                rule, _compile(peer, _by_requested_name(peer)), _limits(peer.timeouts)
            )
            found = self._peers[peer.id] = settings, address
        return found


def _compile(
    owner: ModelConfig | PeerConfig, by_name: Mapping[str, Mapping[str, Any]] | None = None
) -> CompiledFilter | None:
    filters = owner.filters
    compiled = CompiledFilter.from_settings(
        filters.strip_params, filters.set_params, by_name or filters.set_params_by_id
    )
    return compiled or None


def _by_requested_name(peer: PeerConfig) -> dict[str, Mapping[str, Any]]:
    """Return the parameters for each name of a peer's models: its own, else of the other name."""
    given, found = peer.filters.set_params_by_id, {}
    for model in peer.models:
        qualified = f"{peer.id}/{model}"
        for name in (model, qualified):
            keys = (key for key in (name, qualified, model) if key in given)
            if key := next(keys, None):
                found[name] = given[key]
    return found


def _limits(timeouts: Timeouts) -> UpstreamTimeouts:
    return UpstreamTimeouts(timeouts.connect_s, timeouts.response_header_s, timeouts.idle_s)
