"""Loads that ran out of memory: what such a model needs is taken to be larger. Pure."""

from __future__ import annotations

from dataclasses import replace

from llmsnap.config import ModelConfig
from llmsnap.routing.memory import Need, Share

GROWTH = 1.1
"""The factor by which a need grows each time."""


class Lacks:
    """How often the loads of each model ran out of memory with its present definition."""

    def __init__(self) -> None:
        self._times: dict[str, tuple[ModelConfig, int]] = {}

    def __repr__(self) -> str:
        return f"<Lacks of {', '.join(self._times) or 'no model'}>"

    def note(self, model: ModelConfig, *, is_known: bool = True) -> bool:
        """Note that a load of *model* ran out of memory; whether it has a need that grows by it."""
        if not is_known:
            return False
        self._times[model.id] = model, self.times(model) + 1
        return True

    def times(self, model: ModelConfig) -> int:
        """Return how often loads of *model* ran out of memory, since it was last changed."""
        before, times = self._times.get(model.id, (None, 0))
        is_same = before is not None and (before.cmd, before.env, before.memory) == (
            model.cmd,
            model.env,
            model.memory,
        )
        return times if is_same else 0

    def forget(self, model_id: str) -> bool:
        """Forget the loads of a model; whether there were any."""
        return self._times.pop(model_id, None) is not None


def grown(need: Need, times: int) -> Need:
    """Return *need* after *times* loads that ran out of memory with less."""
    if not times:
        return need
    factor = GROWTH**times
    shares = tuple(Share(each.device, int(each.size * factor)) for each in need.shares)
    return replace(need, shares=shares, anywhere=int(need.anywhere * factor), lacks=times)
