"""Peers: other servers, and the models that they offer."""

from __future__ import annotations

from collections.abc import Mapping as Values
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

from . import filters
from .keys import stored_values
from .kinds import ValueReader
from .models import ModelNames
from .nodes import Mapping, Node, Path, Report, find_node
from .parts import PEER, Filters, PeerConfig
from .scalars import url_fault, without_password


def read_peers(node: Node | None, reader: ValueReader) -> Values[str, PeerConfig]:
    """Return the peers, sorted by id."""
    found: dict[str, PeerConfig] = {}
    if node is not None and not isinstance(node, Mapping):
        reader.mismatch(node, ("peers",), "a mapping", "write a line ID: for each peer")
    elif node is not None:
        for peer_id in sorted(node.entries):
            path = ("peers", peer_id)
            found[peer_id] = _read(peer_id, node.entries[peer_id], path, reader)
    _advise_about_shared_models(found, node, reader)
    return MappingProxyType(found)


def _read(peer_id: str, node: Node, path: Path, reader: ValueReader) -> PeerConfig:
    values: Values[str, Any] = PEER.read(node, path, reader)
    _check_proxy(values["proxy"], node, (*path, "proxy"), reader)
    if not values["models"] and not reader.report.already_reported((*path, "models")):
        what, fix = "peer models can not be empty", "list the models this peer offers"
        reader.report.error((*path, "models"), what, fix, find_node(node, ("models",)))
    below = node.entries.get("filters") if isinstance(node, Mapping) else None
    checked = filters.build(
        values["filters"], below, (*path, "filters"), reader, literal_names=True
    )
    _advise_about_parameters(checked, peer_id, values["models"], below, reader.report)
    return PeerConfig(id=peer_id, **{**stored_values(PeerConfig, values), "filters": checked})


def _advise_about_parameters(
    checked: Filters, peer_id: str, models: Sequence[str], node: Node | None, report: Report
) -> None:
    known = {*models, *(f"{peer_id}/{model}" for model in models)}
    for name in checked.set_params_by_id:
        if name not in known:
            path = ("peers", peer_id, "filters", "setParamsByID", name)
            fix = report.nearest(name, known) or "name one of its models"
            what = f'"{name}" is no model of this peer'
            report.advise(path, what, fix, find_node(node, path[3:]))


def _check_proxy(proxy: str, node: Node, path: Path, reader: ValueReader) -> None:
    at = find_node(node, ("proxy",))
    fault = url_fault(proxy)
    if reader.report.already_reported(path):
        return
    if not proxy:
        fix = "write the base URL of the peer"
        reader.report.error(path, "proxy is required", fix, at)
    elif fault:
        what = f"invalid peer proxy URL: {without_password(proxy)} {fault}"
        reader.report.error(path, what, "write it like http://192.168.1.23:8080", at)


def check_qualified_names(
    peers: Values[str, PeerConfig], names: ModelNames, node: Node | None, report: Report
) -> None:
    """Report a qualified name that is a local model's, too, or that two models of peers share."""
    owners: dict[str, str] = {}
    for peer in peers.values():
        for model in peer.models:
            qualified = f"{peer.id}/{model}"
            path = ("peers", peer.id, "models")
            at = find_node(node, path[1:])
            local = names.resolve(qualified)
            other = owners.setdefault(qualified, peer.id)
            if local is not None:
                what = f'"{qualified}", the name of its model "{model}", is model "{local}" here'
                report.error(path, what, "rename the peer or the local model", at)
            elif other != peer.id:
                what = f'"{qualified}", the name of its model "{model}", is one of peer "{other}"'
                report.error(path, what, "rename one of the two peers", at)


def _advise_about_shared_models(
    peers: Values[str, PeerConfig], node: Node | None, reader: ValueReader
) -> None:
    first: dict[str, str] = {}
    for peer in peers.values():
        for model in peer.models:
            owner = first.setdefault(model, peer.id)
            if owner != peer.id:
                path = ("peers", peer.id, "models")
                what = f'model "{model}" is offered by peer "{owner}" too, which is asked first'
                reader.report.advise(path, what, "", find_node(node, path[1:]))
