"""The head of a request: what is let in, h11 lets in as well, and means the same by it.

A head also means the same however it was cut, and however often and after whichever it came.
"""

from itertools import count
from typing import Any

import h11

from llmsnap.errors import BadHead
from llmsnap.server.connection import ConnectionReader
from llmsnap.server.http1 import MAX_HEAD_BYTES, MAX_HEADERS, RequestHead, parse_head
from tests.fuzz.pieces import Pieces, size_and_rest

WORDS = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b": ", b":", b" ", b"\t", b",", b"GET ", b"POST ",
    b"OPTIONS ", b"CONNECT ", b"/", b"*", b"http://a/", b"?a=b", b"%20", b"#", b" HTTP/1.1\r\n",
    b" HTTP/1.0\r\n", b" HTTP/1.2\r\n", b"Host: a\r\n", b"Content-Length: ", b"content-length: 5",
    b"CONTENT-LENGTH: 5\r\n", b"Content-length:5", b"Content_Length: 5", b"Transfer-Encoding: ",
    b"chunked", b"Chunked", b"identity", b"Connection: close\r\n", b"Connection: keep-alive",
    b"Expect: 100-continue\r\n", b"Cookie: a=1\r\n", b"X-A: 1\r\n", b"\x00", b"\x0b", b"\xa0",
    b"\x85", "é".encode(), b"_", b"5, 5", b"+5", b"0x5", b"00005",
]  # fmt: skip
SEEDS = [
    b"\x10GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x3fPOST /v1/x?a=b HTTP/1.1\r\nHost: a:1\r\nContent-Length: 5\r\n\r\nhello",
    b"\x05POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"\x3f\r\nGET http://b/%41 HTTP/1.1\r\nhost:a\r\nCookie: a=1\r\ncookie: b=2\r\n\r\n",
    b"\x20GET / HTTP/1.0\r\nConnection: Keep-Alive, x\r\n\r\nGET / HTTP/1.0\r\n\r\n",
]

fresh = count()


def check(data: bytes) -> None:
    size, sent = size_and_rest(data)
    whole = received(sent, len(sent) or 1)
    said = outcome(whole)
    assert outcome(received(sent, size)) == said, "it depends on how it was cut"
    if whole is None:
        return
    head, rest = whole
    assert sent in {head + rest, b"\r\n" + head + rest}, "bytes got lost"
    for _ in range(3):
        assert outcome(whole) == said, "it depends on what came before"
    first, end, others = head.partition(b"\r\n")
    if head.count(b"\r\n") < MAX_HEADERS and len(head) < MAX_HEAD_BYTES - 100:
        unseen = first + end + b"X-Fuzz: %d\r\n" % next(fresh) + others
        assert without_mark(outcome((unseen, rest))) == said, "it depends on what came before"
    if said is not None:
        agree(parse_head(head), head)


def received(sent: bytes, size: int) -> tuple[bytes, bytes] | None:
    """The head and what follows it; None where none came, or none can become of it."""
    pieces = Pieces(sent, size)
    reader = ConnectionReader(pieces)
    try:
        head = reader.read_head(lambda: None)
    except (BadHead, EOFError):
        return None
    return (head, reader.take_buffered() + pieces.left) if head else None


def outcome(got: tuple[bytes, bytes] | None) -> dict[str, Any] | None:
    """What a head says, and what follows it; None when it is refused."""
    if got is None:
        return None
    try:
        head = parse_head(got[0])
    except BadHead:
        return None
    names = ("method", "target", "path", "query", "version", "length", "keep_alive")
    said = {name: getattr(head, name) for name in (*names, "expects_continue")}
    return {**said, "fields": dict(head.fields), "rest": got[1]}


def without_mark(said: dict[str, Any] | None) -> dict[str, Any] | None:
    if said is not None:
        del said["fields"]["HTTP_X_FUZZ"]
    return said


def agree(ours: RequestHead, head: bytes) -> None:
    """h11 must take *head* as we do."""
    target = head.split(b" ", 2)[1]
    if not target.isascii():
        return  # h11 refuses what browsers never send, but curl does: we escape it
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=2 * MAX_HEAD_BYTES)
    connection.receive_data(head)
    theirs = connection.next_event()
    assert isinstance(theirs, h11.Request), theirs
    assert theirs.method.decode() == ours.method
    assert theirs.target == target
    assert theirs.http_version == ours.version.removeprefix("HTTP/").encode()
    fields = their_fields(theirs.headers)
    if fields.pop("HTTP_TRANSFER_ENCODING", None):
        assert ours.length is None
    else:
        assert int(fields.get("CONTENT_LENGTH", "0")) == ours.length
    expected = {k: v for k, v in ours.fields.items() if k != "HTTP_TRANSFER_ENCODING"}
    if not target.startswith(b"/"):
        fields.pop("HTTP_HOST", None)
        expected.pop("HTTP_HOST", None)
    assert fields == expected
    if ours.version == "HTTP/1.1" and ours.length == 0:
        connection.next_event()
        assert (connection.their_state is h11.MUST_CLOSE) is not ours.keep_alive


def their_fields(headers: Any) -> dict[str, str]:
    """h11's headers under their names in WSGI, joined as WSGI servers do."""
    fields: dict[str, str] = {}
    for raw_name, raw_value in headers:
        if b"_" in raw_name:
            continue
        name = raw_name.decode().upper().replace("-", "_")
        key = name if name in {"CONTENT_LENGTH", "CONTENT_TYPE"} else f"HTTP_{name}"
        value = raw_value.decode("latin-1")
        joint = "; " if key == "HTTP_COOKIE" else ","
        fields[key] = f"{fields[key]}{joint}{value}".strip(" \t") if key in fields else value
    return fields
