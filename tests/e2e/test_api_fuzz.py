"""Whatever arrives, the answer is one that the OpenAPI document has, and it comes."""

import json
from urllib.parse import quote

import jsonschema
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmsnap.http.routes import ANY, FORM, JSON, ROUTES, HttpRoute, Parameter
from tests.e2e.harness import Running

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
maxRequestBody: 1
maxUpload: 1
apiKeys: [{{key: all, name: all}}, {{key: some, name: some, models: ["a*"], admin: false}}]
models:
  alpha: {{cmd: "{sim}", aliases: [a/b]}}
  sleeper:
    cmd: "{sim}"
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
  broken: {{cmd: "{sim} --exit-at-start 3"}}
groups:
  all: {{swap: false, members: [alpha, sleeper, broken]}}
peers:
  dead: {{proxy: "http://127.0.0.1:1", models: [remote]}}
"""
EXAMPLES = 10
LIMIT_S = 40

names = st.sampled_from(
    ["alpha", "a/b", "sleeper", "broken", "remote", "dead/remote", "nope", "", "/", "..", "ü", "%"]
) | st.text(max_size=20)
words = names | st.sampled_from(["0", "1", "-1", "true", "sse", "curl", "5xx", "1e999", "x" * 500])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
members = {
    "stream": st.booleans() | values,
    "messages": st.just([{"role": "user", "content": "hi"}]) | values,
    "input": st.just("hi") | values,
    "prompt": st.just("hi") | values,
    "max_tokens": st.just(3) | values,
}
json_bodies = st.fixed_dictionaries({"model": names | values}, optional=members).map(
    lambda document: json.dumps(document).encode()
) | st.binary(max_size=60)
some_headers = st.fixed_dictionaries(
    {"Authorization": st.sampled_from(["Bearer all", "Bearer all", "Bearer some", "Basic !", ""])},
    optional={
        "Accept": st.sampled_from(["text/html", "text/event-stream", "application/json", "q=;,"]),
        "Accept-Encoding": st.sampled_from(["gzip", "br", "identity", ""]),
        "X-Max-Wait": st.sampled_from(["5", "0", "0.1", "nan", "x"]),
        "X-Swap": st.sampled_from(["never", "x"]),
        "X-Request-Id": st.sampled_from(["mine", "a b", "x" * 200]),
        "Origin": st.sampled_from(["https://page.example", "null", "x"]),
        "Sec-Fetch-Site": st.sampled_from(["cross-site", "same-origin"]),
        "Content-Encoding": st.sampled_from(["gzip", "br", "identity"]),
        "Last-Event-ID": st.sampled_from(["1", "x", "-5", "9" * 30]),
        "X-Forwarded-For": st.sampled_from(["1.2.3.4", ",,"]),
    },
)


def value_of(parameter: Parameter) -> st.SearchStrategy[str]:
    if parameter.choices:
        return st.sampled_from(parameter.choices) | words
    return st.integers().map(str) | words if parameter.kind == "integer" else words


@st.composite
def requests_for(draw: st.DrawFn, operation: HttpRoute, method: str) -> requests.Request:
    path, query, headers = operation.path, {}, draw(some_headers)
    for one in operation.parameters:
        if one.place == "path":
            piece = draw(value_of(one).filter(lambda text: text.strip("/.")))
            path = path.replace(f"{{{one.name}}}", quote(piece, safe="/"))
        elif one.place == "query" and (one.required or draw(st.booleans())):
            query[one.name] = draw(value_of(one))
    request = requests.Request(method, path, params=query, headers=headers)
    if operation.sends == JSON:
        request.data = draw(json_bodies)
    elif operation.sends == FORM and draw(st.booleans()):
        request.files = {"file": ("a.wav", b"x" * 9), "model": (None, draw(names))}
    elif operation.sends in (FORM, ANY):
        request.data = draw(st.binary(max_size=60))
        headers["Content-Type"] = draw(st.sampled_from([FORM, f"{FORM}; boundary=b", JSON, "x"]))
    return request


@pytest.fixture(scope="module")
def document(server: Running) -> dict:
    headers = {"Authorization": "Bearer some"}
    return server.get("/api/openapi.json", headers=headers).json()


OPERATIONS = {f"{method} {row.path}": (row, method) for row in ROUTES for method in row.methods}


@pytest.mark.parametrize(("operation", "method"), OPERATIONS.values(), ids=OPERATIONS)
def test_whatever_is_sent_the_answer_is_a_documented_one(
    server: Running, document: dict, operation: HttpRoute, method: str
) -> None:
    described = document["paths"][operation.path][method.lower()]["responses"]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(requests_for(operation, method))
    def check(request: requests.Request) -> None:
        request.url = server.url + request.url
        with requests.Session() as session:
            session.trust_env = False
            sent = request.prepare()
            with session.send(sent, timeout=LIMIT_S, stream=True, allow_redirects=False) as answer:
                assert_documented(answer, operation, described, document)

    check()
    assert "Traceback" not in server.output, server.output
    assert server.get("/health").text == "OK"


def assert_documented(answer, operation: HttpRoute, described: dict, document: dict) -> None:
    status = str(answer.status_code)
    assert status != "500", answer.text
    assert answer.headers["X-Request-Id"]
    # A name may lead the path elsewhere, and then there is nothing.
    strayed = "{" in operation.path and status in {"301", "302", "308", "404"}
    assert status in described or "default" in described or strayed, answer.text
    if "event-stream" in answer.headers.get("Content-Type", "") or "/logs/" in answer.url:
        return  # without end
    if not answer.headers.get("Content-Type", "").startswith(JSON):
        answer.content  # noqa: B018 - reads to the end
        return
    media = described.get(status, {}).get("content", {}).get(JSON)
    found = answer.json()
    if media is not None and not (operation.passes and status != "200"):
        jsonschema.validate(found, {**media["schema"], "components": document["components"]})
