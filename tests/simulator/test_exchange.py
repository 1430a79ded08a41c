import io
import json
import types

import pytest

from llmsnap.simulator import exchange
from llmsnap.simulator.exchange import Refusal, Request


def make(body=b"", query="", **environ):
    return Request(
        {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": "/x",
            "QUERY_STRING": query,
            "sim.target": f"/x?{query}",
            "sim.headers": [("X-Test", "one"), ("x-test", "two")],
            "sim.socket": types.SimpleNamespace(),
            "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": True,
            **environ,
        }
    )


def test_headers_are_found_in_any_case():
    assert make().header("x-TEST") == "one"
    assert make().header("absent", "default") == "default"


def test_the_path_is_utf_8():
    assert make(PATH_INFO="/ü".encode().decode("latin-1")).path == "/ü"


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff"])
def test_a_body_that_is_no_json_object_is_refused(body):
    with pytest.raises(Refusal) as refused:
        make(body).json  # noqa: B018 - the access is what is tested
    assert refused.value.status == 400


def test_the_query_wins_over_the_body():
    assert make(b'{"sim_tokens": 1}', "sim_tokens=2").number("sim_tokens") == 2


def test_the_query_counts_without_a_json_body():
    assert make(b"no json", "sim_tokens=2").number("sim_tokens") == 2


def test_what_is_absent_or_null_has_its_default():
    assert make(b'{"a": null}').number("a", 3) == 3
    assert make(b'{"a": null}').text("a", "x") == "x"


@pytest.mark.parametrize("value", ["x", "-1", "nan", "inf", ""])
def test_a_bad_number_is_refused(value):
    with pytest.raises(Refusal, match="sim_tps"):
        make(query=f"sim_tps={value}").number("sim_tps")


@pytest.mark.parametrize(
    ("value", "is_set"),
    [("1", True), ("true", True), ("", False), ("0", False), ("False", False), ("none", False)],
)
def test_flags(value, is_set):
    assert make(query=f"stream={value}").flag("stream") is is_set


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2", 2), ("1.5", 1.5), ("100ms", 0.1), ("3s", 3), ("2m", 120), ("50us", 0.00005)],
)
def test_durations(text, seconds):
    assert make(query=f"wait={text}").seconds("wait") == pytest.approx(seconds)


def test_a_bad_duration_is_refused():
    with pytest.raises(Refusal, match="wait"):
        make(query="wait=soon").seconds("wait")


def test_a_description_tells_what_arrived_and_limits_the_body():
    told = make(b"12345", "a=1").describe(body_limit=2)
    assert told["target"] == "/x?a=1"
    assert told["headers"] == [["X-Test", "one"], ["x-test", "two"]]
    assert (told["body"], told["body_bytes"]) == ("12", 5)


def test_of_an_upgrade_only_the_announced_body_is_read():
    request = make(b"abrest", **{"wsgi.input_terminated": False, "CONTENT_LENGTH": "2"})
    assert request.body == b"ab"
    assert request.stream.read() == b"rest"


def test_answers_of_known_length_say_so():
    response = exchange.json_response({"ä": 1}, 201)
    assert response.status == 201
    assert ("Content-Length", str(len(b"".join(response.body)))) in response.headers
    assert exchange.text_response("hi").body == [b"hi"]


def test_text_that_is_no_unicode_can_be_answered():
    assert exchange.dump("\ud800") == b'"?"'


def test_an_event_has_a_name_if_given_one():
    assert exchange.sse({"a": 1}) == b'data: {"a":1}\n\n'
    assert exchange.sse({"a": 1}, "ping") == b'event: ping\ndata: {"a":1}\n\n'


def test_what_is_not_an_object_counts_as_empty():
    assert exchange.mapping(json.loads("[]")) == {}
    assert exchange.mappings([1, {"a": 1}]) == [{"a": 1}]
    assert exchange.mappings("text") == []
