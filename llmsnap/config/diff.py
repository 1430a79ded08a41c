"""The difference between two configurations, and its effect at a reload. Pure."""

from __future__ import annotations

from dataclasses import Field, dataclass, fields, replace

from .keys import ConfigKey, Section
from .kinds import Json, Kind
from .model_settings import ModelConfig
from .parts import DEFAULT_GROUP, EXTERNAL_GROUP, GroupConfig
from .settings import Config

_PARTS = (
    *(
        "residency",
        "groups",
        "matrix",
        "memory",
        "peers",
        "launchers",
        "selectors",
        "profiles",
        "apiKeys",
        "preload",
    ),
    *("scheduler", "settings"),
)
_IN_BLUEPRINT = frozenset({"cmd", "proxy", "env", "port", "blueprint"})


def _holds_data(kind: Kind | None) -> bool:
    """Whether values of *kind* are JSON data, in which 1, 1.0 and true are different."""
    below = kind.keys.values() if isinstance(kind, Section) else ()
    return isinstance(kind, Json) or any(_holds_data(each.kind) for each in below)


def _key_name(field: Field[object]) -> str:
    """Return the key of a model's field; without one, that of the global field it inherits."""
    declared: ConfigKey | None = field.metadata.get("key")
    if declared is not None:
        return declared.name
    (inherited,) = (f for f in fields(Config) if f.name == field.metadata["inherits"])
    return _key_name(inherited)


_MODEL = [field for field in fields(ModelConfig) if field.metadata]
_HOT = {field.name: _key_name(field) for field in _MODEL if not field.metadata["restarts"]}
_RESTARTS = [
    field.name for field in _MODEL if field.metadata["restarts"] and field.name not in _IN_BLUEPRINT
]
_EXACT = frozenset(
    field.name
    for field in _MODEL
    if "key" in field.metadata and _holds_data(field.metadata["key"].kind)
)
_PART_OF = {field.name: field.metadata["part"] for field in fields(Config)}


@dataclass(frozen=True, slots=True)
class Diff:
    """Model ids by the effect of a reload on them, each sorted.

    *hot* models are changed while they run; *restart* models need a new process. *parts* names
    other differences: ``residency``, ``groups``, ``matrix``, ``memory``, ``peers``, ``launchers``,
    ``selectors``, ``profiles``, ``apiKeys``, ``preload``, ``scheduler``, ``settings``.
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
        shown = [f"{name} {', '.join(ids)}" for name in names if (ids := getattr(self, name))]
        return "; ".join(shown) or "nothing changed"


def compare(old: Config, new: Config) -> Diff:
    """Return the effect of a reload from *old* to *new*: models by kind, and other parts."""
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
    """Return the keys that differ, without those that require a new process."""
    return tuple(key for name, key in _HOT.items() if not _same(old, new, name))


def _kind(old: ModelConfig, new: ModelConfig) -> str:
    if _blueprint(old) != _blueprint(new) or not all(_same(old, new, name) for name in _RESTARTS):
        return "restart"
    return "hot" if changed_settings(old, new) else "unchanged"


def _blueprint(model: ModelConfig) -> tuple[str, ...]:
    """Return what determines the process, except its port, which alone requires no restart."""
    return model.blueprint or (model.proxy, *model.env, "\0", model.cmd)


def _same(old: object, new: object, name: str) -> bool:
    before, after = getattr(old, name), getattr(new, name)
    if before is after:
        return True
    return bool(before == after) and (name not in _EXACT or repr(before) == repr(after))


def _changed_parts(old: Config, new: Config) -> tuple[str, ...]:
    changed = {part for name, part in _PART_OF.items() if part and not _same(old, new, name)}
    if _groups(old, new) == _groups(new, old):
        changed.discard("groups")
    return tuple(part for part in _PARTS if part in changed)


def _groups(config: Config, other: Config) -> dict[str, GroupConfig]:
    """Return the groups; those made here only with members that both configurations have."""
    groups = dict(config.groups)
    for made in (DEFAULT_GROUP, EXTERNAL_GROUP):
        group = groups.get(made, GroupConfig(made))
        stayed = tuple(member for member in group.members if member in other.models)
        groups[made] = replace(group, members=stayed)
        if made == EXTERNAL_GROUP and not stayed:
            del groups[made]
    return groups
