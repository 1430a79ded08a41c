"""The route table: what it says, what is derived from it, and that nothing else says it again."""

import json
import re
from pathlib import Path

import pytest

from llmsnap.http import lookup
from llmsnap.http.lookup import RESOURCES
from llmsnap.http.routes import GROUPS, ROUTES, Access, Dialect, Stream
from llmsnap.simulator.app import ROUTES as SIMULATED
from llmsnap.web.app import create_app
from llmsnap.web.openapi import WHY, document
from scripts.docs import generated

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs/api.md").read_text()

ROWS = {f"{method} {row.path}": row for row in ROUTES for method in row.methods}


# --- the rows -----------------------------------------------------------------------------------


def test_a_method_of_a_path_has_one_row() -> None:
    assert len(ROWS) == sum(len(row.methods) for row in ROUTES)


def test_a_row_names_what_its_path_has() -> None:
    for name, row in ROWS.items():
        in_path = [one.name for one in row.parameters if one.place == "path"]
        assert in_path == re.findall(r"\{(\w+)\}", row.path), name
        assert all(one.required for one in row.parameters if one.place == "path"), name
        assert row.summary.endswith("."), name
        assert not row.note or row.note.endswith("."), name


def test_the_rows_of_a_path_agree_on_what_is_asked_by_path_alone() -> None:
    for resource in RESOURCES.values():
        said = {
            (row.tag, row.access, row.dialect, row.stream, row.capture, row.sent_as, row.observes)
            for row in resource.routes.values()
        }
        assert len(said) == 1, resource.path


def test_what_acts_needs_an_admin_or_is_inference_or_goes_to_a_models_server() -> None:
    for name, row in ROWS.items():
        acts = row.acts or not name.startswith("GET")
        if acts and not row.is_inference and row.tag != "upstream" and row.path != "/session":
            assert row.access is Access.ADMIN, name


# --- who serves them ----------------------------------------------------------------------------


def shape(path: str) -> str:
    """A path whose parameters have no names, whichever way they are written."""
    return re.sub(r"<[^>]*>|\{[^}]*\}", "{}", path)


def test_flask_has_a_view_for_each_row_that_nothing_in_front_of_it_serves() -> None:
    rules = create_app(lambda: pytest.fail("nothing is asked")).url_map.iter_rules()
    flask = {
        (method, shape(rule.rule))
        for rule in rules
        for method in rule.methods - {"HEAD", "OPTIONS"}
    }
    in_front = {"/upstream/{model}/{path}", "/comfyui/{path}"} | lookup.OPEN_PATHS
    views = {
        (method, shape(row.path))
        for row in ROUTES
        for method in row.methods
        if (not row.is_inference or row.optional) and row.path not in in_front
    }
    assert flask == views


def test_the_simulator_answers_each_route_of_inference_and_marks_no_other_as_one() -> None:
    marked = [route for route in SIMULATED if route.inference]
    simulated = {(method, route.path) for route in marked for method in route.methods}
    table = {
        (method, resource.path)
        for resource in RESOURCES.values()
        for method in resource.routes
        if resource.common.is_inference and resource.sent_path == resource.path
    }
    assert simulated - {("HEAD", path) for _, path in simulated} == {
        (method, path) for method, path in table if "{" not in path and method != "HEAD"
    }


# --- what is described --------------------------------------------------------------------------


def test_the_tables_of_the_page_are_those_that_are_generated() -> None:
    assert generated(PAGE) == PAGE, "run make docs"
    parts = re.findall(r"<!-- routes: (\w+) -->", PAGE)
    assert parts == list(GROUPS)


def test_the_page_explains_every_status_a_route_may_answer() -> None:
    explained = {int(status) for status in re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)}
    of_their_own = {422}  # told where it occurs
    assert set(WHY) - of_their_own <= explained


def test_an_example_is_json() -> None:
    examples = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert all(map(json.loads, examples))


def test_every_schema_that_is_named_exists_and_is_used() -> None:
    named = re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document()))
    assert set(named) == set(document()["components"]["schemas"])


def test_the_document_says_what_needs_no_key_and_what_needs_an_admins() -> None:
    paths = document()["paths"]
    free = [path for path in paths if "security" in paths[path].get("get", {})]
    page = ["/", "/favicon.ico", "/ui", "/ui/static/{version}/{name}", "/ui/{page}"]
    assert sorted(free) == sorted(["/health", "/ready", "/wol-health", "/session", *page])
    assert paths["/api/captures/{id}"]["get"]["x-needs-admin"]
    assert "x-needs-admin" not in paths["/v1/chat/completions"]["post"]
    assert "x-needs-admin" not in paths["/v/{route}"]["post"]


# --- what follows from them ---------------------------------------------------------------------


ANSWERED = """
    /v1/chat/completions /v/chat/completions /v1/images/edits /v1/audio/voices /v1/realtime
    /sdapi/v1/loras /infill
"""
OPEN = "/health /ready /wol-health"
OTHERS = """
    /v/infill /v/{route} /v/nothing /v1/models /v1/chat/completions/ / /ui/ /metrics /health/x
    /upstream/llama/v1/chat/completions
"""


def test_which_paths_a_model_answers_and_which_are_open_to_all() -> None:
    paths = f"{ANSWERED} {OPEN} {OTHERS}".split()
    assert [path for path in paths if lookup.is_inference(path)] == ANSWERED.split()
    assert [path for path in paths if lookup.is_open(path)] == OPEN.split()
    assert not any(lookup.needs_admin("GET", path) for path in OPEN.split())


ADMINS = """
    GET /unload, GET /unload/, POST /api/models/unload, POST /api/models/sleep/llama,
    POST /api/models/load/llama, POST /api/reload, DELETE /running, POST /nothing, GET /logs,
    GET /logs/stream/llama, GET /logs/stream/author/llama, GET /logs/nothing, GET /api/captures/3,
    GET /api/config, GET /api/events, POST /api/version, GET /api/metrics,
    POST /upstream/llama/sleep, GET /upstream/author/llama/wake_up,
    POST /upstream/llama/x/../collective_rpc, POST /upstream/llama//reset_prefix_cache/,
    POST /upstream/llama/%73leep
"""
ANYONES = """
    GET /nothing, GET /api/version, HEAD /api/version, GET /api/openapi.json, GET /apis,
    GET /running, GET /ui/, POST /v1/chat/completions, POST /v/chat/completions, GET /v1/models,
    GET /v/models, GET /v1/models/author/llama, POST /upstream/llama/v1/chat/completions,
    GET /upstream/llama/is_sleeping
"""


def test_what_needs_an_admins_key() -> None:
    for asked, admin in ((ADMINS, True), (ANYONES, False)):
        for one in asked.split(","):
            assert lookup.needs_admin(*one.split()) is admin, one


OF_PATHS = {
    "/v1/chat/completions": (Stream.CHAT, Dialect.OPENAI),
    "/v/chat/completions": (Stream.CHAT, Dialect.OPENAI),
    "/v1/messages": (Stream.MESSAGE, Dialect.ANTHROPIC),
    "/v/messages": (Stream.MESSAGE, Dialect.ANTHROPIC),
    "/upstream/a/v1/messages": (None, Dialect.ANTHROPIC),
    "/v1/messagesque": (None, Dialect.OPENAI),
    "/v1/responses": (Stream.RESPONSE, Dialect.RESPONSES),
    "/v1/messages/count_tokens": (None, Dialect.ANTHROPIC),
    "/infill": (Stream.LLAMA, Dialect.OPENAI),
    "/v1/embeddings": (None, Dialect.OPENAI),
    "/nothing": (None, Dialect.OPENAI),
}


def test_the_events_and_the_dialect_of_a_path() -> None:
    found = {path: (lookup.stream_of(path), lookup.dialect_of(path)) for path in OF_PATHS}
    assert found == OF_PATHS
