import io
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, nullcontext
from random import Random
from typing import Any

import pytest

from llmsnap.errors import BadRequest, LlmsnapError, TooLarge
from llmsnap.proxy import multipart
from llmsnap.proxy.multipart import Upload, receive
from tests.drawn import cases

FORM = "multipart/form-data; boundary=XX"


def field(name: str, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    head = b'--XX\r\nContent-Disposition: form-data; name="%s"\r\n\r\n' % name.encode()
    return head + data + b"\r\n"


def upload_file(name: str, data: bytes) -> bytes:
    head = b'Content-Disposition: form-data; name="%s"; filename="a.wav"' % name.encode()
    return b"--XX\r\n%s\r\nContent-Type: audio/wav\r\nX-Note: 1\r\n\r\n%s\r\n" % (head, data)


END = b"--XX--\r\n"
LIKE_BOUNDARIES = b"\r\n--XX." * 200 + b"x" * 70_000
MODEL = field("model", "whisper")
FILE = upload_file("file", b"RIFF\r\n--X\r\n--XY\x00\xff")


def reader(body: bytes, piece: int = 1 << 20) -> Callable[[int], bytes]:
    stream = io.BytesIO(body)
    return lambda n: stream.read(min(n, piece))


Taken = Callable[..., Upload]


@pytest.fixture
def taken() -> Iterator[Taken]:
    """Receives a body; the upload is closed with the test."""
    with ExitStack() as stack:
        yield lambda body, piece=1 << 20, **options: stack.enter_context(
            closing(receive(reader(body, piece), FORM, **options))
        )


def sent(upload: Upload) -> bytes:
    body = b"".join(upload.chunks())
    assert upload.content_length == len(body)
    return body


RENAMED = b'--XX\r\nContent-Disposition: form-data; name="n%22w"\r\n\r\n\xc3\xbc\r\n'


EDITED = [
    (
        MODEL + field("t", "1") + FILE + field("lang", "en") + field("t", "2"),
        {"model": "up", "t": None, "lang": "de", "absent": None, 'n"w': "ü"},
        field("model", "up") + FILE + field("lang", "de") + RENAMED,
    ),
    (MODEL + field("t", "1") + field("t", "2"), {"t": "3"}, MODEL + field("t", "3")),
    (MODEL + FILE + field("model", "other"), {}, MODEL + FILE),
    (FILE + upload_file("model", b"whisper"), {}, FILE + MODEL),
    (FILE + upload_file("model", b"whisper"), {"model": "up"}, FILE + field("model", "up")),
    (MODEL + FILE, {"file": None}, MODEL + FILE),
    (b"preamble\r\n" + MODEL, {}, MODEL),
]


def test_what_goes_on_after_edits(taken: Taken) -> None:
    for body, edits, expected in EDITED:
        upload = taken(body + END + b"epilogue")
        assert (upload.model, upload.content_type) == ("whisper", FORM)
        before = sent(upload)
        upload.rewrite(edits)
        assert sent(upload) == expected + END
        upload.reset()
        assert sent(upload) == before


def test_fields_can_be_read(taken: Taken) -> None:
    long = field("long", "x" * (1 << 20))
    upload = taken(FILE + field("lang", "en") + long + END, query_model="other")
    assert upload.model == "other", "where the form names none"
    assert taken(MODEL + END, query_model="other").model == "whisper"
    assert upload.field_names == ["lang", "long"]
    assert [upload.text(name) for name in ("lang", "file", "absent")] == ["en", None, None]
    assert upload.text("long") == "x" * multipart.MAX_TEXT_BYTES
    upload.rewrite({"lang": "de"})
    assert upload.text("lang") == "de"


BROKEN = [
    (MODEL + FILE[:-6], "ends before"),
    (b"--XX\r\nX-A: 1\r\n\r\nx\r\n" + END, "no Content-Disposition"),
    (MODEL * 1001 + END, "more than 1000 parts"),
    (field("x" * 20000, "1") + END, "longer than 16384 bytes"),
    (field("x" * 10000, "1") * 120 + END, "too many headers"),
    (FILE + END, "missing or invalid `model`"),
    (field("model", "") + END, "missing or invalid `model`"),
    (field("model", "x" * 5000) + END, "`model` field is longer than 4096 bytes"),
    (upload_file("model", b"x" * 5000) + END, "`model` field is longer than 4096 bytes"),
    (FILE[:-2] + LIKE_BOUNDARIES * 6 + b"\r\n" + MODEL + END, "begins like the boundary"),
    (b"--XX\r\nContent-Disposition: form-data\r\n\r\nwhisper\r\n" + END, "missing or invalid"),
]


def test_a_broken_form_is_refused_with_the_reason(taken: Taken) -> None:
    for body, message in BROKEN:
        with pytest.raises(BadRequest, match=message):
            taken(body)


FIELDS_OF_HEADS = {
    b'Content-Disposition: form-data; name="a"': ["a"],
    b"content-disposition:form-data;name=a": ["a"],
    b'X-A: 1\r\nCONTENT-DISPOSITION: form-data;\r\n\tname="a"': ["a"],
    b'Content-Disposition: form-data; name="a"; filename=""': [],
    b"Content-Disposition: form-data; name=a; filename*=UTF-8''%C3%BC.wav": [],
    b'Content-Disposition: form-data; name="a"; filename="\xff.wav"': [],
    b'Content-Disposition: form-data; name="a\\"b"': ['a"b'],
    b"Content-Disposition: form-data": [""],
}


def test_heads_are_understood_and_kept_as_sent(taken: Taken) -> None:
    found = {}
    for head in FIELDS_OF_HEADS:
        body = b"--XX\r\n" + head + b"\r\n\r\ndata\r\n" + MODEL + END
        upload = taken(body)
        assert sent(upload) == body
        found[head] = upload.field_names[:-1]
    assert found == FIELDS_OF_HEADS


def test_a_form_beyond_the_limit_is_refused(taken: Taken) -> None:
    body = MODEL + FILE + END
    assert taken(body, limit_bytes=len(body)).model == "whisper"
    with pytest.raises(TooLarge, match="maxUpload"):
        taken(body, limit_bytes=len(body) - 1)


def test_a_full_disk_is_delivered(taken: Taken, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(multipart, "SpooledTemporaryFile", lambda **_: Full())
    with pytest.raises(LlmsnapError, match="No space left on device"):
        taken(MODEL + END)


def test_the_spool_is_closed_with_the_upload_and_after_a_refusal(taken, monkeypatch) -> None:
    spools = [io.BytesIO(), io.BytesIO()]
    left = iter(spools)
    monkeypatch.setattr(multipart, "SpooledTemporaryFile", lambda **_: next(left))
    upload = taken(MODEL + END)
    assert not spools[0].closed
    upload.close()
    with pytest.raises(BadRequest):
        taken(FILE + END)
    assert [spool.closed for spool in spools] == [True, True]


def test_a_large_file_is_not_held_in_memory() -> None:
    block = b"0123456789abcde\n" * 4096
    pieces = iter([upload_file("file", b"")[:-2], *[block] * 640, b"\r\n" + MODEL + END])
    tracemalloc.start()
    upload = receive(lambda _: next(pieces, b""), FORM)
    went = sum(len(chunk) for chunk in upload.chunks())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    upload.close()
    assert went == upload.content_length > 40 * 2**20
    assert peak < 4 * 2**20


NEAR_BOUNDARIES = [b"\r", b"\n", b"\r\n", b"-", b"--", b"--X", b"X", b"x"]


@cases(60)
def test_any_form_goes_on_as_it_came_however_it_is_cut(chance: Random) -> None:
    parts = [
        chance.choice((field, upload_file))(name, chance.randbytes(chance.randrange(40)))
        for name in chance.choices(["a", "b", "file"], k=chance.randrange(6))
    ]
    tail = b"".join(chance.choices(NEAR_BOUNDARIES, k=chance.randrange(13)))
    body = b"".join([*parts, MODEL, upload_file("last", tail + b"."), END])
    if body.count(b"--XX") == len(parts) + 3:
        with closing(receive(reader(body, chance.randrange(1, 51)), FORM)) as upload:
            assert (upload.model, sent(upload)) == ("whisper", body)


REAL = [
    "----WebKitFormBoundary7MA4YWxkTrZu0gW",  # Chromium, Safari
    "----geckoformboundaryf1f7e3a5b8c9",  # Firefox
    "----formdata-undici-012345678901",  # Node's fetch
    "------------------------d74496d66958873e",  # curl
    "XX; charset=utf-8",
    '"quoted boundary"',
]
NONE = ["", "; boundary=", "; boundary=" + "x" * 300, "; boundary=\u00fc"]
ELSEWHERE = [
    "boundary=a; boundary=b",
    "Boundary=a; boundary=a",
    "boundary*=utf-8''a; boundary=b",
    'x="; boundary=a"; boundary=b',
    'boundary="a\\b"',
    "boundary*0=a; boundary*1=a; boundary=b",
]


BOUNDARIES = [
    *((f"multipart/form-data; boundary={boundary}", "") for boundary in REAL),
    *((kind, r"multipart/form-data|boundary") for kind in ("", "multipart/mixed; boundary=b")),
    *((f"multipart/form-data{none}", "boundary") for none in NONE),
    *((f"multipart/form-data; {parameters}", "two ways") for parameters in ELSEWHERE),
]


def test_a_boundary_is_read_and_refused_where_others_differ() -> None:
    for content_type, refusal in BOUNDARIES:
        boundary = "b" if refusal else content_type.partition("boundary=")[2].partition(";")[0]
        body = (MODEL + END).replace(b"XX", boundary.strip('"').encode())
        with pytest.raises(BadRequest, match=refusal) if refusal else nullcontext():
            upload = receive(reader(body), content_type)
            assert upload.model == "whisper", content_type
            upload.close()
            assert not refusal, content_type
