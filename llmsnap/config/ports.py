"""Who gets which ``${PORT}``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

LAST_PORT = 65535


def assign(
    wanting: Iterable[str], start_port: int, kept: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Return a port for each model of *wanting*, in that order the lowest from *start_port*.

    A model in *kept* has that number; no other gets it. Who finds no number up to 65535 is left
    out.
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
