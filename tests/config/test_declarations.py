"""One declaration per key: what derives from it, and what the schema says."""

import json
import re
from pathlib import Path

from jsonschema import Draft202012Validator

from llmsnap.config.keys import ConfigKey
from llmsnap.config.kinds import Unsupported
from llmsnap.config.loader import load_with_advice, loads
from llmsnap.config.nodes import Mapping, Node, Report, Sequence
from llmsnap.config.schema import advise_by_schema, all_keys, json_schema
from llmsnap.config.yaml import compose
from llmsnap.errors import ConfigError
from scripts import reference

ROOT = Path(__file__).parents[2]
EXAMPLE = reference.EXAMPLE

KEYS: dict[str, ConfigKey] = dict(all_keys())
SCHEMA = Draft202012Validator(json_schema())
USED = {path: key for path, key in KEYS.items() if not isinstance(key.kind, Unsupported)}


def test_a_path_leads_to_one_key() -> None:
    paths = [path for path, _ in all_keys()]
    assert len(paths) == len(set(paths)) > 100
    assert {"models.*.sleepEndpoints[].timeout", "apiKeys[].key"} <= set(paths)


def findings(text: str) -> list[str]:
    report = Report()
    advise_by_schema(compose(text, {}, report), report)
    return [str(each).partition(" - ")[0] for each in report.advice]


def test_the_example_has_every_key() -> None:
    tree = load_with_advice(EXAMPLE, environ={}).tree
    text = EXAMPLE.read_text()
    lacking = [path for path in USED if not _stands_in(tree, path)]
    left_out = ("routing.router.settings.", "logRequests", "hooks.onStartup")
    assert {
        path
        for path in lacking
        if not _is_set_in_a_comment(text, path) and not path.startswith(left_out)
    } == {"models.*.filters.strip_params"}


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


def _is_set_in_a_comment(text: str, path: str) -> bool:
    name = re.escape(path.rpartition(".")[2])
    return re.search(rf"^ *# [ -]*{name}:", text, re.MULTILINE) is not None


def test_the_example_is_free_of_problems_and_advice() -> None:
    loaded = load_with_advice(EXAMPLE, environ={})
    assert not loaded.advice
    assert not findings(EXAMPLE.read_text())


def test_what_is_published_is_what_the_declarations_give() -> None:
    """Run `make docs` after a change."""
    for path in (reference.SCHEMA, ROOT / "config-schema.json"):
        assert path.read_text(encoding="utf-8") == reference.schema()
    assert reference.DOCUMENT.read_text(encoding="utf-8") == reference.document()
    assert reference.EXAMPLE.read_text(encoding="utf-8") == reference.example()


def _file_with(path: str, value: object) -> object:
    """Return a configuration whose only key is *path*."""
    for part in reversed(re.findall(r"\[\]|[^.\[\]]+", path)):
        value = [value] if part == "[]" else {"m" if part == "*" else part: value}
    return value


def _refusals(path: str, value: object) -> list[str]:
    """Return what the loader says against *value* at *path* itself."""
    name = path.replace("*", "m").replace("[]", "[0]")
    try:
        loads(json.dumps(_file_with(path, value)), environ={})
    except ConfigError as error:
        return [str(each) for each in error.problems if each.where.startswith(name)]
    return []


def test_what_the_loader_refuses_the_schema_does_not_describe() -> None:
    Draft202012Validator.check_schema(json_schema())
    wrong = [[[1]], {"zz": {"zz": 1}}, "zz zz", -7.5]
    refused = [(path, value) for path in USED for value in wrong if _refusals(path, value)]
    assert len(refused) > 200
    conditional = {
        "routing.router.settings.matrix",
        "hooks.on_startup.profile",  # names another part of the file
        "hooks.onStartup.profile",
    }
    assert not [
        (path, value)
        for path, value in refused
        if path not in conditional and SCHEMA.is_valid(_file_with(path, value))
    ]


NAMING = (
    *(".priority", ".pins", ".profile"),
    *(".vars", ".evict_costs", ".sets", ".matrix", ".targets"),
)
"""Keys whose values name something else in the file."""


def test_what_the_schema_gives_as_an_example_the_loader_accepts() -> None:
    examples = [
        (path, value)
        for path, key in USED.items()
        for value in key.schema.get("examples", [key.example])
        if value is not None
        and "${" not in json.dumps(value)  # needs a macro
        and not path.endswith(NAMING)
    ]
    assert len(examples) > 8
    assert not [each for path, value in examples for each in _refusals(path, value)]


FINDINGS = {
    "models: {m: {cmd: s, ttl: -7}}": "models.m.ttl: should be a whole number of at least -1",
    "models: {m: {ttl: 5}}": "models.m: should be a mapping with cmd or a mapping with proxy",
    "models: {m: {cmd: s, env: [x]}}": "models.m.env[0]: should match",
    "models: {m: {cmd: ''}}": "models.m.cmd: should not be empty",
    "groups: {g: {}}": "groups.g: usually has members",
    "logLevel: loud": "logLevel: should be one of debug, info, warn, error or a macro",
    "startPort: 70000": "startPort: should be a whole number of at least 1 and at most",
    "captureBuffer: -1": "captureBuffer: should be",
}


def test_findings() -> None:
    found = {text: [each[: len(FINDINGS[text])] for each in findings(text)] for text in FINDINGS}
    assert found == {text: [words] for text, words in FINDINGS.items()}
    model = "models: {m: {cmd: 's', ttl: '${T}', aliases: ~, name: 5}}"
    fine = ("", "[1]", "models: ", model, "unknown: 1", "macros: []", "x-own: [1]")
    assert [text for text in fine if findings(text)] == []


def test_what_was_said_is_not_said_again_and_findings_show_no_values() -> None:
    report = Report()
    report.error(("startPort",), "is wrong")
    report.advise(("logLevel",), "is odd")
    report.suppress(("store",))
    tree = compose("startPort: x\nlogLevel: x\nstore: {maxRows: x}", {}, Report())
    advise_by_schema(tree, report)
    assert len(report.advice) == 1
    assert "s3cret" not in str(findings("apiKeys: [s3cret x, [s3cret]]\nlogLevel: s3cret"))
