import types

import pytest

from llmsnap.simulator.exchange import Refusal
from llmsnap.simulator.multipart import field, file, parse_form

HEAD = 'Content-Disposition: form-data; name="%s"'


def form(body, content_type="multipart/form-data; boundary=xx"):
    return types.SimpleNamespace(body=body, header=lambda name: content_type)


def body(*parts):
    return b"".join(b"--xx\r\n" + part + b"\r\n" for part in parts) + b"--xx--\r\n"


def plain(name, data):
    return (HEAD % name).encode() + b"\r\n\r\n" + data


def upload(name, filename, data, kind="audio/wav"):
    head = f'{HEAD % name}; filename="{filename}"\r\nContent-Type: {kind}\r\n\r\n'
    return head.encode() + data


def test_fields_and_files_in_their_order():
    parts = parse_form(form(body(plain("model", b"m"), upload("file", "a.wav", b"1234"))))
    assert [part.name for part in parts] == ["model", "file"]
    assert field(parts, "model") == "m"
    found = file(parts, "file")
    assert (found.filename, found.content_type, found.data) == ("a.wav", "audio/wav", b"1234")


@pytest.mark.parametrize("data", [b"", b"\r\n", b"a--xx", b"\0\r\n\r\n\xff", b"\r\n--x\r\n"])
def test_data_is_kept_as_it_is(data):
    parts = parse_form(form(body(upload("file", "a", data))))
    assert file(parts, "file").data == data


def test_a_quoted_boundary():
    quoted = 'multipart/form-data; boundary="xx"'
    assert field(parse_form(form(body(plain("a", b"1")), quoted)), "a") == "1"


def test_a_field_is_not_a_file_and_a_file_no_field():
    parts = parse_form(form(body(plain("file", b"text"))))
    with pytest.raises(Refusal, match="file is missing"):
        file(parts, "file")
    assert field(parse_form(form(body(upload("model", "m", b"x")))), "model") == ""


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
