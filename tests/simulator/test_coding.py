import zlib

import pytest

CHAT = {"messages": [{"role": "user", "content": "hello"}]}
PATH = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("asked", "named", "window_bits"),
    [("gzip", "gzip", 31), ("deflate", "deflate", 15), ("raw-deflate", "deflate", -15)],
)
@pytest.mark.parametrize("stream", [0, 1])
def test_answers_can_be_compressed(sim, asked, named, window_bits, stream):
    answer = sim.post(f"{PATH}?sim_encoding={asked}&stream={stream}", CHAT)
    assert answer.headers["Content-Encoding"] == named
    assert b'"choices"' in zlib.decompress(answer.body, window_bits)
    assert ("Content-Length" in answer.headers) is not stream


def test_each_chunk_can_be_read_as_it_comes(sim):
    connection = sim.connect()
    connection.request("GET", "/slow-respond?echo=ab&delay=1ms&sim_encoding=gzip")
    reader = zlib.decompressobj(31)
    response = connection.getresponse()
    text = b""
    while not text:
        text += reader.decompress(response.read1())
    assert text in {b"a", b"ab"}
    connection.close()


def test_another_coding_is_refused(sim):
    assert sim.post(f"{PATH}?sim_encoding=br", CHAT).status == 400
