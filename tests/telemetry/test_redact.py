import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsnap.http.secrets import REDACTED
from llmsnap.telemetry.captures import Redactor, redact_headers


def test_headers_keep_their_first_value_without_secrets():
    headers = [("Accept", "a"), ("Accept", "b"), ("AUTHORIZATION", "Bearer sk-1"), ("Cookie", "c")]
    assert redact_headers(headers) == {
        "Accept": "a",
        "AUTHORIZATION": REDACTED,
        "Cookie": REDACTED,
    }


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", "/v1/x"),
        ("a=1&key=sk-1&b=2", f"/v1/x?a=1&key={REDACTED}&b=2"),
        ("api%5Fkey=sk-1", f"/v1/x?api%5Fkey={REDACTED}"),
        ("tenant=t1&flag", f"/v1/x?tenant={REDACTED}&flag"),
        ("key", "/v1/x?key"),
    ],
)
def test_query_parameters(query, shown):
    assert Redactor(["Tenant"]).path("/v1/x", query) == shown


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"ssn": "123", "a": 1}, {"ssn": REDACTED, "a": 1}),
        ({"SSN": 123}, {"SSN": REDACTED}),
        ({"a": [{"ssn": {"deep": [1, {"ssn": 2}]}, "b": 2}]}, {"a": [{"ssn": REDACTED, "b": 2}]}),
        ({"ssn": 'with "quotes\\" and }'}, {"ssn": REDACTED}),
        ({"text": "the ssn of"}, {"text": "the ssn of"}),
        ({"other_ssn": 1}, {"other_ssn": 1}),
    ],
)
def test_json_fields(body, shown):
    redacted = Redactor(["ssn"]).body(json.dumps(body).encode())
    assert json.loads(redacted) == shown


def test_fields_inside_the_arguments_of_a_tool_call():
    arguments = json.dumps({"ssn": 'a "b" c', "pin": 1234, "city": "Ulm"})
    body = json.dumps({"function": {"arguments": arguments}}).encode()
    redacted = Redactor(["ssn", "pin"]).body(body)
    assert json.loads(json.loads(redacted)["function"]["arguments"]) == {
        "ssn": REDACTED,
        "pin": REDACTED,
        "city": "Ulm",
    }


def test_streams_and_cut_bodies():
    redactor = Redactor(["ssn"])
    stream = b'data: {"ssn": "1"}\n\ndata: {"ssn": "2", "x": 3}\n\n'
    assert redactor.body(stream) == (
        b'data: {"ssn": "[REDACTED]"}\n\ndata: {"ssn": "[REDACTED]", "x": 3}\n\n'
    )
    assert b"secret" not in redactor.body(b'{"ssn": "secret beginning of a cut')


def test_without_configured_names_bodies_are_not_touched():
    body = b'{"ssn": 1}'
    assert Redactor().body(body) is body
    assert not Redactor().active


@given(st.binary(max_size=100))
def test_bytes_that_are_no_text_survive(data):
    assert Redactor(["not-there"]).body(data) == data
