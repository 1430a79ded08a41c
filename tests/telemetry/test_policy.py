import pytest

from llmsnap.telemetry.captures import Capture, CapturedBody, CapturePolicy, Mask

JSON = [("Content-Type", "application/json; charset=utf-8")]


@pytest.mark.parametrize(
    ("path", "mask"),
    [
        ("/v1/chat/completions", Mask.FULL),
        ("/v1/audio/speech", Mask.HEADERS),
        ("/v1/images/generations", Mask.FULL),
        ("/v1/images/edits", Mask.HEADERS),
        ("/v1/embeddings", Mask.NONE),
        ("/v1/rerank", Mask.HEADERS),
    ],
)
def test_configured_routes_come_before_the_built_in_ones(path, mask):
    policy = CapturePolicy(
        masks={"/v1/embeddings": "none", "/v1/images/generations": "full", "/v1/r*": "headers"}
    )
    assert policy.mask(path) is mask


@pytest.mark.parametrize(
    ("size", "headers", "path", "why"),
    [
        (10, JSON, "/v1/chat/completions", ""),
        (10, [], "/v1/chat/completions", ""),
        (10, [("content-type", "text/event-stream")], "/v1/chat/completions", ""),
        (10, [("content-type", "application/problem+json")], "/v1/chat/completions", ""),
        (10, [("content-type", "audio/wav; x")], "/v1/other", "not text (audio/wav)"),
        (10, [("content-type", "image/png")], "/v1/wanted", ""),
        (2000, JSON, "/v1/chat/completions", "larger than captureMaxBody"),
        (10, JSON, "/v1/audio/speech", "captureMask keeps bodies of this route out"),
    ],
)
def test_which_bodies_are_kept(size, headers, path, why):
    policy = CapturePolicy(max_body=1000, masks={"/v1/wanted": "full"})
    assert policy.omitted_reason(size, headers, path) == why


def test_preparing_takes_configured_fields_out_of_both_bodies():
    policy = CapturePolicy(redact=["ssn"])
    body = CapturedBody.of(b'{"ssn": 1}')
    prepared = policy.prepare(Capture(id=0, req_path="", req_body=body, resp_body=body))
    assert prepared.req_body.content() == prepared.resp_body.content() == b'{"ssn": "[REDACTED]"}'
