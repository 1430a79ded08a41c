import os

from llmsnap.telemetry.captures import PACK_FROM_BYTES, Capture, CapturedBody


def test_the_size_counts_path_headers_and_bodies():
    sized = Capture(
        id=0,
        req_path="/v1/chat/completions",
        req_headers={"Content-Type": "application/json"},
        req_body=CapturedBody.of(b"x" * 12),
        resp_headers={"X-Test": "value"},
        resp_body=CapturedBody.of(b"y" * 13),
    )
    assert sized.size() == 20 + 12 + 13 + 28 + 11


def test_a_body_that_is_worth_it_is_packed_and_comes_out_whole():
    body = CapturedBody.of(b"x" * PACK_FROM_BYTES)
    packed = body.pack()
    assert packed.packed
    assert len(packed.data) < 100
    assert (packed.content(), packed.size) == (body.data, PACK_FROM_BYTES)
    assert packed.pack() is packed


def test_what_does_not_compress_stays_as_it_is():
    body = CapturedBody.of(os.urandom(PACK_FROM_BYTES)).pack()
    assert not body.packed
    assert body.pack() is body
