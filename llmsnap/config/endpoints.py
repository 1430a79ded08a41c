"""The lists of calls that put a model to sleep and wake it."""

from __future__ import annotations

from collections.abc import Mapping as Values
from typing import Any, TypeAlias

from .nodes import Node, Path, describe, find
from .reader import Reader
from .settings import Endpoint

Entry: TypeAlias = tuple[Values[str, Any], Node]

_METHODS = ("GET", "POST", "PUT", "PATCH")


def read_endpoints(
    values: Values[str, Any], inherited: Values[str, Any], model: Node, path: Path, reader: Reader
) -> tuple[bool, tuple[Endpoint, ...], tuple[Endpoint, ...]]:
    """Return whether a model can sleep, its sleep calls and its wake calls."""
    can_sleep = values["sleepMode"] == "enable"
    for name in ("sleepEndpoints", "wakeEndpoints"):
        if can_sleep and not values[name]:
            at = find(model, ("sleepMode",))
            what = f"{name} is required when sleepMode is enable"
            reader.report.error((*path, name), what, "list at least one endpoint", at)
    sleep = _read(values["sleepEndpoints"], inherited["sleepRequestTimeout"])
    wake = _read(values["wakeEndpoints"], inherited["wakeRequestTimeout"])
    _check(values, path, reader)
    return can_sleep, sleep, wake


def _read(
    entries: tuple[tuple[Values[str, Any], Node], ...], default_s: int
) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(
            endpoint=values["endpoint"],
            method=values["method"].upper(),
            body=values["body"],
            timeout_s=float(values["timeout"] or default_s),
        )
        for values, _ in entries
    )


def _check(values: Values[str, Any], path: Path, reader: Reader) -> None:
    for name in ("sleepEndpoints", "wakeEndpoints"):
        for index, (endpoint, node) in enumerate(values[name]):
            here = (*path, name, index)
            if not endpoint["endpoint"] and not reader.report.is_told((*here, "endpoint")):
                fix = "write a path such as /sleep?level=1"
                reader.report.error((*here, "endpoint"), "endpoint is required", fix, node)
            if endpoint["method"].upper() not in _METHODS:
                at = find(node, ("method",)) or node
                what = f"must be one of {', '.join(_METHODS)} (found {describe(at)})"
                reader.report.error((*here, "method"), what, "", at)
