"""Facts about llmsnap.web.openapi and the operations it is made of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from llmsnap.http.paths import FORM_ROUTES, JSON_ROUTES, OPEN_PATHS, QUERY_ROUTES
from llmsnap.web.app import create_app
from llmsnap.web.openapi import document
from llmsnap.web.operations import OPERATIONS, Operation

# What the gateway serves past Flask, beyond the routes of inference.
PAST_FLASK = {(method, "/upstream/{}/{}") for method in ("get", "post", "put", "patch", "delete")}
PAST_FLASK |= {("get", "/v/{}"), ("post", "/v/{}")}
PAST_FLASK |= {("get", path) for path in OPEN_PATHS}


def shape(path: str) -> str:
    """A path whose parameters have no names, whichever way they are written."""
    return re.sub(r"<[^>]*>|\{[^}]*\}", "{}", path)


def served() -> set[tuple[str, str]]:
    rules = create_app(lambda: pytest.fail("nothing is asked")).url_map.iter_rules()
    flask = {
        (method.lower(), shape(rule.rule))
        for rule in rules
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    posts = {("post", path) for path in JSON_ROUTES | FORM_ROUTES}
    return flask | posts | {("get", path) for path in QUERY_ROUTES} | PAST_FLASK


def test_the_document_has_every_route_and_no_other() -> None:
    described = [(one.method, shape(one.path)) for one in OPERATIONS]
    assert sorted(described) == sorted(served())


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: f"{one.method} {one.path}")
def test_an_operation_names_what_its_path_has(operation: Operation) -> None:
    in_path = [one.name for one in operation.parameters if one.place == "path"]
    assert in_path == re.findall(r"\{(\w+)\}", operation.path)
    assert all(one.required for one in operation.parameters if one.place == "path")
    assert operation.about.endswith(".")


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_schema_that_is_named_exists_and_is_used() -> None:
    named = set(references(document()))
    assert named == {f"#/components/schemas/{name}" for name in document()["components"]["schemas"]}


def test_what_needs_no_key_and_what_needs_an_admins() -> None:
    paths = document()["paths"]
    free = [path for path in paths if "security" in paths[path].get("get", {})]
    assert sorted(free) == ["/health", "/ready", "/wol-health"]
    assert paths["/api/captures/{id}"]["get"]["x-needs-admin"]
    assert "x-needs-admin" not in paths["/v1/chat/completions"]["post"]
