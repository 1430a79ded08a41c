"""What goes on names one model for every reader: JSON, form or query, in whichever way."""

import io
import json
import re
from email import message_from_bytes
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import pytest
from werkzeug.formparser import parse_form_data

from llmsnap.errors import BadRequest
from llmsnap.http.auth import ClientKey
from llmsnap.proxy.payload import Payload, parse_request
from tests.drawn import cases
from tests.fakes.calls import make_request, runtime
from tests.proxy.fakes import sent, target

SCOPED = ClientKey("laptop", (re.compile("a"),), admin=False)
FORM = [("Content-Type", "multipart/form-data; boundary=XX")]
SNAPSHOT = runtime("models: {a: {cmd: x, proxy: 'http://localhost:1'}}")
TARGET = target()


def form(*parts: tuple[str, str]) -> bytes:
    return b"".join(
        f"--XX\r\n{head}\r\n\r\n{data}\r\n".encode() for head, data in [*parts, (FILE, "RIFF")]
    ) + (b"--XX--\r\n")


def part(parameters: str, more: str = "") -> str:
    return f"Content-Disposition: form-data; {parameters}{more}"


FILE = part('name="file"; filename="a.wav"')
MODEL = part('name="model"')


def means(name: str) -> bool:
    return name.partition("\0")[0].lower() == "model"


def in_json(body: bytes) -> list[str]:
    found: list[str] = []

    def pairs(members: list[tuple[str, Any]]) -> None:
        found[:] = [str(value) for name, value in members if means(name)]

    json.loads(body, object_pairs_hook=pairs)  # the outermost object comes last
    return found


def in_form(body: bytes, content_type: str) -> list[str]:
    environ = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": content_type,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BytesIO(body),
    }
    _, fields, files = parse_form_data(environ)
    found = [value for name, value in fields.items(multi=True) if means(name)]
    for name, file in files.items(multi=True):
        found += [file.read().decode()] if means(name) else []
        file.close()
    whole = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    for one in whole.get_payload():
        if means(str(one.get_param("name", header="content-disposition") or "")):
            found.append(one.get_payload().strip())
    return found


def in_query(path: str) -> list[str]:
    query = path.partition("?")[2]
    parts = parse_qsl(query) + parse_qsl(query.replace(";", "&"))
    return [value for name, value in parts if means(name)]


def readings(payload: Payload) -> list[str]:
    """Every model that some reader may find in what goes on."""
    body = sent(payload)
    payload.close()
    named = in_json(body) if body[:1] == b"{" else in_form(body, FORM[0][1]) if body else []
    return named + in_query(payload.path)


JSON_BODIES = [
    '{"model":"a"}',
    '{"model":"a","model":"b"}',
    '{"model":"a","Model":"b"}',
    '{"Model":"b","model":"a"}',
    '{"model":"a","\\u004dodel":"b"}',
    '{"mod\\u0065l":"a","Model":"b","model":"c"}',
    '{"model":"a","model\\u0000":"b","mOdEl":"c"}',
    '{ "x" : {"model":"b"} , "model" : "a" , "Model" : {"model":"b"} }',
    '{"Model":"b","model":"a","x":"\\ud83d"}',
]
QUERIES = """
    ?model=a ?model=b ?model=a&model=b ?model=b&model=a ?x=1&Model=b ?m%6Fdel=b&x=1 ?x=1;model=b
    ?model=b;model=c&model=a ?model ?model=
"""
FORMS = [
    [(MODEL, "a")],
    [(MODEL, "a"), (MODEL, "b")],
    [(MODEL, "a"), (part('name="Model"'), "b")],
    [(part('name="MODEL"'), "b"), (MODEL, "a")],
    [(part("name=model"), "a"), (part("name=model"), "b")],
    [(part('name="model"; filename="m"'), "b"), (MODEL, "a")],
    [(MODEL, "a"), (part('name="model"; filename="m"'), "b")],
    [(part('name="model"; filename="m"'), "a")],
    [(MODEL + "\r\nContent-Type: text/plain", "a"), (part("NAME=model"), "b")],
]


def readings_of(path: str, body: bytes = b"", key: ClientKey = SCOPED, **facts: Any) -> list[set]:
    """Every model that readers may find, as the client named it and as the server is asked."""
    found = []
    for name in ("", "up"):
        payload = parse_request(make_request(path, body or None, key=key, **facts), SNAPSHOT)
        assert payload.requested == "a"
        payload.adapt(TARGET, name)
        found.append(set(readings(payload)))
    return found


ONE_EACH = [{"a"}, {"up"}]


@pytest.mark.parametrize("query", ["", *QUERIES.split()])
def test_whatever_names_models_goes_on_with_one(query: str) -> None:
    for body in JSON_BODIES:
        for key in (SCOPED, ClientKey()):
            assert readings_of(f"/v1/embeddings{query}", body.encode(), key) == ONE_EACH, body
    for parts in FORMS:
        path = f"/v1/audio/transcriptions{query}"
        assert readings_of(path, form(*parts), ClientKey(), headers=FORM) == ONE_EACH, parts
    assert readings_of(f"/v1/audio/voices?model=a&{query[1:]}") == ONE_EACH


def test_the_query_names_the_model_where_the_json_does_not() -> None:
    for path in ("/infill?model=a", "/v1/embeddings?x=1&model=a&model=b"):
        for body in (b'{"input":1}', b'{"model":null}', b'{"model":"","Model":"b"}'):
            found = readings_of(path, body)
            assert [named - {"", "None"} for named in found] == ONE_EACH, (path, body)


def test_a_name_that_is_a_number_goes_on_as_a_text_where_it_is_rewritten() -> None:
    payload = parse_request(make_request("/infill", b'{"model":1e3}'), SNAPSHOT)
    assert payload.requested == "1000"
    payload.adapt(TARGET, "")
    assert payload.body == b'{"model":1e3}'
    payload.adapt(TARGET, "1000")
    assert payload.body == b'{"model":"1000"}'


def test_what_names_one_model_already_goes_on_byte_for_byte() -> None:
    for path, body, name in (
        ("/infill?x=1&m%6fdel=%61", b'{ "input" : 1e3 }', ""),
        ("/infill?y", b'{ "model" : "\\u0061" }', ""),
        ("/infill?y", b'{ "model" : "\\u0061" }', "a"),
    ):
        payload = parse_request(make_request(path, body), SNAPSHOT)
        payload.adapt(TARGET, name)
        assert (payload.body, payload.path) == (body, path)


IN_DOUBT = [
    part('name="x"') + "\r\n" + MODEL,
    MODEL + "\r\n" + part('name="x"'),
    part('name="model"; NAME="x"'),
    part("name=\"x\"; name*=utf-8''model"),
    part('name="x"; name*0="mod"; name*1="el"'),
    part('name="mo\\del"'),
    part('name="model"; filename="m"'),
    part('filename="a\\"; name="model"'),
    part('name="x", name="model"'),
    'Content-Disposition: attachment; name="model"',
    'Content-Disposition: form-data, form-data; name="model"',
    part(";".join(f"x{n}=1" for n in range(100)) + '; name="model"'),
]
BEYOND_DOUBT = [
    part('name="x"'),
    part('name="x"; filename="C:\\dir\\a.wav"'),
    part('name="x"; filename="a.wav"; filename*=UTF-8\'\'%C3%BC.wav'),
    part('name="x"; filename="a;b=c.wav" ; size=5'),
    part('name="\u00fc"; filename="\u00fc.wav"', "\r\nContent-Type: audio/wav"),
    part('name="x";'),
    'content-disposition:FORM-DATA;name="x"',
]


def test_a_form_in_doubt_is_refused_to_a_key_with_limits() -> None:
    for head in IN_DOUBT:
        for parts in ([(MODEL, "a"), (head, "b")], [(head, "b"), (MODEL, "a")]):
            asked = make_request("/v1/images/edits", form(*parts), headers=FORM, key=SCOPED)
            with pytest.raises(BadRequest, match="with a key limited to some models"):
                parse_request(asked, SNAPSHOT)
            asked = make_request("/v1/images/edits", form(*parts), headers=FORM)
            payload = parse_request(asked, SNAPSHOT)
            assert payload.requested in {"a", "b"}
            payload.close()


def test_what_clients_send_is_beyond_doubt() -> None:
    for head in BEYOND_DOUBT:
        body = form((head, "1"), (MODEL, "a"))
        asked = make_request("/v1/images/edits", body, headers=FORM, key=SCOPED)
        payload = parse_request(asked, SNAPSHOT)
        assert b"".join(payload.body()) == body
        payload.close()


def test_a_key_with_limits_sends_forms_to_routes_of_forms_and_reads_without_a_body() -> None:
    """A peer may look for JSON in what it takes, and read the body of a GET."""
    hidden = form((MODEL, "a"), (part('name="x"'), '{"model":"b"}'))
    with pytest.raises(BadRequest, match="takes JSON only"):
        parse_request(make_request("/v1/embeddings", hidden, headers=FORM, key=SCOPED), SNAPSHOT)
    asked = make_request("/v1/audio/voices?model=a", b'{"model":"b"}', method="GET", key=SCOPED)
    with pytest.raises(BadRequest, match="takes no body"):
        parse_request(asked, SNAPSHOT)


def test_json_that_came_as_url_encoded_goes_on_as_json() -> None:
    body = b'{"model":"a","x":"&model=b&"}'
    headers = [("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")]
    asked = make_request("/v1/audio/transcriptions", body, headers=headers)
    payload = parse_request(asked, SNAPSHOT)
    assert payload.drops == {"content-type"}
    assert payload.adds == (("Content-Type", "application/json"),)
    assert payload.body == body


NAMES = ["model", "Model", "mODEL", "x", "", "model\0", "models", "\u00fc"]


@cases(100)
def test_any_members_come_to_one_model(chance: Random) -> None:
    names = chance.choices(NAMES, k=chance.randrange(7))
    members = [(name, chance.choice("abc")) for name in names]
    pairs = (f"{json.dumps(name)}:{json.dumps(value)}" for name, value in members)
    query = "?" + "&".join(f"{name}={value}" for name, value in members)
    asked = make_request(
        f"/v1/embeddings{chance.choice((query, ''))}", f"{{{','.join(pairs)}}}".encode()
    )
    if first := next((value for name, value in members if name == "model"), ""):
        payload = parse_request(asked, SNAPSHOT)
        payload.adapt(TARGET, "")
        assert set(readings(payload)) == {first}
    else:
        with pytest.raises(BadRequest, match="missing or invalid `model`"):
            parse_request(asked, SNAPSHOT)
