"""The schema, the example, the documentation and the loader know the same keys."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from llmsnap.config.keys import all_paths
from llmsnap.config.kinds import Key, RawNode, Section, Unsupported
from llmsnap.config.loader import load_with_advice, loads
from llmsnap.config.nodes import Mapping, Node, Report, Sequence
from llmsnap.config.schema import advise_by_schema, described_keys, load_schema
from llmsnap.config.yaml import compose
from llmsnap.errors import ConfigError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "conf" / "llmsnap.example.yaml"

KEYS: dict[str, Key] = dict(all_paths())
DESCRIBED: dict[str, Any] = dict(described_keys())
USED = {path: key for path, key in KEYS.items() if not isinstance(key.kind, Unsupported)}


def findings(text: str) -> list[str]:
    report = Report()
    advise_by_schema(compose(text, {}, report), report)
    return [str(each).partition(" - ")[0] for each in report.advice]


# --- the same keys everywhere --------------------------------------------------------------------


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(load_schema())


def test_the_loader_s_keys_are_in_the_schema() -> None:
    refused = {path for path, key in KEYS.items() if getattr(key.kind, "refused", False)}
    assert set(KEYS) - set(DESCRIBED) == refused == {"matrix", "selectors"}


def test_the_schema_s_keys_are_the_loader_s() -> None:
    assert set(DESCRIBED) <= set(KEYS)


def test_every_key_is_described_for_the_reader_of_an_editor() -> None:
    lacking = [path for path, below in DESCRIBED.items() if len(below.get("description", "")) < 12]
    assert not lacking
    assert [
        path for path, below in DESCRIBED.items() if not below["description"].endswith(".")
    ] == []


def test_keys_without_effect_are_marked_in_the_schema() -> None:
    marked = {path for path, below in DESCRIBED.items() if below.get("deprecated")}
    without = {path for path, key in KEYS.items() if isinstance(key.kind, Unsupported)}
    refused_only_in_part = {"routing.router.settings.matrix"}
    relics = {"logRequests", "profiles", "models.*.filters.strip_params"}
    assert marked - relics - refused_only_in_part == without & set(DESCRIBED)


def test_defaults_are_the_loader_s() -> None:
    found = {
        path: (DESCRIBED[path]["default"], key.kind.default)
        for path, key in USED.items()
        if "default" in DESCRIBED[path] and not isinstance(key.kind, RawNode)
    }
    assert len(found) > 60
    plain = {path: (told, [] if real == () else real) for path, (told, real) in found.items()}
    assert not [path for path, (told, real) in plain.items() if told != real]


def test_defaults_are_told_wherever_there_is_one() -> None:
    silent = [
        path
        for path, key in USED.items()
        if "default" not in DESCRIBED[path]
        and not isinstance(key.kind, (RawNode, Section))
        and key.kind.default is not None
    ]
    required_or_of_no_use = {"models.*.cmd", "routing.router.use", "apiKeys[].key"}
    assert {path for path in silent if not path.startswith("peers")} - required_or_of_no_use == {
        "models.*.sleepEndpoints[].endpoint",
        "models.*.wakeEndpoints[].endpoint",
    }


def test_the_example_has_every_key() -> None:
    tree = load_with_advice(EXAMPLE, environ={}).tree
    text = EXAMPLE.read_text()
    lacking = [path for path in USED if not _stands_in(tree, path)]
    assert [path for path in lacking if not _is_mentioned(text, path)] == [
        "routing.router.settings.matrix"
    ]


def _stands_in(tree: Node | None, path: str) -> bool:
    """Tell whether *path* is a place in *tree*."""
    nodes = [tree]
    for part in re.findall(r"\[\]|[^.\[\]]+", path):
        below: list[Node | None] = []
        for node in nodes:
            if isinstance(node, Sequence) and part == "[]":
                below += node.items
            elif isinstance(node, Mapping):
                below += node.entries.values() if part == "*" else [node.entries.get(part)]
        nodes = [node for node in below if node is not None]
    return bool(nodes)


def _is_mentioned(text: str, path: str) -> bool:
    name = re.escape(path.rpartition(".")[2])
    return re.search(rf"^ *# .*\b{name}\b", text, re.MULTILINE) is not None


def test_the_example_is_free_of_problems_and_advice() -> None:
    loaded = load_with_advice(EXAMPLE, environ={})
    assert not loaded.advice
    assert not findings(EXAMPLE.read_text())


def test_the_schema_is_at_the_root_too() -> None:
    assert json.loads((ROOT / "config-schema.json").read_text()) == load_schema()


# --- the same values -----------------------------------------------------------------------------


def _file_with(path: str, value: str) -> str:
    """Return a configuration whose only key is *path*."""
    for part in reversed(re.findall(r"\[\]|[^.\[\]]+", path)):
        value = f"[{value}]" if part == "[]" else f"{{{'m' if part == '*' else part}: {value}}}"
    return value


def _refusals(path: str, value: str) -> list[str]:
    """Return what the loader says against *value* at *path* itself."""
    name = path.replace("*", "m").replace("[]", "[0]")
    try:
        loads(_file_with(path, value), environ={})
    except ConfigError as error:
        return [str(each) for each in error.problems if each.where.startswith(name)]
    return []


def _is_described(path: str, value: str) -> bool:
    data = yaml.safe_load(_file_with(path, value))
    return next(Draft202012Validator(load_schema()).iter_errors(data), None) is None


def test_what_the_loader_refuses_the_schema_does_not_describe() -> None:
    wrong = ["[[1]]", "{zz: {zz: 1}}", "zz zz", "-7.5"]
    refused = [(path, value) for path in USED for value in wrong if _refusals(path, value)]
    assert len(refused) > 200
    conditional = "routing.router.settings.matrix"
    assert not [
        (path, value)
        for path, value in refused
        if path != conditional and _is_described(path, value)
    ]


def test_what_the_schema_gives_as_an_example_the_loader_accepts() -> None:
    examples = [
        (path, json.dumps(value))
        for path, below in DESCRIBED.items()
        for value in below.get("examples", ())
    ]
    assert len(examples) > 8
    assert not [each for path, value in examples for each in _refusals(path, value)]


# --- advice --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: {m: {cmd: s, ttl: -7}}", "models.m.ttl: should be a whole number of at least -1"),
        ("models: {m: {ttl: 5}}", "models.m: usually has cmd"),
        ("models: {m: {cmd: s, env: [x]}}", "models.m.env[0]: should match"),
        ("models: {m: {cmd: ''}}", "models.m.cmd: should not be empty"),
        ("groups: {g: {}}", "groups.g: usually has members"),
        ("logLevel: loud", "logLevel: should be one of debug, info, warn, error or a macro"),
        ("startPort: 70000", "startPort: should be a whole number of at least 1 and at most"),
        ("apiKeys: x", "apiKeys: should be a list"),
        ("captureBuffer: -1", "captureBuffer: should be"),
    ],
)
def test_findings(text: str, words: str) -> None:
    assert [each.startswith(words) for each in findings(text)] == [True]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[1]",
        "models: ",
        "models: {m: {cmd: 's', ttl: '${T}', aliases: ~, name: 5}}",
        "unknown: 1",
        "macros: []",
        "x-own: [1]",
    ],
)
def test_nothing_to_say(text: str) -> None:
    assert not findings(text)


def test_what_was_said_is_not_said_again() -> None:
    report = Report()
    report.error(("startPort",), "is wrong")
    report.advise(("logLevel",), "is odd")
    report.suppress(("store",))
    advise_by_schema(
        compose("startPort: x\nlogLevel: x\nstore: {maxRows: x}", {}, Report()), report
    )
    assert len(report.advice) == 1


def test_findings_show_no_values() -> None:
    assert "s3cret" not in str(findings("apiKeys: [s3cret x, [s3cret]]\nlogLevel: s3cret"))
