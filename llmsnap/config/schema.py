"""The JSON schema derived from the declared keys, and advice based on it.

The schema describes usual files. The loader accepts more, so this module never rejects a file.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Mapping as Values
from typing import TYPE_CHECKING, Any

from .keys import ConfigKey, Section, SectionOrFalse, Sections
from .kinds import (
    Choice,
    Choices,
    CommandLine,
    Duration,
    Flag,
    HeaderNames,
    Json,
    Kind,
    Number,
    Patterns,
    RawNode,
    Size,
    Text,
    Texts,
    Unsupported,
    Words,
)
from .memory import DEVICE_SCHEMA, DEVICES_SCHEMA, SIZE_SCHEMA, SIZES_SCHEMA, DeviceName, Sizes
from .nodes import Mapping, Node, Report, Scalar, Sequence, dotted, find_node, is_null
from .scalars import resolve
from .settings import EACH, TOP

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

_MACRO = {"$ref": "#/$defs/macro"}
_TEXT = {"$ref": "#/$defs/text"}
_SHARED: dict[str, Any] = {
    "macro": {
        "title": "a macro such as ${NAME}",
        "type": "string",
        "pattern": r"\$\{[A-Za-z0-9_.-]+\}",
    },
    "text": {"type": ["string", "number", "boolean"]},
    "macros": {
        "propertyNames": {
            "pattern": "^[A-Za-z0-9_-]{1,63}$",
            "not": {"enum": ["PORT", "MODEL_ID"]},
        },
        "additionalProperties": {"type": ["string", "number", "boolean"]},
        "default": {},
        "anyOf": [{"type": "object"}, {"type": "array", "maxItems": 0}],
    },
}
_PLAIN_API_KEY = {
    "description": "A key that may do everything.",
    "type": ["string", "number"],
    "pattern": "^[^ ]+$",
}
_SECTIONS = {
    "model": "A model: how its server is started, checked and stopped, and its limits.",
    "group": "Models that share rules.",
    "peer": "Another server, and the models it offers.",
    "launcher": "An engine that runs servers on other machines.",
    "matrix": "Which models may be in memory together, as sets of combinations.",
    "memory": "What devices have, and what is done while their memory is not free.",
    "selector": "A name in requests whose target is chosen anew for each request.",
    "profile": "Another meaning of some names in requests, while it is active.",
    "apiKey": "A key with a name and limits.",
    "endpoint": "One HTTP call.",
    "hookCall": "One HTTP call of a hook.",
    "scheduleEntry": "A time of day, and what is loaded or unloaded then.",
}


# --- the schema ----------------------------------------------------------------------------------


@functools.cache
def json_schema() -> Values[str, Any]:
    """Return the schema of a configuration file."""
    definitions = {
        name: {"description": text, **_object(EACH[name])} for name, text in _SECTIONS.items()
    }
    definitions["model"]["anyOf"] = [{"required": ["cmd"]}, {"required": ["proxy"]}]
    definitions["memory"]["patternProperties"] = DEVICES_SCHEMA
    definitions["apiKey"] = {"anyOf": [_PLAIN_API_KEY, definitions["apiKey"]]}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "llmsnap configuration",
        "description": (
            "Models, how their servers are started, which run together, and who may use them."
        ),
        **_object(TOP),
        "patternProperties": {
            r"^(x-|\.)": {"description": "Free for your own use, such as anchors."}
        },
        "$defs": {**_SHARED, **definitions},
    }


def _object(section: Section) -> dict[str, Any]:
    found: dict[str, Any] = {
        "type": "object",
        "properties": {each.name: _property(each) for each in described_keys(section)},
        "additionalProperties": False,
    }
    required = [each.name for each in section.keys.values() if each.required]
    return {**found, "required": required} if required else found


def described_keys(section: Section) -> list[ConfigKey]:
    """Return the keys of *section*, except the refused ones."""
    return [
        each
        for each in section.keys.values()
        if not (isinstance(each.kind, Unsupported) and each.kind.refused)
    ]


def _property(key: ConfigKey) -> dict[str, Any]:
    found: dict[str, Any] = {"description": key.text}
    if key.deprecated or isinstance(key.kind, Unsupported):
        found["deprecated"] = True
    if "type" not in key.schema and "anyOf" not in key.schema:
        found.update(_OF_KIND[type(key.kind)](key.kind))
    found.update(key.schema)
    default = plain_default(key)
    if default is not None:
        found["default"] = default
    if key.example is not None and key.example != default:
        found.setdefault("examples", [key.example])
    return found


def plain_default(key: ConfigKey) -> Any:
    """Return the default of *key* as JSON; None if it has none."""
    default = key.kind.default
    if key.required or isinstance(key.kind, Section):
        return None
    if isinstance(key.kind, Choice) and default not in key.kind.words:
        return None
    if isinstance(key.kind, Words):
        return key.kind.word
    if isinstance(default, Values):
        return dict(default)
    if isinstance(default, float) and default.is_integer():
        return int(default)
    return list(default) if isinstance(default, tuple) else default


def _of_node(kind: RawNode) -> dict[str, Any]:
    if kind.one:
        return {"$ref": f"#/$defs/{kind.one}"}
    if not kind.each:
        return dict(kind.schema)
    each = {"$ref": f"#/$defs/{kind.each}"}
    if kind.each == "apiKey":
        return {"type": "array", "items": each, "default": []}
    return {"type": "object", "additionalProperties": each, "default": {}}


def _number(kind: Number) -> dict[str, Any]:
    limits = (kind.least, kind.raised_to, kind.advised)
    least = max(limit for limit in limits if limit is not None)
    found: dict[str, Any] = {"type": "integer" if kind.whole else "number", "minimum": least}
    return {**found, "maximum": kind.most} if kind.most < 2**53 else found


def _words(words: Iterable[str]) -> dict[str, Any]:
    word = "|".join(words)
    several = {"type": "string", "pattern": rf"^\s*({word})(\s*,\s*({word}))*\s*$|\$\{{"}
    return {"anyOf": [several, {"type": "array", "items": several}]}


_OF_KIND: dict[type[Kind], Callable[[Any], dict[str, Any]]] = {
    Section: _object,
    SectionOrFalse: lambda kind: {"anyOf": [{"type": "boolean"}, _object(kind)]},
    Sections: lambda kind: {"type": "array", "items": {"$ref": f"#/$defs/{kind.definition}"}},
    RawNode: _of_node,
    Sizes: lambda _: SIZES_SCHEMA,
    DeviceName: lambda _: DEVICE_SCHEMA,
    Size: lambda _: {"anyOf": SIZE_SCHEMA},
    Unsupported: lambda _: {},
    Duration: lambda _: {"type": "string", "pattern": r"^([0-9.]+(ns|us|µs|ms|s|m|h|d))+$|\$\{"},
    Choices: lambda kind: {
        "type": "array",
        "items": {"anyOf": [{"enum": list(kind.words)}, _MACRO]},
    },
    Words: lambda kind: _words(kind.meanings),
    Choice: lambda kind: {"anyOf": [{"enum": list(kind.words)}, _MACRO]},
    Number: lambda kind: {"anyOf": [_number(kind), _MACRO]},
    Flag: lambda _: {"anyOf": [{"type": "boolean"}, _MACRO]},
    Patterns: lambda _: {"type": "array", "items": {"type": "string", "format": "regex"}},
    Texts: lambda _: {"type": "array", "items": _TEXT},
    HeaderNames: lambda _: {"type": "array", "items": _TEXT},
    Json: lambda _: {"type": "object"},
    Text: lambda _: _TEXT,
    CommandLine: lambda _: _TEXT,
}


def all_keys(section: Section = TOP, prefix: str = "") -> Iterator[tuple[str, ConfigKey]]:
    """Yield every key with its path, in which ``*`` is an id and ``[]`` a list index."""
    for name, key in section.keys.items():
        path = f"{prefix}{name}"
        yield path, key
        match key.kind:
            case Section():
                yield from all_keys(key.kind, f"{path}.")
            case Sections():
                yield from all_keys(key.kind.section, f"{path}[].")
            case RawNode(one=one) if one:
                yield from all_keys(EACH[one], f"{path}.")
            case RawNode(each=each) if each:
                yield from all_keys(EACH[each], f"{path}[]." if each == "apiKey" else f"{path}.*.")


# --- advice --------------------------------------------------------------------------------------

# The loader itself reports unknown keys and macro names, in more detail.
_LEFT_TO_THE_LOADER = frozenset({"additionalProperties", "propertyNames"})
_TYPES = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


def advise_by_schema(tree: Node | None, report: Report) -> None:
    """Add advice to *report* where *tree* does not match the schema."""
    if not isinstance(tree, Mapping):
        return
    # Importing it takes longer than loading a thousand models.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    reported = {problem.where for problem in (*report.problems, *report.advice)}
    for error in Draft202012Validator(json_schema()).iter_errors(_data(tree)):
        path = tuple(error.absolute_path)
        if error.validator in _LEFT_TO_THE_LOADER or dotted(path) in reported:
            continue
        if not report.already_reported(path):
            fix = "the schema describes no more than is usual; see docs/configuration.md"
            report.advise(path, _what(error), fix, find_node(tree, path))


def _data(node: Node) -> Any:
    """Return *node* as plain data for the schema, without null values."""
    if isinstance(node, Mapping):
        return {key: _data(below) for key, below in node.entries.items() if not is_null(below)}
    if isinstance(node, Sequence):
        return [_data(item) for item in node.items if not is_null(item)]
    assert isinstance(node, Scalar)  # noqa: S101 - there is no other kind
    return resolve(node.text) if node.plain else node.text


def _what(error: ValidationError) -> str:
    """Return what was expected, without the value found, which may be secret."""
    wanted: Any = error.validator_value
    found: Any = error.instance
    match error.validator:
        case "required":
            missing = [name for name in wanted if name not in found]
            return f"usually has {', '.join(missing)}"
        case "minimum" | "maximum":
            return f"should be at {'least' if error.validator == 'minimum' else 'most'} {wanted}"
        case "minLength" | "minItems":
            return "should not be empty"
        case "pattern":
            return f"should match {wanted}"
        case _:
            return f"should be {_expected(error.schema)}"


def _expected(schema: Any) -> str:
    if "title" in schema:
        return str(schema["title"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "anyOf" in schema:
        return " or ".join(_expected(_resolved(below)) for below in schema["anyOf"])
    if "required" in schema:
        return f"a mapping with {', '.join(schema['required'])}"
    types = schema.get("type", "something else")
    names = [types] if isinstance(types, str) else types
    least = f" of at least {schema['minimum']}" if "minimum" in schema else ""
    most = f" and at most {schema['maximum']}" if "maximum" in schema else ""
    return " or ".join(_TYPES.get(name, name) for name in names) + least + most


def _resolved(schema: Values[str, Any]) -> Values[str, Any]:
    """Return *schema* with its ``$ref`` resolved; its own members take precedence."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    return {**json_schema()["$defs"][reference.rpartition("/")[2]], **schema}
