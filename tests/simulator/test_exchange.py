"""Requests and responses of the simulator: parsing, forms, content codings, clients that leave."""

import io
import types
import zlib

import gevent
import pytest

from llmsnap.simulator import exchange
from llmsnap.simulator.exchange import (
    ClientLeft,
    ClientSocket,
    Refusal,
    SimRequest,
    form_field,
    form_file,
    parse_form,
)


def make(body=b"", query="", **environ):
    return SimRequest(
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


def test_headers_are_found_in_any_case_and_the_path_is_utf_8():
    request = make(PATH_INFO="/ü".encode().decode("latin-1"))
    assert request.header("x-TEST") == "one"
    assert request.header("absent", "default") == "default"
    assert request.path == "/ü"


def test_what_a_request_asks_for_is_read():
    assert make(b'{"a": 1}', "a=2").number("a") == 2, "the query wins"
    assert make(b"no json", "a=2").number("a") == 2
    assert make(b'{"a": null}').number("a", 3) == 3
    assert make(b'{"a": null}').text("a", "x") == "x"
    flags = {"1": True, "true": True, "": False, "0": False, "False": False}
    assert {value: make(query=f"a={value}").flag("a") for value in flags} == flags
    seconds = {"1.5": 1.5, "100ms": 0.1, "2m": 120, "50us": 0.00005}
    found = {text: make(query=f"a={text}").seconds("a") for text in seconds}
    assert found == pytest.approx(seconds)


def test_a_body_that_is_no_json_object_and_a_bad_number_are_refused():
    bad_bodies = [(make(body), "json") for body in (b"", b"{", b"[1]", b"\xff")]
    bad_numbers = [(make(query=f"a={value}"), "") for value in ("x", "-1", "nan", "inf", "")]
    for request, kind in bad_bodies + bad_numbers:
        with pytest.raises(Refusal) as refused:
            _ = request.json if kind else request.number("a")
        assert refused.value.status == 400


def test_of_an_upgrade_only_the_announced_body_is_read():
    request = make(b"abrest", **{"wsgi.input_terminated": False, "CONTENT_LENGTH": "2"})
    assert request.body == b"ab"
    assert request.stream.read() == b"rest"
    assert request.describe(body_limit=1)["body"] == "a"


def test_responses_are_bytes_of_known_length():
    response = exchange.json_response({"ä": "\ud800"}, 201)
    assert (response.status, b"".join(response.body)) == (201, '{"ä":"?"}'.encode())
    assert ("Content-Length", "10") in response.headers


def test_a_wait_ends_when_the_client_leaves_or_has_left(pair):
    near, far = pair
    gevent.Greenlet(far.close).start()  # which runs as soon as this one waits
    for _ in range(2):
        with pytest.raises(ClientLeft):
            ClientSocket(near).wait(3600)
    with pytest.raises(ClientLeft):
        ClientSocket(near).wait_forever()


def test_a_wait_ends_in_time_also_when_a_next_request_came_on_the_connection(pair):
    near, far = pair
    for sent in (b"", b"GET / HTTP/1.1"):
        far.sendall(sent)
        ClientSocket(near).wait(0.001)
        ClientSocket(near).wait(0)
    assert near.recv(3) == b"GET"


def test_hanging_up_ends_the_connection_for_the_client_once(pair):
    near, far = pair
    client = ClientSocket(near)
    client.hang_up()
    assert far.recv(1) == b""
    far.close()
    client.hang_up()


PATH = "/v1/completions"
PROMPT = {"prompt": "hello"}


@pytest.mark.parametrize(
    ("asked", "named", "window_bits"),
    [("gzip", "gzip", 31), ("deflate", "deflate", 15), ("raw-deflate", "deflate", -15)],
)
@pytest.mark.parametrize("stream", [0, 1])
def test_answers_can_be_compressed(sim, asked, named, window_bits, stream):
    answer = sim.post(f"{PATH}?sim_encoding={asked}&stream={stream}", PROMPT)
    assert answer.headers["Content-Encoding"] == named
    assert b'"choices"' in zlib.decompress(answer.body, window_bits)
    assert ("Content-Length" in answer.headers) is not stream


def test_each_chunk_of_a_compressed_answer_can_be_read_as_it_comes(sim):
    connection = sim.connect()
    connection.request("GET", "/slow-respond?echo=ab&delay=1ms&sim_encoding=gzip")
    reader = zlib.decompressobj(31)
    response = connection.getresponse()
    text = b""
    while not text:
        text += reader.decompress(response.read1())
    assert text in {b"a", b"ab"}
    connection.close()


HEAD = 'Content-Disposition: form-data; name="%s"'


def form(body, content_type="multipart/form-data; boundary=xx"):
    return types.SimpleNamespace(body=body, header=lambda name: content_type)


def body(*parts):
    return b"".join(b"--xx\r\n" + part + b"\r\n" for part in parts) + b"--xx--\r\n"


def plain(name, data):
    return (HEAD % name).encode() + b"\r\n\r\n" + data


def upload(name, filename, data):
    head = f'{HEAD % name}; filename="{filename}"\r\nContent-Type: audio/wav\r\n\r\n'
    return head.encode() + data


def test_data_is_kept_as_it_is():
    for data in (b"", b"\r\n", b"a--xx", b"\0\r\n\r\n\xff", b"\r\n--x\r\n"):
        parts = parse_form(form(body(upload("file", "a", data))))
        assert form_file(parts, "file").data == data


def test_a_field_is_not_a_file_and_a_file_no_field():
    parts = parse_form(form(body(plain("file", b"text"))))
    with pytest.raises(Refusal, match="file is missing"):
        form_file(parts, "file")
    assert form_field(parse_form(form(body(upload("model", "m", b"x")))), "model") == ""


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (body(plain("a", b"1")), "application/json"),
        (body(plain("a", b"1")), "multipart/form-data"),
        (body(plain("a", b"1"))[:-6], "multipart/form-data; boundary=xx"),
        (b"", "multipart/form-data; boundary=xx"),
        (body(b"no headers"), "multipart/form-data; boundary=xx"),
    ],
)
def test_what_is_no_form_is_refused(data, content_type):
    with pytest.raises(Refusal) as refused:
        parse_form(form(data, content_type))
    assert refused.value.status == 400
