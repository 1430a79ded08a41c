"""Declaration of keys: one per key, as a field of the settings it becomes.

``setting()`` is what ``settings`` writes in place of ``dataclasses.field()``. From it derive the
section that the loader reads by (``section_of``), the field's default and its value
(``stored_values``), what a reload does (``diff``), the JSON schema (``schema``), the tables of the
documentation and the commented example (``scripts/reference.py``). A key without a field of its own
is a ``ClassVar`` that holds a ``ConfigKey``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as Values
from dataclasses import MISSING, field, fields
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple

from llmsnap import suggestions

from .kinds import Flag, Kind, RawNode, ValueReader
from .nodes import Mapping, Node, Path, Sequence, is_null

MIB = 1024 * 1024
KIB = 1024

_EMPTY: Values[str, Any] = MappingProxyType({})
_UNITS: dict[str, Callable[[Any], Any]] = {
    "seconds": float,
    "days": float,
    "MiB": lambda value: int(value * MIB),
    "KiB": lambda value: int(value * KIB),
}
"""Conversions from a value in these units to the value of the field."""


class ConfigKey(NamedTuple):
    """The declaration of a key."""

    name: str
    """The name in its section; ``a.b`` is in the section ``a``, which is declared before it."""
    kind: Kind
    """The kind of its values, with limits and default."""
    text: str
    """Its description, for the documentation and for editors."""
    unit: str = ""
    """The unit of a number: ``seconds``, ``days``, ``MiB`` or ``KiB``."""
    to: Callable[[Any], Any] | None = None
    """Converts to the value of the field; by default the conversion of *unit*."""
    restarts: bool = False
    """Whether a change restarts a running model; otherwise it applies at once."""
    guards: bool = False
    """Whether it restricts access: an unknown key that resembles it is then an error."""
    required: bool = False
    deprecated: bool = False
    example: Any = None
    """The example value in the schema and the commented example; by default the default."""
    live: bool | None = True
    """Whether the commented example sets it; False: commented out, None: left out."""
    heading: str = ""
    """The heading of the part of the commented example that begins here."""
    schema: Values[str, Any] = _EMPTY
    """Additional members of its JSON schema."""

    def value(self, given: Any) -> Any:
        """Return the field's value for the file's value *given*."""
        if self.to is not None:
            return self.to(given)
        return given if given is None or not self.unit else _UNITS[self.unit](given)


def setting(  # noqa: PLR0913 - one call says all there is to say about a key
    name: str,
    kind: Kind,
    text: str,
    *,
    initial: Any = MISSING,
    secret: bool = False,
    inherits: str = "",
    part: str = "settings",
    **options: Any,
) -> Any:
    """Return the field that holds the value of a key; *options* are those of ConfigKey.

    *initial* is the field's default if it differs from the key's; a *secret* is not in the repr.
    *inherits* names the field of ``Config`` that replaces None. *part* is the name of a change of
    this field of ``Config`` in ``Diff.parts``; without it, changes are ignored.
    """
    declared = ConfigKey(name, kind, text, **options)
    if initial is MISSING and not declared.required:
        initial = declared.value(kind.default)
    return _field(
        initial,
        secret=secret,
        metadata={
            "key": declared,
            "restarts": declared.restarts,
            "inherits": inherits,
            "part": part,
        },
    )


def derived(
    initial: Any,
    *,
    secret: bool = False,
    restarts: bool = False,
    inherits: str = "",
    part: str = "settings",
) -> Any:
    """Return a field without a key, set by the loader. Parameters are as in setting()."""
    metadata = {"restarts": restarts, "inherits": inherits, "part": part}
    return _field(initial, secret=secret, metadata=metadata)


def inherited(name: str, default: Any) -> dict[str, Any]:
    """Return options that make a field inherit from the top-level field *name*."""
    return {"inherits": name, "initial": default}


def _field(default: Any, *, secret: bool, metadata: Values[str, Any]) -> Any:
    if default is MISSING:
        return field(repr=not secret, metadata=metadata)
    if callable(default):
        return field(default_factory=default, repr=not secret, metadata=metadata)
    if isinstance(default, MappingProxyType):  # hashable from Python 3.12 on
        return field(default_factory=lambda: default, repr=not secret, metadata=metadata)
    return field(default=default, repr=not secret, metadata=metadata)


class _Stored(NamedTuple):
    """How a field is computed from the values of its section."""

    name: str
    path: tuple[str, ...]  # of its key in the section; empty: no key
    make: Callable[[Any], Any] | None
    inherits: str


@functools.cache
def _stored(owner: type) -> tuple[_Stored, ...]:
    found = []
    for each in fields(owner):
        declared, inherits = each.metadata.get("key"), each.metadata.get("inherits", "")
        if declared is not None and not isinstance(declared.kind, RawNode):
            make = declared.value if declared.to or declared.unit else None
            found.append(_Stored(each.name, tuple(declared.name.split(".")), make, inherits))
        elif inherits:
            found.append(_Stored(each.name, (), None, inherits))
    return tuple(found)


def stored_values(
    owner: type, values: Values[str, Any], inherits: Values[str, Any] = _EMPTY
) -> dict[str, Any]:
    """Return the fields of *owner* computed from *values*, as read by its section.

    *inherits* are the fields of ``Config``. Fields of keys with special rules are included
    unprocessed: the caller replaces them.
    """
    found: dict[str, Any] = {}
    for name, path, make, fallback in _stored(owner):
        value: Any = values if path else None
        for part in path:
            value = value[part]
        if make is not None:
            value = make(value)
        found[name] = inherits[fallback] if value is None and fallback else value
    return found


# --- sections -------------------------------------------------------------------------------------


class Section(Kind):
    """A mapping with known keys, all at their defaults when it is absent.

    *closed*: every key restricts access; an unknown or empty one is an error. *hints* say what to
    do about some unknown keys, by their folded name.
    """

    def __init__(
        self, *keys: ConfigKey, closed: bool = False, hints: Values[str, str] = _EMPTY
    ) -> None:
        super().__init__(MappingProxyType({each.name: each.kind.default for each in keys}))
        self.keys: Values[str, ConfigKey] = MappingProxyType({each.name: each for each in keys})
        self.closed = closed
        self.hints = hints

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the value of every key; report advice about unknown ones."""
        if is_null(node):
            return self.default
        if not isinstance(node, Mapping):
            reader.mismatch(node, path, "a mapping")
            return self.default
        values = dict(self.default)
        for name, child in node.entries.items():
            declared = self.keys.get(name)
            if declared is None:
                self._report_unknown(name, node, path, reader)
            elif self.closed and is_null(child):
                what, fix = "is empty", "write its value, or remove it"
                reader.report.error((*path, name), what, fix, node.keys[name])
            else:
                values[name] = declared.kind.read(child, (*path, name), reader)
        return values

    def _report_unknown(self, name: str, node: Mapping, path: Path, reader: ValueReader) -> None:
        if name.startswith(("x-", ".")):
            return
        report, at = reader.report, node.keys[name]
        guards = [each.name for each in self.keys.values() if each.guards or self.closed]
        meant = suggestions.nearest(name, guards)
        if meant:
            report.error((*path, name), "unknown key", f'did you mean "{meant[0]}"?', at)
        elif self.closed:
            report.error((*path, name), "unknown key", f"known are {', '.join(self.keys)}", at)
        elif _means_api_keys(name, node.entries[name], path):
            what = "asks no client for a key here"
            report.error((*path, name), what, "write apiKeys at the top of the file", at)
        elif not path and suggestions.folded(name) in _TLS_WORDS:
            what, fix = "encrypts nothing here", "use --tls-cert-file and --tls-key-file"
            report.error((*path, name), what, fix, at)
        else:
            fix = self.hints.get(suggestions.folded(name)) or report.nearest(name, self.keys)
            if not fix and len(self.keys) <= _FEW:
                fix = f"known are {', '.join(self.keys)}"
            report.advise((*path, name), "unknown key", fix or "remove it", at)


_KEY_LISTS = ("apiKeys", "authKeys", "accessKeys", "apiTokens", "authTokens")
_KEY_WORDS = frozenset({"keys", "auth", "authentication", "tokens"})
_TLS_WORDS = frozenset(
    {"tls", "ssl", "https", "tlscert", "tlskey", "tlscertfile", "tlskeyfile", "certfile", "keyfile"}
)
_MOST_BELOW = 50
_FEW = 8
"""Keys of a section that fit in a message."""


def _means_api_keys(name: str, node: Node, path: Path) -> bool:
    """Return whether an unknown key, or one directly below it, resembles ``apiKeys``."""
    if "apikey" in suggestions.folded(name) or suggestions.nearest(name, _KEY_LISTS):
        return True
    if not path and suggestions.folded(name) in _KEY_WORDS:
        return True
    below = islice(node.entries, _MOST_BELOW) if isinstance(node, Mapping) else ()
    return any(suggestions.folded(key) in ("apikeys", "apikey") for key in below)


class SectionOrFalse(Section):
    """A section, or ``false``; ``true`` is a section with its defaults."""

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the value of every key, or False."""
        if isinstance(node, Mapping) or is_null(node):
            return super().read(node, path, reader)
        return self.default if Flag(default=True).read(node, path, reader) else False


class Sections(Kind):
    """A list of sections."""

    def __init__(self, section: Section, definition: str) -> None:
        super().__init__(())
        self.section = section
        self.definition = definition
        """The name of the section in the JSON schema."""

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the value of each entry, with its node."""
        if is_null(node):
            return self.default
        if not isinstance(node, Sequence):
            reader.mismatch(node, path, "a list", "begin each entry with - in a line of its own")
            return self.default
        return tuple(
            (self.section.read(item, (*path, index), reader), item)
            for index, item in enumerate(node.items)
        )


_GROUPED = Section()
"""Placeholder for a section built from keys with dotted names."""


def grouped(name: str, text: str, **options: Any) -> ConfigKey:
    """Return the key of a section whose own keys follow it, with dotted names."""
    return ConfigKey(name, _GROUPED, text, **options)


def section_of(
    owner: type,
    *,
    closed: bool = False,
    also: Iterable[ConfigKey] = (),
    without: tuple[str, ...] = (),
    kinds: Values[str, Kind] = _EMPTY,
    hints: Values[str, str] = _EMPTY,
) -> Section:
    """Return the section of the keys declared in *owner*, but *without* some, then *also*.

    *kinds* replace the declared kinds, by the name of the key; *hints* are as in Section.
    """
    declared = [*(each for each in _declared(owner) if each.name not in without), *also]
    replaced = [each._replace(kind=kinds.get(each.name, each.kind)) for each in declared]
    return _assembled(replaced, closed=closed, hints=hints)


def _declared(owner: type) -> Iterator[ConfigKey]:
    by_field = {each.name: each.metadata.get("key") for each in fields(owner)}
    for name in owner.__annotations__:
        declared = by_field.get(name) or owner.__dict__.get(name)
        if isinstance(declared, ConfigKey):
            yield declared


def _assembled(
    declared: list[ConfigKey], *, closed: bool = False, hints: Values[str, str] = _EMPTY
) -> Section:
    own = [each for each in declared if "." not in each.name]
    return Section(
        *(
            each._replace(kind=_assembled(_below(each.name, declared)))
            if each.kind is _GROUPED
            else each
            for each in own
        ),
        closed=closed,
        hints=hints,
    )


def _below(name: str, declared: list[ConfigKey]) -> list[ConfigKey]:
    prefix = f"{name}."
    return [
        each._replace(name=each.name.removeprefix(prefix))
        for each in declared
        if each.name.startswith(prefix)
    ]
