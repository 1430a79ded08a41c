"""Models: ports, keys with their checks and inheritance, sleep and wake calls, names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Values
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from llmsnap.errors import CommandProblem, MacroProblem

from . import filters
from .keys import stored_values
from .kinds import ValueReader
from .launchers import HERE, LOCAL, LauncherConfig, Placement, launcher_of
from .macros import Macros, define
from .memory import ANY, elsewhere, need_on
from .model_settings import EXTERNAL, ModelConfig
from .nodes import Mapping, Node, Path, Report, Scalar, Sequence, describe, find_node, is_null
from .parts import Endpoint, Filters, HookCall, Hooks
from .scalars import render, split_command, strip_comments, url_fault, without_password
from .settings import MODEL

_COMFYUI_MODEL = "comfyui_auto"  # http.COMFYUI_MODEL, which this package cannot import
_COMFYUI_CONCURRENCY = 50  # its page loads dozens of files at once

# --- before ports are assigned --------------------------------------------------------------------

_PORT = "${PORT}"
_DEFAULT_PROXY: str = MODEL.default["proxy"]
MAX_COMMAND = 2 * 1024 * 1024  # longer than any system accepts
_WORDS_FOLLOW = "\0"
_WINDOWS_PATH = re.compile(r"(?<!\w)[A-Za-z]:\\[^\s'\"]+")


class PartialModel(NamedTuple):
    """A model with its macros, before a port is assigned."""

    id: str
    node: Node
    macros: Macros
    blueprint: tuple[str, ...]
    wants_port: bool
    """Whether its command contains ``${PORT}``."""
    has_words: bool
    """Whether its command is not empty."""
    is_external: bool
    """Whether it has a proxy and no command: something else runs its server."""
    launcher: str
    """The name of what starts its server."""


def partial_model(model_id: str, node: Node, macros: Macros, report: Report) -> PartialModel:
    """Return the part of *model_id* that does not depend on its port."""
    path = ("models", model_id)
    entries = node.entries if isinstance(node, Mapping) else {}
    own = define(entries.get("macros"), (*path, "macros"), report)
    macros = macros.having({"MODEL_ID": model_id, **own})
    cmd = _expand(strip_comments(_text(entries.get("cmd"))), macros)
    proxy = _expand(_text(entries.get("proxy")) or _DEFAULT_PROXY, macros)
    env = [_expand(_text(item), macros) for item in _items(entries.get("env"))]
    words = _words(cmd)
    return PartialModel(
        id=model_id,
        node=node,
        macros=macros,
        blueprint=(proxy, *env, _WORDS_FOLLOW, *words),
        wants_port=_PORT in cmd,
        has_words=bool(words),
        is_external=_is_absent(entries.get("cmd")) and not _is_absent(entries.get("proxy")),
        launcher=_expand(_text(entries.get("launcher")), macros) or LOCAL,
    )


def _is_absent(node: Node | None) -> bool:
    return node is None or is_null(node)


def _text(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) and not is_null(node) else ""


def _items(node: Node | None) -> list[Node]:
    return node.items if isinstance(node, Sequence) else []


def _expand(text: str, macros: Macros) -> str:
    try:
        return render(macros.expand(text)) if "${" in text else text
    except MacroProblem:
        return text  # will be reported when the key is read


def _words(cmd: str) -> list[str]:
    try:
        return split_command(cmd) if len(cmd) <= MAX_COMMAND else [cmd]
    except CommandProblem:
        return []


LAST_PORT = 65535


def assign_ports(
    wanting: Iterable[str], start_port: int, kept: Values[str, int] | None = None
) -> dict[str, int]:
    """Return the lowest free ports from *start_port* on for the models *wanting*, in order.

    A model in *kept* keeps its port, which no other gets. A model for which no port up to 65535 is
    left is missing from the result.
    """
    kept = kept or {}
    taken = set(kept.values())
    ports: dict[str, int] = {}
    port = start_port
    for model_id in wanting:
        if model_id in kept:
            ports[model_id] = kept[model_id]
            continue
        while port in taken:
            port += 1
        if port <= LAST_PORT:
            ports[model_id] = port
        port += 1
    return ports


# --- the settings ---------------------------------------------------------------------------------

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")  # RFC 9110 section 5.6.2
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]{0,4096}")
_OUR_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "x-request-id",
    }
)
_CREDENTIALS = frozenset({"authorization", "x-api-key"})


def finish(
    model: PartialModel,
    port: int | None,
    inherits: Values[str, Any],
    launchers: Values[str, LauncherConfig],
    report: Report,
) -> ModelConfig:
    """Return *model* with its port; missing settings are taken from *inherits* (of Config)."""
    path: Path = ("models", model.id)
    reader = ValueReader(report, model.macros)
    runs_on = launcher_of(model.launcher, launchers, model.node, path, reader)
    given: dict[str, Any] = {} if port is None else {"PORT": port}
    if "HOST" not in model.macros.names():  # files of before this macro may define it
        given["HOST"] = runs_on.host
    reader = ValueReader(report, model.macros.having(given))
    values = MODEL.read(model.node, path, reader)
    checks = _Checks(model, values, path, reader)
    sleep_endpoints, wake_endpoints = read_endpoints(values, inherits, model.node, path, reader)
    if values["sleepAfter"] and values["sleepMode"] == "disable":
        checks.advise("sleepAfter", "has no effect", "set sleepMode: enable, or remove it")
    own: dict[str, Any] = {
        "cmd": checks.cmd(),
        "proxy": checks.proxy(port),
        "env": checks.env(),
        "check_endpoint": checks.check_endpoint(),
        "filters": checks.filters(),
        "headers": checks.headers(),
        "sleep_endpoints": sleep_endpoints,
        "wake_endpoints": wake_endpoints,
        "memory": need_on(values["device"], values["memory"]),
        "asleep_memory": need_on(values["device"], values["asleepMemory"]),
        "hooks": read_hooks(values["hooks"], (*path, "hooks"), reader),
        "runs_on": replace(runs_on, token=""),  # a new one concerns no server that runs
    }
    if model.is_external:
        own |= {"launcher": EXTERNAL, "runs_on": HERE}
        checks.without_command()
    else:
        placement = Placement(runs_on, values, model.node, path, reader)
        checks.device(runs_on)
        own["resources"] = placement.resources(_words(values["cmd"]))
    plain = stored_values(ModelConfig, values, inherits)
    if model.id == _COMFYUI_MODEL:
        plain["ignore_websockets"] = True
        plain["concurrency_limit"] = max(plain["concurrency_limit"], _COMFYUI_CONCURRENCY)
    return ModelConfig(id=model.id, port=port, blueprint=model.blueprint, **{**plain, **own})


class _Checks:
    """The checks of one model that involve more than a single key."""

    def __init__(
        self, model: PartialModel, values: Values[str, Any], path: Path, reader: ValueReader
    ) -> None:
        self._model = model
        self._values = values
        self._path = path
        self._reader = reader

    def _at(self, name: str) -> Node:
        """Return the node of key *name*; the model's node if it is absent."""
        return find_node(self._model.node, (name,)) or self._model.node

    def _already_reported(self, name: str) -> bool:
        return self._reader.report.already_reported((*self._path, name))

    def advise(self, name: str, what: str, fix: str) -> None:
        self._reader.report.advise((*self._path, name), what, fix, self._at(name))

    def _error(self, name: str, what: str, fix: str) -> None:
        self._reader.report.error((*self._path, name), what, fix, self._at(name))

    def cmd(self) -> str:
        cmd: str = self._values["cmd"]
        reported = self._model.is_external or self._already_reported("cmd")
        if not self._model.has_words and not reported:
            fix = "write the command that starts the server, or, if it runs anyway, only proxy"
            self._error("cmd", "is missing or empty", fix)
        self._advise_about_backslashes(cmd)
        for name in ("cmd", "cmdStop"):
            if "\0" in self._values[name]:
                self._error(name, "contains a NUL character", "remove it")
            if len(self._values[name]) > MAX_COMMAND:
                self._error(name, "is longer than any system accepts", "put options into a file")
        return cmd

    def _advise_about_backslashes(self, cmd: str) -> None:
        path = _WINDOWS_PATH.search(cmd)
        if path is not None and not any(path[0] in word for word in _words(cmd)):
            what = f"backslashes outside quotes disappear, so {path[0]} is not what the server gets"
            self.advise("cmd", what, "put the path into single quotes, or write it with /")

    def without_command(self) -> None:
        for name in ("cmdStop", "env", "resources", "launcher", "device"):
            if self._values[name] != MODEL.default[name]:
                self.advise(name, "has no effect: there is no cmd", "write cmd, or remove it")

    def device(self, runs_on: LauncherConfig) -> None:
        """Report a device beside sizes on others; advise on one of a server elsewhere."""
        device: str = self._values["device"]
        if device and runs_on.is_remote:
            what = f"has no effect: {runs_on.id} places the server"
            self.advise("device", what, "remove it, or use resources")
        other = elsewhere(device, self._values["memory"])
        if other:
            place = "any GPU" if other == ANY else other
            fix = "write the size alone, or remove device"
            self._error("memory", f"is on {place}, and device is {device}", fix)

    def proxy(self, port: int | None) -> str:
        proxy: str = self._values["proxy"]
        at = self._at("proxy")
        if at is self._model.node or is_null(at):
            if port is None and self._model.has_words and not self._already_reported("proxy"):
                what = "is absent, and its default uses ${PORT}, but cmd does not"
                fix = "use ${PORT} in cmd, or set proxy to the address the command listens on"
                self._error("proxy", what, fix)
            return proxy.replace(_PORT, str(port))
        fault = "" if self._already_reported("proxy") else url_fault(proxy)
        if fault:
            shown = without_password(proxy)
            self._error("proxy", f'"{shown}" {fault}', "write it like http://localhost:${PORT}")
        elif self._model.wants_port and str(port) not in proxy:
            what = "has another port than ${PORT}, on which cmd says that its server listens"
            self.advise("proxy", what, "use ${PORT} in it, or remove it")
        return proxy

    def env(self) -> tuple[str, ...]:
        kept = []
        for entry in self._values["env"]:
            name, equals, _ = entry.partition("=")
            if "\0" in entry:
                self._error("env", "an entry contains a NUL character", "remove it")
            elif not equals or not name:
                self.advise("env", "an entry has no name or no =", "write NAME=value")
            else:
                kept.append(entry)
        return tuple(kept)

    def headers(self) -> tuple[tuple[str, str], ...]:
        found = []
        for name, value in self._values["headers"].items():
            if not _HEADER_NAME.fullmatch(name) or name.lower() in _OUR_HEADERS:
                what = f'"{name}" is no header that can be set'
                self._error("headers", what, "write the name of an end-to-end header")
            elif self._values["apiKey"] and name.lower() in _CREDENTIALS:
                self._error("headers", f"{name} is what apiKey sets", "keep one of the two")
            elif not isinstance(value, str) or not _HEADER_VALUE.fullmatch(value):
                # The value is not shown, since it may be a secret.
                what = f"the value of {name} is not a text of one line"
                self._error("headers", what, "write it in quotes, in Latin-1 characters")
            else:
                found.append((name, value))
        return tuple(found)

    def check_endpoint(self) -> str | None:
        endpoint: str = self._values["checkEndpoint"].strip()
        if not endpoint and not self._already_reported("checkEndpoint"):
            fix = "write a path such as /health, or none to go without a check"
            self._error("checkEndpoint", "is empty", fix)
        return None if endpoint == "none" else endpoint

    def filters(self) -> Filters:
        node = self._at("filters")
        below = None if node is self._model.node else node
        path = (*self._path, "filters")
        return filters.build(self._values["filters"], below, path, self._reader)


# --- sleep and wake calls -------------------------------------------------------------------------

_METHODS = ("GET", "POST", "PUT", "PATCH")
_Entries = tuple[tuple[Values[str, Any], Node], ...]


def read_endpoints(
    values: Values[str, Any],
    inherits: Values[str, Any],
    model: Node,
    path: Path,
    reader: ValueReader,
) -> tuple[tuple[Endpoint, ...], tuple[Endpoint, ...]]:
    """Return the sleep and the wake calls of a model."""
    can_sleep = values["sleepMode"] == "enable"
    for name in ("sleepEndpoints", "wakeEndpoints"):
        if can_sleep and not values[name]:
            at = find_node(model, ("sleepMode",))
            what = f"{name} is required when sleepMode is enable"
            reader.report.error((*path, name), what, "list at least one endpoint", at)
    for name in ("sleepEndpoints", "wakeEndpoints"):
        _check_calls(values[name], (*path, name), reader)
    return (
        _read_calls(values["sleepEndpoints"], inherits["sleep_request_timeout_s"]),
        _read_calls(values["wakeEndpoints"], inherits["wake_request_timeout_s"]),
    )


def read_hooks(values: Values[str, Any], path: Path, reader: ValueReader) -> Hooks:
    """Return the calls of each hook of a model."""
    found = {}
    for key, entries in values.items():
        _check_calls(entries, (*path, key), reader)
        found[key] = tuple(
            HookCall(_endpoint(entry, float(entry["timeout"])), fails=entry["onError"] == "fail")
            for entry, _ in entries
        )
    return Hooks(**stored_values(Hooks, found))


def _read_calls(entries: _Entries, default_s: float) -> tuple[Endpoint, ...]:
    return tuple(_endpoint(entry, float(entry["timeout"] or default_s)) for entry, _ in entries)


def _endpoint(values: Values[str, Any], limit_s: float) -> Endpoint:
    method = values["method"].upper()
    return Endpoint(values["endpoint"], method, body=values["body"], timeout_s=limit_s)


def _check_calls(entries: _Entries, path: Path, reader: ValueReader) -> None:
    for index, (endpoint, node) in enumerate(entries):
        here = (*path, index)
        if not endpoint["endpoint"] and not reader.report.already_reported((*here, "endpoint")):
            fix = "write a path such as /sleep?level=1"
            reader.report.error((*here, "endpoint"), "endpoint is required", fix, node)
        if endpoint["method"].upper() not in _METHODS:
            at = find_node(node, ("method",)) or node
            what = f"must be one of {', '.join(_METHODS)} (found {describe(at)})"
            reader.report.error((*here, "method"), what, "", at)


# --- names ----------------------------------------------------------------------------------------


class ModelNames(NamedTuple):
    """The models by id, in the order of the file, and the model id of each alias."""

    models: Values[str, ModelConfig]
    aliases: Values[str, str]

    def resolve(self, name: str) -> str | None:
        """Return the id of the model with the id or alias *name*."""
        return name if name in self.models else self.aliases.get(name)

    def all(self) -> Iterator[str]:
        """Yield every name."""
        yield from self.models
        yield from self.aliases


def collect(models: Iterable[ModelConfig], node: Node | None, report: Report) -> ModelNames:
    """Return the names of *models*.

    An alias belongs to one model only; unreachable aliases are left out.
    """
    by_id = {model.id: model for model in models}
    aliases = _Aliases(by_id, node, report)
    for model_id, model in by_id.items():
        usable = tuple(dict.fromkeys((*aliases.listed(model), *aliases.with_parameters(model))))
        aliases.owners.update(dict.fromkeys(usable, model_id))
        if usable != model.aliases:
            by_id[model_id] = replace(model, aliases=usable)
    return ModelNames(MappingProxyType(by_id), MappingProxyType(aliases.owners))


class _Aliases:
    def __init__(self, by_id: Values[str, ModelConfig], node: Node | None, report: Report) -> None:
        self.owners: dict[str, str] = {}
        self._by_id = by_id
        self._node = node
        self._report = report

    def listed(self, model: ModelConfig) -> Iterator[str]:
        """Yield the valid entries of the model's ``aliases``."""
        path = ("models", model.id, "aliases")
        at = find_node(self._node, path[1:])
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
        """Yield the names of ``setParamsByID``, each of which is an implicit alias."""
        for name in model.filters.set_params_by_id:
            owner = name if name in self._by_id else self.owners.get(name, model.id)
            if owner != model.id:
                path = ("models", model.id, "filters", "setParamsByID")
                what = f'"{name}" would never apply: it is a name of model "{owner}"'
                at = find_node(self._node, (*path[1:], name))
                self._report.error((*path, name), what, "choose another name", at)
            elif name != model.id:
                yield name
