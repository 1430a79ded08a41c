"""What changed between two configurations, and what a reload does about it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from .settings import DEFAULT_GROUP, Config, GroupConfig, ModelConfig

# What the process is made of; the port is left out, since a number alone changes nothing.
_PROCESS = frozenset({"cmd", "proxy", "env", "launcher", "port", "blueprint"})
_DATA = frozenset({"metadata", "filters"})  # where 1, 1.0 and true are not the same

# Parts of the configuration beside the models: they apply at once.
_PARTS = {
    "peers": "peers",
    "apiKeys": "api_keys",
    "preload": "preload",
    "scheduler": "scheduler",
}
_FILE = {"source", "text", "content_hash"}
_SHOWN_ELSEWHERE = {"models", "aliases", "groups", *_FILE, *_PARTS.values()}


@dataclass(frozen=True, slots=True)
class Diff:
    """Model ids by what a reload does to them, each sorted.

    *hot* ones take the change while they run; *restart* ones need another process. *parts* names
    what else differs: ``groups``, ``peers``, ``apiKeys``, ``preload``, ``scheduler``, ``settings``.
    """

    unchanged: tuple[str, ...] = ()
    hot: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.hot or self.restart or self.added or self.removed or self.parts)

    def __str__(self) -> str:
        names = ("hot", "restart", "added", "removed", "parts")
        told = [f"{name} {', '.join(ids)}" for name in names if (ids := getattr(self, name))]
        return "; ".join(told) or "nothing changed"


def compare(old: Config, new: Config) -> Diff:
    """Sort the models of both configurations, and name the other parts that differ."""
    kept = sorted(old.models.keys() & new.models.keys())
    kinds = {model_id: _kind(old.models[model_id], new.models[model_id]) for model_id in kept}
    return Diff(
        unchanged=tuple(model_id for model_id in kept if kinds[model_id] == "unchanged"),
        hot=tuple(model_id for model_id in kept if kinds[model_id] == "hot"),
        restart=tuple(model_id for model_id in kept if kinds[model_id] == "restart"),
        added=tuple(sorted(new.models.keys() - old.models.keys())),
        removed=tuple(sorted(old.models.keys() - new.models.keys())),
        parts=_changed_parts(old, new),
    )


def changed_settings(old: ModelConfig, new: ModelConfig) -> tuple[str, ...]:
    """Return the names of the fields that differ, those behind the process's making left out."""
    return tuple(
        field.name
        for field in fields(ModelConfig)
        if field.name not in _PROCESS and not _same(old, new, field.name)
    )


def _kind(old: ModelConfig, new: ModelConfig) -> str:
    if _blueprint(old) != _blueprint(new):
        return "restart"
    return "hot" if changed_settings(old, new) else "unchanged"


def _blueprint(model: ModelConfig) -> tuple[str, ...]:
    made = model.blueprint or (model.proxy, *model.env, "\0", model.cmd)
    return (model.launcher, *made)


def _same(old: object, new: object, name: str) -> bool:
    before, after = getattr(old, name), getattr(new, name)
    if before is after:
        return True
    return bool(before == after) and (name not in _DATA or repr(before) == repr(after))


def _changed_parts(old: Config, new: Config) -> tuple[str, ...]:
    changed = [part for part, name in _PARTS.items() if not _same(old, new, name)]
    if _groups(old, new) != _groups(new, old):
        changed.insert(0, "groups")
    others = (field.name for field in fields(Config) if field.name not in _SHOWN_ELSEWHERE)
    if any(not _same(old, new, name) for name in others):
        changed.append("settings")
    return tuple(changed)


def _groups(config: Config, other: Config) -> dict[str, GroupConfig]:
    """Return the groups; who merely came or went is no change of the default group."""
    groups = dict(config.groups)
    default = groups.get(DEFAULT_GROUP, GroupConfig(DEFAULT_GROUP))
    stayed = tuple(member for member in default.members if member in other.models)
    groups[DEFAULT_GROUP] = replace(default, members=stayed)
    return groups
