"""A chunked body: what is taken is what h11 takes, and the next request begins at the same byte."""

import re

import h11

from llmsnap.errors import BadRequest
from llmsnap.server.connection import ConnectionReader
from llmsnap.server.http1 import RequestBody
from tests.fuzz.pieces import Pieces, cut, size_and_rest

WORDS = [
    b"\r\n", b"\r", b"\n", b"0\r\n\r\n", b"0\r\n", b"1\r\na\r\n", b"5\r\nhello\r\n", b"A\r\n", b"a",
    b"00", b"0x1", b"+1", b"-1", b" ", b"\t", b";a=b", b';a="b"', b";", b"ffffffffffffffff",
    b"fffffffffffffff", b"X-Trailer: 1\r\n", b"Content-Length: 5\r\n", b": ", b" folded\r\n",
    b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"\xff",
]  # fmt: skip
SEEDS = [
    b"\x3f5\r\nhello\r\n0\r\n\r\nGET /",
    b"\x01A;a=b\r\n0123456789\r\n1 \r\n!\r\n000\r\nX-Trailer: 1\r\n\r\n",
    b"\x070\r\n\r\n",
]
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
BLANKS = re.compile(rb"[ \t];")
"""Before an extension RFC 9112 has recipients bear them, which h11 does not."""

Taken = tuple[bytes, bytes] | None
"""A body and what follows it; None when it is refused, or incomplete."""


def check(data: bytes) -> None:
    size, sent = size_and_rest(data)
    ours = taken(sent, len(sent) or 1)
    assert taken(sent, size) == ours, "it depends on how it was cut"
    assert taken(sent, size, read=3) == ours, "it depends on how much is read at once"
    if ours is not None and not BLANKS.search(sent):
        assert taken_by_h11(sent) == ours
    framed = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in cut(sent, size))
    assert taken(framed + b"0\r\n\r\nnext", size) == (sent, b"next")


def taken(sent: bytes, size: int, read: int = -1) -> Taken:
    pieces = Pieces(sent, size)
    reader = ConnectionReader(pieces)
    body = RequestBody(reader, None)
    got = []
    try:
        while piece := body.read(read):
            got.append(piece)
    except BadRequest:
        assert body.is_broken
        return None
    assert body.is_complete
    return b"".join(got), reader.take_buffered() + pieces.left


def taken_by_h11(sent: bytes) -> Taken:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(HEAD + sent)
    got = []
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Data):
            got.append(bytes(event.data))
        elif isinstance(event, h11.EndOfMessage):
            return b"".join(got), connection.trailing_data[0]
        elif event is h11.NEED_DATA:
            return None
