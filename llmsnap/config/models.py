"""Models: every key with its checks and inheritance."""

from __future__ import annotations

import re
from collections.abc import Mapping as Values
from types import MappingProxyType
from typing import Any

from . import filters, urls
from .drafts import MAX_COMMAND, Draft
from .endpoints import read_endpoints
from .keys import MODEL
from .nodes import Node, Path, find, is_null
from .peers import read_timeouts
from .reader import Reader
from .report import Report
from .settings import DEFAULT_CONCURRENCY, Filters, ModelConfig

_PORT = "${PORT}"
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
    model: Draft, port: int | None, inherited: Values[str, Any], report: Report
) -> ModelConfig:
    """Return *model* with its port; what it does not say itself comes from *inherited*."""
    path: Path = ("models", model.id)
    macros = model.macros if port is None else model.macros.having({"PORT": port})
    reader = Reader(report, macros)
    values = MODEL.read(model.node, path, reader)
    checks = _Checks(model, values, path, reader)
    can_sleep, sleep_endpoints, wake_endpoints = read_endpoints(
        values, inherited, model.node, path, reader
    )
    if values["sleepAfter"] and not can_sleep:
        checks.advise("sleepAfter", "has no effect", "set sleepMode: enable, or remove it")
    return ModelConfig(
        id=model.id,
        cmd=checks.cmd(),
        cmd_stop=values["cmdStop"],
        proxy=checks.proxy(port),
        port=port,
        env=checks.env(),
        check_endpoint=checks.check_endpoint(),
        metadata=MappingProxyType(dict(values["metadata"])),
        filters=checks.filters(),
        headers=checks.headers(),
        can_sleep=can_sleep,
        sleep_endpoints=sleep_endpoints,
        wake_endpoints=wake_endpoints,
        blueprint=model.blueprint,
        **_plain(values),
        **_inherited(values, inherited),
    )


def _plain(values: Values[str, Any]) -> dict[str, Any]:
    """Return the settings that are the key's value and nothing more."""
    limit = values["concurrencyLimit"]
    return {
        "launcher": values["launcher"],
        "name": values["name"],
        "description": values["description"],
        "aliases": values["aliases"],
        "unlisted": values["unlisted"],
        "use_model_name": values["useModelName"],
        "api_key": values["apiKey"],
        "sleep_after_s": values["sleepAfter"],
        "concurrency_limit": limit if limit > 0 else DEFAULT_CONCURRENCY,
        "timeouts": read_timeouts(values["timeouts"]),
        "ignore_websockets": values["compat"]["ignoreWebsockets"],
        "ignore_streams": values["compat"]["ignoreStreams"],
        "sandbox": values["sandbox"],
    }


def _inherited(values: Values[str, Any], inherited: Values[str, Any]) -> dict[str, Any]:
    """Return the settings that a global key may stand in for."""

    def own_or_global(name: str) -> Any:
        return inherited[name] if values[name] is None else values[name]

    ttl = float(values["ttl"])
    return {
        "ttl_s": inherited["globalTTL"] if ttl == -1 else max(ttl, 0.0),
        "health_check_timeout_s": float(own_or_global("healthCheckTimeout")),
        "unload_timeout_s": values["unloadTimeout"] or inherited["unloadTimeout"],
        "queue_limit": own_or_global("queueLimit"),
        "send_loading_state": own_or_global("sendLoadingState"),
        "keepalive_while_loading": inherited["keepaliveWhileLoading"],
    }


class _Checks:
    """The checks of one model that need more than the key itself."""

    def __init__(self, model: Draft, values: Values[str, Any], path: Path, reader: Reader) -> None:
        self._model = model
        self._values = values
        self._path = path
        self._reader = reader

    def _at(self, name: str) -> Node:
        """Return where *name* stands, the model itself when it is absent."""
        return find(self._model.node, (name,)) or self._model.node

    def _is_told(self, name: str) -> bool:
        return self._reader.report.is_told((*self._path, name))

    def advise(self, name: str, what: str, fix: str) -> None:
        self._reader.report.advise((*self._path, name), what, fix, self._at(name))

    def _error(self, name: str, what: str, fix: str) -> None:
        self._reader.report.error((*self._path, name), what, fix, self._at(name))

    def cmd(self) -> str:
        cmd: str = self._values["cmd"]
        if not self._model.has_words and not self._is_told("cmd"):
            self._error("cmd", "is missing or empty", "write the command that starts the server")
        for name in ("cmd", "cmdStop"):
            if "\0" in self._values[name]:
                self._error(name, "contains a NUL character", "remove it")
            if len(self._values[name]) > MAX_COMMAND:
                self._error(name, "is longer than any system accepts", "put options into a file")
        return cmd

    def proxy(self, port: int | None) -> str:
        proxy: str = self._values["proxy"]
        at = self._at("proxy")
        if at is self._model.node or is_null(at):
            if port is None and self._model.has_words and not self._is_told("proxy"):
                what = "is absent, and its default uses ${PORT}, but cmd does not"
                fix = "use ${PORT} in cmd, or set proxy to the address the command listens on"
                self._error("proxy", what, fix)
            return proxy.replace(_PORT, str(port))
        fault = "" if self._is_told("proxy") else urls.fault(proxy)
        if fault:
            shown = urls.without_password(proxy)
            self._error("proxy", f'"{shown}" {fault}', "write it like http://localhost:${PORT}")
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
                # The value is not shown: it may be a secret.
                what = f"the value of {name} is not a text of one line"
                self._error("headers", what, "write it in quotes, in Latin-1 characters")
            else:
                found.append((name, value))
        return tuple(found)

    def check_endpoint(self) -> str | None:
        endpoint: str = self._values["checkEndpoint"].strip()
        if not endpoint and not self._is_told("checkEndpoint"):
            fix = "write a path such as /health, or none to go without a check"
            self._error("checkEndpoint", "is empty", fix)
        return None if endpoint == "none" else endpoint

    def filters(self) -> Filters:
        node = self._at("filters")
        below = None if node is self._model.node else node
        path = (*self._path, "filters")
        return filters.build(self._values["filters"], below, path, self._reader)
