"""The keys at the top of the file that concern the whole program."""

from __future__ import annotations

import re
from collections.abc import Mapping as Values
from types import MappingProxyType
from typing import Any

from .access import check_proxies, read_origins
from .keys import CAPTURE_MASKS
from .kinds import Choice, ValueReader
from .models import ModelNames
from .nodes import Mapping, Node, Path, Report, Sequence, describe, find_node
from .settings import DEFAULT_IGNORE_PATHS, DEFAULT_OBSERVE_PATHS, KIB, MIB, StoreConfig

_LEAST_S = {"healthCheckTimeout": 15, "sleepRequestTimeout": 1, "wakeRequestTimeout": 1}
_DEFAULT_METRICS = 1000


def inherited(values: Values[str, Any], root: Node, report: Report) -> dict[str, Any]:
    """Return the values that models fall back to, raised to their lower limits."""
    found = dict(values)
    for name, least in _LEAST_S.items():
        if values[name] < least:
            at = find_node(root, (name,))
            what = f"is raised to {least}, the least there is (found {values[name]})"
            report.advise((name,), what, f"write {least} or more", at)
            found[name] = least
    found["unloadTimeout"] = values["unloadTimeout"] or 10.0  # 0 never means kill at once
    return found


def settings(values: Values[str, Any], root: Node, reader: ValueReader) -> dict[str, Any]:
    """Return what these keys come to, by the field names of Config."""
    _advise_about_relics(values, root, reader.report)
    check_proxies(values["trustedProxies"], find_node(root, ("trustedProxies",)), reader.report)
    return {
        **_limits(values),
        **_access(values, root, reader.report),
        **_observation(values, reader),
    }


def _limits(values: Values[str, Any]) -> dict[str, Any]:
    return {
        "start_port": values["startPort"],
        "health_check_timeout_s": float(values["healthCheckTimeout"]),
        "sleep_request_timeout_s": float(values["sleepRequestTimeout"]),
        "wake_request_timeout_s": float(values["wakeRequestTimeout"]),
        "global_ttl_s": values["globalTTL"],
        "unload_timeout_s": values["unloadTimeout"],
        "queue_limit": values["queueLimit"],
        "queue_timeout_s": values["queueTimeout"],
        "send_loading_state": values["sendLoadingState"],
        "keepalive_while_loading": values["keepaliveWhileLoading"],
        "include_aliases_in_list": values["includeAliasesInList"],
        "max_request_body_bytes": int(values["maxRequestBody"] * MIB),
        "max_decompressed_body_bytes": int(values["maxDecompressedBody"] * MIB),
        "max_upload_bytes": int(values["maxUpload"] * MIB),
        "max_body_memory_bytes": int(values["maxBodyMemory"] * MIB),
        "max_spool_bytes": int(values["maxSpool"] * MIB),
    }


def _access(values: Values[str, Any], root: Node, report: Report) -> dict[str, Any]:
    return {
        "allowed_hosts": tuple(host.strip().lower() for host in values["allowedHosts"]),
        **read_origins(values, root, report),
        "trusted_proxies": tuple(network.strip() for network in values["trustedProxies"]),
        "ignore_paths": _patterns("ignorePaths", DEFAULT_IGNORE_PATHS, values, root, report),
        "observe_paths": _patterns("observePaths", DEFAULT_OBSERVE_PATHS, values, root, report),
    }


def _observation(values: Values[str, Any], reader: ValueReader) -> dict[str, Any]:
    store = values["store"]
    return {
        "log_level": values["logLevel"],
        "log_time_format": values["logTimeFormat"],
        "log_to_stdout": values["logToStdout"],
        "log_buffer_bytes": int(values["logBufferSize"] * KIB),
        "log_requests": values["logRequests"],
        "metrics_max_in_memory": _or_default(values["metricsMaxInMemory"]),
        "capture_buffer_bytes": max(values["captureBuffer"], 0) * MIB,
        "capture_max_body_bytes": int(values["captureMaxBody"] * MIB),
        "capture_redact": values["captureRedact"],
        "capture_mask": MappingProxyType(_masks(values["captureMask"], reader)),
        "store": StoreConfig(store["path"] or None, store["maxAgeDays"], store["maxRows"]),
    }


def _or_default(metrics: int) -> int:
    return metrics if metrics > 0 else _DEFAULT_METRICS


def _patterns(
    key: str, default: tuple[str, ...], values: Values[str, Any], root: Node, report: Report
) -> tuple[str, ...]:
    patterns: tuple[str, ...] | None = values["upstream"][key]
    if patterns is None:
        return default
    path: Path = ("upstream", key)
    for index, pattern in enumerate(patterns):
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            what = f"is not a regular expression: {error}"
            report.error((*path, index), what, "correct it", find_node(root, (*path, index)))
    return patterns


def _masks(node: Node | None, reader: ValueReader) -> dict[str, str]:
    path: Path = ("captureMask",)
    if node is None:
        return {}
    if not isinstance(node, Mapping):
        reader.mismatch(node, path, "a mapping", "write a line /route: none for each")
        return {}
    mask = Choice("full", words=CAPTURE_MASKS)
    for route, key in node.keys.items():
        if not route.startswith("/"):
            fix = "write a path such as /v1/audio/speech"
            reader.report.advise((*path, route), "is no path, so nothing matches it", fix, key)
    return {
        route: mask.read(below, (*path, route), reader) for route, below in node.entries.items()
    }


def _advise_about_relics(values: Values[str, Any], root: Node, report: Report) -> None:
    if values["logRequests"]:
        at = find_node(root, ("logRequests",))
        report.advise(("logRequests",), "is deprecated and has no effect", "remove it", at)
    profiles: Node | None = values["profiles"]
    if profiles is None:
        return
    if not isinstance(profiles, Mapping):
        what = f"must be a mapping (found {describe(profiles)})"
        report.error(("profiles",), what, "remove it", profiles)
        return
    kinds = {type(below) for below in profiles.entries.values()}
    if kinds - {Sequence}:
        what, fix = "not supported yet", "use aliases, or name the model itself"
        report.error(("profiles",), what, fix, profiles)
    elif kinds:
        what = "has no effect: profiles were replaced by groups"
        report.advise(("profiles",), what, "say with groups what runs together", profiles)


def preload(
    values: Values[str, Any], names: ModelNames, root: Node, report: Report
) -> tuple[str, ...]:
    """Return the ids of the models to load at start, each once."""
    found: dict[str, None] = {}
    for spelling in ("on_startup", "onStartup"):
        path: Path = ("hooks", spelling, "preload")
        for name in values["hooks"][spelling]["preload"]:
            model_id = names.resolve(name.strip())
            if model_id is not None:
                found[model_id] = None
            elif name.strip():
                fix = report.nearest(name.strip(), names.all()) or "name a model id or an alias"
                report.advise(path, f'"{name.strip()}" is no model', fix, find_node(root, path))
    return tuple(found)
