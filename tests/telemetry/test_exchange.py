import gc

import pytest

from llmsnap.telemetry.captures import PACKED_BYTES, CapturePolicy, Packed, RawExchange

JSON = [("Content-Type", "application/json")]


def seen(**given):
    facts = {
        "id": 7, "method": "POST", "path": "/v1/x", "query": "", "headers": JSON, "body_bytes": 2,
        "request": b"{}", "status": 200, "response_headers": JSON, "response_bytes": 4,
        "response": b"true", "omitted_reason": "", "started_ms": 5, "duration_ms": 1.5,
    }  # fmt: skip
    return RawExchange(**{**facts, **given})


@pytest.mark.parametrize("size", [1, PACKED_BYTES + 1])
def test_what_was_seen_comes_back_as_a_capture(size):
    body = b"x" * size
    kept, make = seen(response=body).kept(CapturePolicy())
    capture = make()
    assert kept > size
    assert (capture.id, capture.method, capture.status) == (7, "POST", 200)
    assert (capture.req_body.content(), capture.resp_body.content()) == (b"{}", body)
    assert capture.req_headers == capture.resp_headers == dict(JSON)
    assert (capture.started_ms, capture.duration_ms) == (5, 1.5)


def test_a_small_one_is_one_piece_that_the_garbage_collector_need_not_look_at():
    size, make = seen(request=b"q" * 1000).kept(CapturePolicy())
    assert isinstance(make, Packed)
    assert not gc.is_tracked(make)
    assert size == len(make.data)


def test_large_bodies_are_not_copied():
    one = seen(request=b"q" * (PACKED_BYTES + 1))
    size, make = one.kept(CapturePolicy())
    assert make().req_body.data is one.request
    assert size == one.size()


def test_what_is_missing_says_why():
    _, make = seen(request=b"", body_bytes=99, omitted_reason="too much").kept(
        CapturePolicy(max_body=10)
    )
    capture = make()
    assert (capture.req_body.omitted, capture.req_body.size) == ("larger than captureMaxBody", 99)
    assert (capture.resp_body.omitted, capture.resp_body.size) == ("too much", 4)


def test_headers_are_shown_without_secrets_and_as_they_are_for_the_decoded_body():
    answer = [*JSON, ("Content-Encoding", "gzip"), ("Content-Length", "9"), ("X-\xe9", "\xfc")]
    _, make = seen(headers=[("Authorization", "Bearer s3cret")], response_headers=answer).kept(
        CapturePolicy()
    )
    capture = make()
    assert "s3cret" not in repr(capture)
    assert capture.resp_headers == {**dict(JSON), "X-\xe9": "\xfc"}
