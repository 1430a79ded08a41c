"""The published JSON schema: what editors know of a configuration, and advice drawn from it.

The loader accepts more than the schema describes, so nothing here ever refuses a file.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from collections.abc import Mapping as Values
from typing import TYPE_CHECKING, Any

from llmsnap.installation import conf_folder

from .nodes import Mapping, Node, Report, Scalar, Sequence, dotted, find_node, is_null
from .scalars import resolve

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

FILE_NAME = "config-schema.json"

# The loader speaks of unknown keys and of macro names itself, and better.
_LEFT_TO_THE_LOADER = frozenset({"additionalProperties", "propertyNames"})
_TYPES = {
    "string": "a text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
}


@functools.cache
def load_schema() -> Values[str, Any]:
    """Return the schema. Reads a file the first time."""
    text = (conf_folder() / FILE_NAME).read_text(encoding="utf-8")
    schema: Values[str, Any] = json.loads(text)
    return schema


def advise_by_schema(tree: Node | None, report: Report) -> None:
    """Add to *report* what in *tree* is not as the schema describes it."""
    if not isinstance(tree, Mapping):
        return
    # It takes longer to import than a thousand models to load.
    from jsonschema import Draft202012Validator  # noqa: PLC0415

    spoken_of = {problem.where for problem in (*report.problems, *report.advice)}
    for error in Draft202012Validator(load_schema()).iter_errors(_data(tree)):
        path = tuple(error.absolute_path)
        if error.validator in _LEFT_TO_THE_LOADER or dotted(path) in spoken_of:
            continue
        if not report.already_reported(path):
            fix = "the schema describes no more than is usual; see docs/configuration.md"
            report.advise(path, _what(error), fix, find_node(tree, path))


def described_keys(
    schema: Values[str, Any] | None = None, prefix: str = ""
) -> Iterator[tuple[str, Values[str, Any]]]:
    """Yield the path and the subschema of every key; ``*`` is an id, ``[]`` a place in a list."""
    for part, below in _parts(schema or load_schema()):
        path = f"{prefix}{part}" if not prefix or part == "[]" else f"{prefix}.{part}"
        if part not in ("*", "[]"):
            yield path, below
        yield from described_keys(below, path)


def _parts(schema: Values[str, Any]) -> Iterator[tuple[str, Values[str, Any]]]:
    schema = resolved(schema)
    for name, below in schema.get("properties", {}).items():
        yield name, resolved(below)
    for part, key in (("*", "additionalProperties"), ("[]", "items")):
        if isinstance(schema.get(key), dict):
            yield part, schema[key]
    for alternative in schema.get("anyOf", ()):
        yield from _parts(alternative)


def resolved(schema: Values[str, Any]) -> Values[str, Any]:
    """Return *schema* with its ``$ref`` filled in; what it says itself comes first."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    target = load_schema()["$defs"][reference.rpartition("/")[2]]
    return {**target, **schema}


def _data(node: Node) -> Any:
    """Return *node* as the schema sees it: plain data, without what is nothing."""
    if isinstance(node, Mapping):
        return {key: _data(below) for key, below in node.entries.items() if not is_null(below)}
    if isinstance(node, Sequence):
        return [_data(item) for item in node.items if not is_null(item)]
    assert isinstance(node, Scalar)  # noqa: S101 - there is no other kind
    return resolve(node.text) if node.plain else node.text


def _what(error: ValidationError) -> str:
    """Say what was expected; never what was found, which may be secret."""
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
            return f"should be {_described(error.schema)}"


def _described(schema: Any) -> str:
    if "title" in schema:
        return str(schema["title"])
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}"
    if "anyOf" in schema:
        return " or ".join(_described(resolved(below)) for below in schema["anyOf"])
    types = schema.get("type", "something else")
    names = [types] if isinstance(types, str) else types
    least = f" of at least {schema['minimum']}" if "minimum" in schema else ""
    most = f" and at most {schema['maximum']}" if "maximum" in schema else ""
    return " or ".join(_TYPES.get(name, name) for name in names) + least + most
