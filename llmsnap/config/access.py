"""Access settings: API keys, origins, trusted proxies and the capture mask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Mapping as Values
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from .keys import stored_values
from .kinds import Choice, ValueReader
from .macros import REFERENCE, has_broken_reference, references, variables
from .nodes import Mapping, Node, Path, Report, Scalar, Sequence, find_node, is_null
from .parts import API_KEY, ApiKey
from .scalars import url_fault, without_password
from .settings import CAPTURE_MASKS

_PATH: Path = ("apiKeys",)
_CORS: Path = ("security", "cors", "allowedOrigins")
_PORT = re.compile(r":?[0-9]{1,5}")
SHORTEST = 16
"""Keys with fewer characters cause advice."""


def read_api_keys(node: Node | None, report: Report) -> tuple[ApiKey, ...]:
    """Return the API keys. An invalid entry is an error, lest a typo disable authentication."""
    if node is None:
        return ()
    if is_null(node):
        fix = "write keys below it, or apiKeys: [] to answer every client"
        report.error(_PATH, "is empty", fix, node)
        return ()
    if not isinstance(node, Sequence):
        report.error(_PATH, "must be a list", "write each key in a line of its own: - KEY", node)
        return ()
    reader = ValueReader(report)
    found: dict[str, ApiKey] = {}
    for index, item in enumerate(node.items):
        api_key = _read(item, (*_PATH, index), reader)
        if api_key is None:
            continue
        _compare(api_key, found.setdefault(api_key.key, api_key), item, index, report)
    return tuple(found.values())


def key_variables(root: Mapping) -> frozenset[str]:
    """Return the environment variables referenced in API keys and in tokens of launchers."""
    macros = find_node(root, ("macros",))
    ahead = [node for node in _key_nodes(root) if isinstance(node, Scalar)]
    seen: set[str] = set()
    found: set[str] = set()
    while ahead:
        node = ahead.pop()
        found.update(variables(node.written))
        for name in references(node.text):
            macro = macros.entries.get(name) if isinstance(macros, Mapping) else None
            if name not in seen and isinstance(macro, Scalar):
                seen.add(name)
                ahead.append(macro)
    return frozenset(found)


def _key_nodes(root: Mapping) -> Iterator[Node | None]:
    keys = root.entries.get("apiKeys")
    for item in keys.items if isinstance(keys, Sequence) else ():
        yield item.entries.get("key") if isinstance(item, Mapping) else item
    for section, key in (("peers", "apiKey"), ("models", "apiKey"), ("launchers", "token")):
        owners = root.entries.get(section)
        for owner in owners.entries.values() if isinstance(owners, Mapping) else ():
            yield owner.entries.get(key) if isinstance(owner, Mapping) else None


def _compare(new: ApiKey, first: ApiKey, node: Node, index: int, report: Report) -> None:
    """Report advice about one key, given those before it."""
    path: Path = (*_PATH, index)
    if new is first:
        if len(new.key) < SHORTEST:
            what = f"this key has {len(new.key)} characters and may be guessed"
            fix = f"write {SHORTEST} or more random ones (openssl rand -hex 32)"
            report.advise(path, what, fix, node)
    elif replace(new, name="") == replace(first, name=""):
        report.advise(path, "this key was given before", "remove it", node)
    else:
        what = "this key was given before, with other rights"
        report.error(path, what, "keep one entry for it", node)


def _read(node: Node, path: Path, reader: ValueReader) -> ApiKey | None:
    if isinstance(node, Mapping):
        return _read_scoped(node, path, reader)
    if isinstance(node, Sequence):
        reader.report.error(path, "must be a key or a mapping with key", "write - KEY", node)
        return None
    key = _read_key(node, path, reader)
    return None if key is None else ApiKey(key)


def _read_scoped(node: Mapping, path: Path, reader: ValueReader) -> ApiKey | None:
    values = API_KEY.read(node, path, reader)
    key = None
    if not reader.report.already_reported((*path, "key")):
        key = _read_key(node.entries.get("key"), (*path, "key"), reader, parent=node)
    models: tuple[str, ...] | None = values["models"]
    if models == ():
        fix = "remove models to allow all, or list some"
        reader.report.advise((*path, "models"), "this key may use no model", fix, node)
    if key is None:
        return None
    return ApiKey(**{**stored_values(ApiKey, values), "key": key})


def _read_key(
    node: Node | None, path: Path, reader: ValueReader, parent: Node | None = None
) -> str | None:
    at = node or parent
    if isinstance(node, Scalar) and node.broken:
        return None
    text = node.text if isinstance(node, Scalar) and not is_null(node) else ""
    if not text.strip():
        reader.report.error(path, "an empty key was found", "write the key, or remove it", at)
    elif any(character.isspace() for character in text):
        reader.report.error(path, "keys cannot contain spaces", "remove the spaces", at)
    elif isinstance(node, Scalar) and has_broken_reference(node.written):
        what = "the reference is not complete, and would be the key itself"
        reader.report.error(path, what, "write ${env.NAME} or ${file.PATH}", at)
    elif not text.isprintable():
        what = "keys cannot contain control characters"
        reader.report.error(path, what, "remove them: no client could send them", at)
    else:
        if REFERENCE.search(text):
            fix = "take it from a file with ${file.PATH}, or from the environment with ${env.NAME}"
            reader.report.advise(path, "macros are not expanded in keys", fix, at)
        return text
    return None


def read_origins(values: Values[str, Any], root: Node, report: Report) -> dict[str, Any]:
    """Return the fields of Config about page origins: allowed ones, and that for model pages."""
    allowed = _origins(values["allowedOrigins"], ("allowedOrigins",), root, report)
    inference = _origins(values["inferenceOrigins"], ("inferenceOrigins",), root, report)
    theirs = _origins(values["security"]["cors"]["allowedOrigins"], _CORS, root, report)
    if theirs:
        what = "is read as allowedOrigins and inferenceOrigins"
        if "*" in theirs:
            what = "is read as inferenceOrigins: * lets no page control the server here"
        fix = "write these keys at the top of the file"
        report.advise(_CORS, what, fix, find_node(root, _CORS))
    return {
        "allowed_origins": tuple(dict.fromkeys([*allowed, *(o for o in theirs if o != "*")])),
        "inference_origins": tuple(dict.fromkeys([*inference, *theirs])),
        "pages_origin": _pages_origin(values, root, report),
    }


def _origins(texts: tuple[str, ...], path: Path, root: Node, report: Report) -> tuple[str, ...]:
    found = tuple(text.strip().lower().rstrip("/") for text in texts)
    for index, origin in enumerate(found):
        scheme, separator, rest = origin.partition("://")
        if (separator and scheme and "/" not in rest) or "*" in origin or origin == "null":
            continue
        fix = "write it like https://chat.example.com, as browsers send it"
        at = find_node(root, path)
        report.advise((*path, index), f'"{origin}" is no origin, so no page matches it', fix, at)
    return found


def _pages_origin(values: Values[str, Any], root: Node, report: Report) -> str:
    path: Path = ("upstream", "origin")
    text: str = values["upstream"]["origin"].strip().rstrip("/")
    if not text:
        return ""
    at = find_node(root, path)
    fix = "write a port such as :8081, or an address such as https://pages.example.com"
    if _PORT.fullmatch(text):
        if not 1 <= int(text.removeprefix(":")) <= 65535:
            report.error(path, "must be a port from 1 to 65535", fix, at)
        text = f":{text.removeprefix(':')}"
    elif url_fault(text) or "/" in text.partition("://")[2]:
        shown = without_password(text)
        report.error(path, f'"{shown}" is neither a port nor an origin', fix, at)
    if values["uiOrigin"] != "separate":
        report.advise(path, "has no effect", "set uiOrigin: separate, or remove it", at)
    return text.lower()


def check_proxies(networks: tuple[str, ...], node: Node | None, report: Report) -> None:
    """Report each entry of ``trustedProxies`` that is neither an address nor a network."""
    if not networks:
        return
    from ipaddress import ip_network  # noqa: PLC0415 - hardly any file has proxies

    for index, text in enumerate(networks):
        try:
            ip_network(text.strip(), strict=False)
        except ValueError:
            what = f'"{text}" is not an IP address or network'
            fix = "write it like 10.0.0.1 or 10.0.0.0/8"
            report.error(("trustedProxies", index), what, fix, node)


def read_capture_mask(node: Node | None, reader: ValueReader) -> Values[str, str]:
    """Return the capture level of each route in ``captureMask``."""
    path: Path = ("captureMask",)
    if node is None:
        return MappingProxyType({})
    if not isinstance(node, Mapping):
        reader.mismatch(node, path, "a mapping", "write a line /route: none for each")
        return MappingProxyType({})
    mask = Choice("full", words=CAPTURE_MASKS)
    for route, key in node.keys.items():
        if not route.startswith("/"):
            fix = "write a path such as /v1/audio/speech"
            reader.report.advise((*path, route), "is no path, so nothing matches it", fix, key)
    found = {
        route: mask.read(below, (*path, route), reader) for route, below in node.entries.items()
    }
    return MappingProxyType(found)
