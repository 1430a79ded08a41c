"""The JSON or query of a request: the model it names, and edits that leave the rest unchanged.

``CompiledFilter`` applies a model's or peer's ``filters``: strip, then set, then set by name, then
fill in defaults. It is compiled once per configuration; a request that it does not apply to keeps
its bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import parse_qs, quote, unquote_plus

import msgspec

from llmsnap.config import WrittenFloat, is_soft
from llmsnap.errors import BadRequest
from llmsnap.http import (
    Edits,
    JsonProblem,
    Members,
    Value,
    delete_path,
    dump_json,
    json_members,
    lacks_path,
    path_problem,
    set_path,
    splice_json,
    split_path,
)

BOM = b"\xef\xbb\xbf"
MAX_MODEL_BYTES = 4096
MAX_FLAG_BYTES = 64
TRUE_WORDS = frozenset({"1", "t", "T", "true", "TRUE", "True"})

_ANYTHING = msgspec.json.Decoder(Any)


class JsonBody:
    """A JSON request: its bytes, the model it names, and its other top-level members.

    *named* is false when the body does not contain the name as a string: it came from the URL, or
    is a number, which parsers format in more than one way.
    """

    __slots__ = ("_members", "model", "named", "raw")

    def __init__(self, raw: bytes, model: str, members: Members, *, named: bool = True) -> None:
        self.raw = raw
        self.model = model
        self.named = named
        self._members = members

    def __repr__(self) -> str:
        return f"<JsonBody for {self.model!r}, {len(self.raw)} bytes>"

    @property
    def stream(self) -> bool:
        """Whether a stream is requested."""
        return _is_true(self._last("stream"))

    def get(self, name: str) -> bytes | None:
        """The JSON text of a top-level member, None without one; of repeated ones the last."""
        value = self._last(name)
        return None if value is None else bytes(value)

    def _last(self, name: str) -> Value:
        for found, value in reversed(self._members):
            if found == name:
                return value
        return None

    def rewrite(self, edits: Edits) -> JsonBody:
        """This request after *edits* to its top level; itself when they change nothing."""
        names = {name for name, _ in self._members}
        effective = {n: new for n, new in edits.items() if new is not None or n in names}
        if not effective:
            return self
        raw, members = splice_json(self.raw, self._members, effective)
        model = effective.get("model")
        named = self.named or bool(model)
        return JsonBody(raw, _text(model) if model else self.model, members, named=named)

    def naming(self, model: str) -> JsonBody:
        """This request with *model* for its model; itself where it names that already."""
        if self.named and model == self.model:
            return self
        return self.rewrite({"model": dump_json(model)})


def parse_json(raw: bytes, query_model: str = "") -> JsonBody:
    """The request in the body *raw*, for the model it names, else for *query_model*.

    Members that another parser could read as a second model are removed: repeated ones, and names
    that equal ``model`` but for case, which Go's encoding/json accepts.

    Raises: BadRequest if it is not a JSON object, or names no model.
    """
    raw = raw.removeprefix(BOM)
    try:
        members = json_members(raw)
    except JsonProblem as problem:
        raise BadRequest(_unusable(problem, raw)) from problem
    values: list[Value] = []
    others: list[str] = []
    for name, value in members:
        if name == "model":
            values.append(value)
        elif means_model(name):
            others.append(name)
    model = _text(values[0]) if values else ""
    if not model and not query_model:
        raise BadRequest("missing or invalid `model` key in the request body", "model")
    is_text = bool(model) and bytes(memoryview(values[0])[:1]) == b'"'
    request = JsonBody(raw, model or query_model, members, named=is_text)
    if not others and len(values) <= 1:
        return request
    edits: dict[str, bytes | None] = dict.fromkeys(others)
    edits["model"] = None
    if model:
        edits["model"] = bytes(values[0])
    return request.rewrite(edits)


def means_model(name: str) -> bool:
    """Whether some parser reads a member, field or parameter of this *name* as the model.

    Go's encoding/json ignores case, and a C text ends at a NUL.
    """
    return name == "model" or (
        name[:1] in {"m", "M"} and name.partition("\0")[0].casefold() == "model"
    )


def model_in_query(query: str) -> str:
    """The ``model`` parameter of a query string. Raises: BadRequest without one."""
    model = first_model(query)
    if not model:
        raise BadRequest("missing required `model` query parameter", "model")
    return model


def first_model(query: str) -> str:
    """The first ``model`` parameter of a query string, "" without one."""
    return parse_qs(query).get("model", [""])[0] if query else ""


def with_model(query: str, name: str) -> str:
    """The query with *name* for its model, and everything else as it was sent.

    The same text when it names that one model, or none at all.
    """
    parts = query.split("&")
    others = [part for part in parts if not _names_a_model(part)]
    if len(others) == len(parts):
        return query
    if len(others) == len(parts) - 1 and parse_qs(query).get("model") == [name]:
        return query
    return "&".join([f"model={quote(name, safe='')}", *filter(None, others)])


def _names_a_model(part: str) -> bool:
    """Whether a parser may find a model in this *part* of a query; some split at ``;`` as well."""
    return any(means_model(unquote_plus(one.partition("=")[0])) for one in part.split(";"))


def _unusable(problem: JsonProblem, raw: bytes) -> str:
    """Return the message about a body that is no JSON object."""
    if not raw.strip():
        return "the request has no body: it must be a JSON object with a `model`"
    return f"the request body is not usable: {_where(problem, raw)}"


def _where(problem: JsonProblem, raw: bytes) -> str:
    if problem.position < 0:
        return problem.what
    line = raw.count(b"\n", 0, problem.position) + 1
    column = problem.position - (raw.rfind(b"\n", 0, problem.position) + 1) + 1
    return f"invalid JSON: {problem.what} at byte {problem.position} (line {line}, column {column})"


_NO_NAMES = {b"{": "an object", b"[": "a list", b"t": "true", b"f": "false"}


def _text(value: Value) -> str:
    """Return the model's name in a JSON value: numbers in plain decimal, null as "".

    Raises: BadRequest for any other type but a string.
    """
    if memoryview(value).nbytes > MAX_MODEL_BYTES:
        raise BadRequest(f"the `model` key is longer than {MAX_MODEL_BYTES} bytes", "model")
    text = bytes(value)
    try:
        if kind := _NO_NAMES.get(text[:1]):
            raise BadRequest(f"the `model` key must be a text, not {kind}", "model")
        decoded: object = _ANYTHING.decode(text)
    except ValueError as error:
        raise BadRequest("the `model` key is not a usable JSON value", "model") from error
    match decoded:
        case str():
            return decoded
        case None:
            return ""
        case float() if decoded.is_integer():
            return str(int(decoded))
    return str(decoded)


def _is_true(value: Value) -> bool:
    if value is None or memoryview(value).nbytes > MAX_FLAG_BYTES:
        return False
    try:
        flag = _ANYTHING.decode(bytes(value))
    except ValueError:
        return False
    if isinstance(flag, str):
        return is_true_word(flag)
    return isinstance(flag, bool | int | float) and bool(flag)


def is_true_word(text: str) -> bool:
    """Whether a text means true, as in Go's ParseBool."""
    return text in TRUE_WORDS


PROTECTED = "model"


class TopLevel(Protocol):
    """A document's top level, as far as filters read it."""

    def get(self, name: str) -> bytes | None:
        """The JSON text of a member, None without one."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One parameter to set: its path, its JSON text, and its value as a form field.

    One that is *soft* is set only where the request lacks it.
    """

    path: tuple[str, ...]
    text: bytes
    plain: str
    soft: bool = False


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """The compiled filters of one model or peer; falsy if they change nothing."""

    strip: tuple[tuple[str, ...], ...] = ()
    settings: tuple[Setting, ...] = ()
    by_name: Mapping[str, tuple[Setting, ...]] | None = None
    """For requests that name the model so, *settings* included."""

    @classmethod
    def from_settings(
        cls,
        strip: Iterable[str] = (),
        set_params: Mapping[str, Any] | None = None,
        set_by_name: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> CompiledFilter:
        """Compile the configured filters; skips `model`, and names that are not a valid path.

        *set_by_name* holds more parameters for requests that name the model so. A name that ends
        in ``?`` is that of a soft parameter.
        """
        settings = _settings(set_params or {})
        by_name = {name: _settings(params) for name, params in (set_by_name or {}).items()}
        return cls(
            strip=tuple(_paths(strip)),
            settings=settings,
            by_name={name: _joined(settings, own) for name, own in by_name.items() if own} or None,
        )

    def __bool__(self) -> bool:
        return bool(self.strip or self.settings or self.by_name)

    def settings_for(self, requested: str) -> tuple[Setting, ...]:
        """Return the parameters to set for a request that names the model *requested*, in order."""
        if self.by_name is None:
            return self.settings
        return self.by_name.get(requested, self.settings)

    def edits(self, request: TopLevel, requested: str) -> dict[str, bytes | None]:
        """Return the edits of *request*'s top level: new JSON text per member, None deletes it."""
        edits: dict[str, bytes | None] = {}
        for path in self.strip:
            _strip(edits, request, path)
        for setting in self.settings_for(requested):
            top, *rest = setting.path
            before = _current(edits, request, top) if rest or setting.soft else None
            if not setting.soft or lacks_path(before, rest):
                edits[top] = set_path(before, rest, setting.text)
        return edits

    def form_edits(self, names: Iterable[str], requested: str) -> dict[str, str | None]:
        """Return the edits of a form, which has only a top level: new text, or None to delete.

        *names* are the fields the form has.
        """
        present = set(names)
        edits: dict[str, str | None] = {
            path[0]: None for path in self.strip if len(path) == 1 and path[0] in present
        }
        for setting in self.settings_for(requested):
            name = setting.path[0]
            lacks = edits.get(name) is None and (name in edits or name not in present)
            if len(setting.path) == 1 and (lacks or not setting.soft):
                edits[name] = setting.plain
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
    """Return the parameters in the order in which they are set: soft ones last."""
    found = [
        Setting(path, _json(params[name]), _plain(params[name]), is_soft(name))
        for name in sorted(params)
        for path in _paths([name[:-1] if is_soft(name) else name])
    ]
    return _in_order(found)


def _joined(settings: tuple[Setting, ...], own: tuple[Setting, ...]) -> tuple[Setting, ...]:
    """Return *settings* with those of a name; its *own* soft ones replace others of their path."""
    soft = {setting.path for setting in own if setting.soft}
    return _in_order([*(each for each in settings if each.path not in soft), *own])


def _in_order(settings: list[Setting]) -> tuple[Setting, ...]:
    return tuple(sorted(settings, key=lambda setting: setting.soft))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _json(value).decode()


def _json(value: Any) -> bytes:
    """Return *value* as compact JSON, keys sorted, numbers as the file has them."""
    match value:
        case WrittenFloat():
            return value.text.encode()
        case dict():
            members = (dump_json(name) + b":" + _json(value[name]) for name in sorted(value))
            return b"{" + b",".join(members) + b"}"
        case list():
            return b"[" + b",".join(map(_json, value)) + b"]"
    return dump_json(value)
