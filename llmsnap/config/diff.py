"""What changed between two configurations: which models are untouched, hot, replaced. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .settings import Config, ModelConfig


@dataclass(frozen=True, slots=True)
class Diff:
    """Model ids by what a reload does to them, each sorted.

    *hot* ones take the change while they run; *restart* ones need another process.
    """

    unchanged: tuple[str, ...] = ()
    hot: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()

    def __str__(self) -> str:
        names = ("hot", "restart", "added", "removed")
        parts = [f"{name} {', '.join(ids)}" for name in names if (ids := getattr(self, name))]
        return "; ".join(parts) or "no model changed"


def diff(old: Config, new: Config) -> Diff:
    """Sort the models of both configurations."""
    kept = old.models.keys() & new.models.keys()
    kinds = {model_id: _kind(old.models[model_id], new.models[model_id]) for model_id in kept}
    return Diff(
        **{
            kind: tuple(sorted(model_id for model_id in kept if kinds[model_id] == kind))
            for kind in ("unchanged", "hot", "restart")
        },
        added=tuple(sorted(new.models.keys() - old.models.keys())),
        removed=tuple(sorted(old.models.keys() - new.models.keys())),
    )


def _kind(old: ModelConfig, new: ModelConfig) -> str:
    if old.blueprint != new.blueprint:
        return "restart"
    moved = replace(new, cmd=old.cmd, proxy=old.proxy, port=old.port, env=old.env)
    return "unchanged" if moved == old else "hot"
