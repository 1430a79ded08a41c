"""An upload: it goes on as it came, and other parsers find in it the model that was authorised."""

import contextlib
import email
import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import collapse_rfc2231_value

from werkzeug.formparser import MultiPartParser

from llmsnap.errors import BadRequest, TooLarge
from llmsnap.proxy.multipart import Upload, receive
from tests.fuzz.pieces import size_and_rest

FORM = "multipart/form-data; boundary=XX"
DISPOSITION = b"Content-Disposition: form-data; "
WORDS = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\n\n", b"\r", b"--XX", b"--XX\r\n", b"--XX--", b"--XX--\r\n",
    b"\r\n--XX", b"\n--XX\n", b"\r--XX\r", b"--XX \t\r\n", b"--XXY\r\n", b"--X", b"-", b"--",
    DISPOSITION, DISPOSITION + b'name="model"\r\n\r\n', b'name="model"', b"name=model", b"; ",
    b'filename="a.wav"', b"name*=UTF-8''model", b"name*0=mod; name*1=el", b'name="mo\\del"',
    b'name="m%6fdel"', b"Content-Type: audio/wav\r\n", b"Content-Transfer-Encoding: base64\r\n",
    b" folded\r\n", b"X: 1\r\n", b"\x00", b"\xff", b'"', b"\\", b"=", b":", "ü".encode(),
]  # fmt: skip
MODEL = b"--XX\r\n" + DISPOSITION + b'name="model"\r\n\r\na\r\n'
FILE = b"--XX\r\n" + DISPOSITION + b'name="file"; filename="a"\r\nX-A: 1\r\n\r\nRIFF\r\n--X\r\n'
SEEDS = [
    b"\x3f" + MODEL + FILE + b"--XX--\r\n",
    b"\x05preamble\r\n" + FILE + MODEL + MODEL + b"--XX--epilogue",
    b"\x01" + MODEL + b"--XX \t\r\n" + DISPOSITION + b"\r\n\tname=t\r\n\r\n\r\n--XX--",
]


def check(data: bytes) -> None:
    size, sent = size_and_rest(data)
    with taken(sent, len(sent) or 1) as whole, taken(sent, size) as pieces:
        if whole is None:
            assert pieces is None, "it depends on how it was cut"
            return
        assert pieces is not None, "it depends on how it was cut"
        assert pieces.model == whole.model
        onward = goes_on(whole)
        assert goes_on(pieces) == onward
        with taken(onward, size) as again:
            assert again is not None, "what goes on is no form"
            assert goes_on(again) == onward
            assert (again.model, again.field_names) == (whole.model, whole.field_names)
        whole.rewrite({"model": "other"})
        onward = goes_on(whole)
        for reader in (by_email, by_werkzeug):
            models = {text for name, text in reader(onward) if name == "model"}
            assert models <= {"other"}, f"{reader.__name__}: {models}"


@contextmanager
def taken(sent: bytes, size: int) -> Iterator[Upload | None]:
    """The form in *sent*, as under a key for some models; None where it is refused."""
    body = io.BytesIO(sent)
    try:
        upload = receive(lambda limit: body.read(min(limit, size)), FORM, strict=True)
    except (BadRequest, TooLarge):
        yield None
        return
    with closing(upload):
        yield upload


def goes_on(upload: Upload) -> bytes:
    onward = b"".join(upload.chunks())
    assert upload.content_length == len(onward)
    return onward


def by_email(form: bytes) -> Iterator[tuple[str, str]]:
    """Names and texts of the fields, as Python's parser of mails finds them."""
    found = email.message_from_bytes(b"Content-Type: " + FORM.encode() + b"\r\n\r\n" + form)
    for part in found.get_payload():
        name = part.get_param("name", "", "content-disposition")
        if part.get_param("filename", None, "content-disposition") is None:
            yield collapse_rfc2231_value(name), str(part.get_payload())


def by_werkzeug(form: bytes) -> Iterator[tuple[str, str]]:
    """Names and texts of the fields, as Flask's servers find them."""
    with contextlib.suppress(ValueError):  # it may refuse a form
        parser = MultiPartParser(stream_factory=lambda *_, **__: io.BytesIO())
        fields, _ = parser.parse(io.BytesIO(form), b"XX", len(form))
        yield from fields.items(multi=True)
