"""What a model's or peer's ``filters`` do to a request: strip, then set, then set by name.

Compiled once per configuration; a request that nothing applies to is not touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from llmsnap.config.scalars import WrittenFloat
from llmsnap.http.jsontext import delete_path, dump, path_problem, set_path, split_path

PROTECTED = "model"


class TopLevel(Protocol):
    """A document's top level, as far as filters look at it."""

    def get(self, name: str) -> bytes | None:
        """The JSON text of a member, None without one."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One parameter to set: where, its JSON text, and its value as a form field would have it."""

    path: tuple[str, ...]
    text: bytes
    plain: str


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """The filters of one model or peer. False when they do nothing."""

    strip: tuple[tuple[str, ...], ...] = ()
    settings: tuple[Setting, ...] = ()
    by_name: Mapping[str, tuple[Setting, ...]] | None = None

    @classmethod
    def from_settings(
        cls,
        strip: Iterable[str] = (),
        set_params: Mapping[str, Any] | None = None,
        set_by_name: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> CompiledFilter:
        """Compile the configured filters; names that are no usable path, and `model`, are left out.

        *set_by_name* holds more parameters for requests that ask for the model by that name.
        """
        by_name = {name: _settings(params) for name, params in (set_by_name or {}).items()}
        return cls(
            strip=tuple(_paths(strip)),
            settings=_settings(set_params or {}),
            by_name={name: settings for name, settings in by_name.items() if settings} or None,
        )

    def __bool__(self) -> bool:
        return bool(self.strip or self.settings or self.by_name)

    def settings_for(self, requested: str) -> tuple[Setting, ...]:
        """What is set for a request that names the model *requested*, in order."""
        if self.by_name is None:
            return self.settings
        return self.settings + self.by_name.get(requested, ())

    def edits(self, request: TopLevel, requested: str) -> dict[str, bytes | None]:
        """The changes to *request*'s top level: new JSON text per member, None to delete it."""
        edits: dict[str, bytes | None] = {}
        for path in self.strip:
            _strip(edits, request, path)
        for setting in self.settings_for(requested):
            top, *rest = setting.path
            before = _current(edits, request, top) if rest else None
            edits[top] = set_path(before, rest, setting.text)
        return edits

    def form_edits(self, names: Iterable[str], requested: str) -> dict[str, str | None]:
        """The same for a form, which has only a top level: new text per field, None to delete it.

        *names* are the fields the form has.
        """
        present = set(names)
        edits: dict[str, str | None] = {
            path[0]: None for path in self.strip if len(path) == 1 and path[0] in present
        }
        for setting in self.settings_for(requested):
            if len(setting.path) == 1:
                edits[setting.path[0]] = setting.plain
        return edits


def _strip(edits: dict[str, bytes | None], request: TopLevel, path: tuple[str, ...]) -> None:
    top, *rest = path
    before = _current(edits, request, top)
    if before is None:
        return
    after = delete_path(before, rest) if rest else None
    if after is not before:
        edits[top] = after


def _current(edits: Mapping[str, bytes | None], request: TopLevel, name: str) -> bytes | None:
    return edits[name] if name in edits else request.get(name)


def _paths(names: Iterable[str]) -> list[tuple[str, ...]]:
    cleaned = sorted({name.strip() for name in names})
    paths = [tuple(split_path(name)) for name in cleaned if name and not path_problem(name)]
    return [path for path in paths if path[0] != PROTECTED]


def _settings(params: Mapping[str, Any]) -> tuple[Setting, ...]:
    return tuple(
        Setting(path, _json(params[name]), _plain(params[name]))
        for name in sorted(params)
        for path in _paths([name])
    )


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _json(value).decode()


def _json(value: Any) -> bytes:
    """Return *value* as compact JSON, keys sorted, numbers as the file has them."""
    match value:
        case WrittenFloat():
            return value.text.encode()
        case dict():
            members = (dump(name) + b":" + _json(value[name]) for name in sorted(value))
            return b"{" + b",".join(members) + b"}"
        case list():
            return b"[" + b",".join(map(_json, value)) + b"]"
    return dump(value)
