"""Captures: bodies in flight aside (test_recorder), what is kept, redacted and shown."""

import gc
import json
import os
import subprocess
from functools import partial
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmsnap.http.secrets import REDACTED
from llmsnap.telemetry import captures as module
from llmsnap.telemetry.captures import Capture, CapturedBody, CapturePolicy, Mask, Redactor
from tests.fakes.calls import keep


def test_a_body_that_is_worth_it_is_packed_and_comes_out_whole():
    body = CapturedBody.of(b"x" * module.PACK_FROM_BYTES)
    packed = body.pack()
    assert (packed.packed, packed.pack() is packed, len(packed.data) < 100) == (True, True, True)
    assert (packed.content(), packed.size) == (body.data, module.PACK_FROM_BYTES)
    noise = CapturedBody.of(os.urandom(module.PACK_FROM_BYTES)).pack()
    assert (noise.packed, noise.pack() is noise) == (False, True)


def test_headers_keep_their_first_value_without_secrets():
    headers = [("Accept", "a"), ("Accept", "b"), ("AUTHORIZATION", "Bearer sk-1"), ("Cookie", "c")]
    kept = {"Accept": "a", "AUTHORIZATION": REDACTED, "Cookie": REDACTED}
    assert module.redact_headers(headers) == kept


def test_query_parameters():
    shown = {
        "": "/v1/x",
        "a=1&key=sk-1&b=2": f"/v1/x?a=1&key={REDACTED}&b=2",
        "api%5Fkey=sk-1": f"/v1/x?api%5Fkey={REDACTED}",
        "tenant=t1&flag": f"/v1/x?tenant={REDACTED}&flag",
        "key": "/v1/x?key",
    }
    assert {query: Redactor(["Tenant"]).path("/v1/x", query) for query in shown} == shown


def test_json_fields():
    deep = {"a": [{"ssn": {"deep": [1, {"ssn": 2}]}, "b": 2}]}
    for body, shown in (
        ({"ssn": "123", "a": 1}, {"ssn": REDACTED, "a": 1}),
        ({"SSN": 123}, {"SSN": REDACTED}),
        (deep, {"a": [{"ssn": REDACTED, "b": 2}]}),
        ({"ssn": 'with "quotes\\" and }'}, {"ssn": REDACTED}),
        ({"text": "the ssn of", "other_ssn": 1}, {"text": "the ssn of", "other_ssn": 1}),
    ):
        assert json.loads(Redactor(["ssn"]).body(json.dumps(body).encode())) == shown


def json_value(chance: Random, depth: int = 2):
    """Some JSON, of words in which quotes, braces and backslashes are frequent."""
    words = ["".join(chance.choices('"\\{}[],: \nnä😀', k=chance.randrange(5))) for _ in range(3)]
    if depth and chance.random() < 0.5:
        values = [json_value(chance, depth - 1) for _ in range(chance.randrange(4))]
        return values if chance.random() < 0.5 else dict(zip(words, values, strict=False))
    return chance.choice([None, True, -7, 1e300, *words])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32))
@example(0)
def test_fields_inside_the_arguments_of_a_tool_call(seed):
    chance = Random(seed)
    value = json_value(chance) if seed else {"deep": [{"ssn": 'a "b\\" c'}, "}"]}
    arguments = json.dumps({"ssn": value, "city": "Ulm"}, indent=chance.choice([None, 2]))
    body = json.dumps({"function": {"arguments": arguments}, "ssn": value, "x": 1}).encode()
    redacted = json.loads(Redactor(["ssn", "pin"]).body(body))
    assert json.loads(redacted["function"]["arguments"]) == {"ssn": REDACTED, "city": "Ulm"}
    assert redacted["ssn"] == REDACTED
    assert redacted["x"] == 1


def test_streams_and_cut_bodies():
    redactor = Redactor(["ssn"])
    stream = b'data: {"ssn": "1"}\n\ndata: {"ssn": "2", "x": 3}\n\n'
    hidden = stream.replace(b'"1"', b'"[REDACTED]"').replace(b'"2"', b'"[REDACTED]"')
    assert redactor.body(stream) == hidden
    for cut in (
        b'{"ssn": "secret beginning of a cut',
        rb'{"arguments": "{\"ssn\": \"secret of a cut',
        rb'{"arguments": "{\"ssn\": {\"a\": \"secret of a cut',
    ):
        assert b"secret" not in redactor.body(cut)
    assert Redactor().body(stream) is stream, "without configured names"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=100))
def test_bytes_that_are_no_text_survive(data):
    assert Redactor(["not-there"]).body(data) == data


JSON = [("Content-Type", "application/json; charset=utf-8")]


def test_configured_routes_come_before_the_built_in_ones():
    configured = {"/v1/embeddings": "none", "/v1/images/generations": "full", "/v1/r*": "headers"}
    shown = {
        "/v1/chat/completions": Mask.FULL,
        "/v1/audio/speech": Mask.HEADERS,
        "/v1/images/generations": Mask.FULL,
        "/v1/embeddings": Mask.NONE,
        "/v1/rerank": Mask.HEADERS,
    }
    assert {path: CapturePolicy(masks=configured).mask(path) for path in shown} == shown


def test_which_bodies_are_kept():
    policy = CapturePolicy(max_body=1000, masks={"/v1/wanted": "full"})
    reasons = {
        (10, "application/json; charset=utf-8", "/v1/chat/completions"): "",
        (10, "", "/v1/chat/completions"): "",
        (10, "text/event-stream", "/v1/chat/completions"): "",
        (10, "application/problem+json", "/v1/chat/completions"): "",
        (10, "audio/wav; x", "/v1/other"): "not text (audio/wav)",
        (10, "image/png", "/v1/wanted"): "",
        (2000, "application/json", "/v1/chat/completions"): "larger than captureMaxBody",
        (10, "text/plain", "/v1/audio/speech"): "captureMask keeps bodies of this route out",
    }

    def reason(size, kind, path):
        return policy.omitted_reason(size, [("content-type", kind)] if kind else [], path)

    assert {case: reason(*case) for case in reasons} == reasons


class Later:
    """An offload whose work is done when the test says so."""

    def __init__(self):
        self.work = []

    def __call__(self, work, done, wanted):
        self.work.append((work, done, wanted))

    def run(self):
        while self.work:
            work, done, wanted = self.work.pop(0)
            if wanted():
                done(work())


def capture(capture_id: int, size: int = 40) -> Capture:
    return Capture(id=capture_id, req_path="", resp_body=CapturedBody.of(b"x" * size))


def test_the_oldest_goes_when_the_budget_is_full():
    gone = []
    captures = module.Captures(100, on_evict=gone.append)
    assert [keep(captures, capture(n)) for n in range(3)] == [True, True, True]
    assert captures.get(0) is None
    assert captures.get(1).resp_body.content() == b"x" * 40
    assert (gone, captures.used, len(captures)) == ([0], 80, 2)
    captures.resize(50)
    assert [number for number in range(3) if captures.get(number)] == [2]
    captures.resize(-1)
    assert captures.used == 0


def test_one_that_never_fits_is_skipped_and_evicts_nobody(caplog):
    assert [keep(module.Captures(budget), capture(0)) for budget in (0, -1)] == [False, False]
    assert caplog.text == "", "without a budget there is nothing to say"
    captures = module.Captures(100)
    assert [keep(captures, capture(0)), keep(captures, capture(1, 200))] == [True, False]
    assert "captureBuffer" in caplog.text
    assert [captures.get(number) is None for number in (0, 77)] == [False, True]


def test_large_bodies_are_compressed_afterwards_unless_they_were_evicted_meanwhile():
    later, made = Later(), []
    captures = module.Captures(100_000, offload=later)

    def make(number):
        made.append(number)
        return capture(number, 60_000)

    for number in range(5):
        captures.add(number, 60_000, partial(make, number), largest=60_000)
    assert captures.used == 60_000
    assert [wanted() for _, _, wanted in later.work] == [False] * 4 + [True]
    later.run()
    assert (made, captures.get(3)) == ([4], None)
    assert captures.get(4).resp_body.content() == b"x" * 60_000
    assert captures.get(4).resp_body.packed
    assert captures.used == captures.get(4).size() < 1000


def test_nobody_sees_a_capture_before_it_is_prepared():
    later = Later()
    captures = module.Captures(1000, offload=later)
    keep(captures, capture(0), prepare=lambda one: capture(one.id, 5))
    assert captures.get(0).resp_body.content() == b"x" * 5
    later.run()
    assert captures.get(0).resp_body.content() == b"x" * 5
    assert captures.used == 5


def seen(**given):
    facts = {
        "id": 7, "method": "POST", "path": "/v1/x", "query": "", "headers": JSON, "body_bytes": 2,
        "request": b"{}", "status": 200, "response_headers": JSON, "response_bytes": 4,
        "response": b"true", "omitted_reason": "", "started_ms": 5, "duration_ms": 1.5,
    }  # fmt: skip
    return module.RawExchange(**{**facts, **given})


@pytest.mark.parametrize("size", [1, module.PACKED_BYTES + 1])
def test_what_was_seen_comes_back_as_a_capture(size):
    body = b"x" * size
    kept, make = seen(response=body).kept(CapturePolicy())
    capture = make()
    assert kept > size
    assert (capture.id, capture.method, capture.status) == (7, "POST", 200)
    assert (capture.req_body.content(), capture.resp_body.content()) == (b"{}", body)
    assert capture.req_headers == capture.resp_headers == dict(JSON)
    assert (capture.started_ms, capture.duration_ms) == (5, 1.5)
    lost = seen(request=b"", body_bytes=99, omitted_reason="too much", response=body)
    capture = lost.kept(CapturePolicy(max_body=10))[1]()
    bodies = [(one.omitted, one.size) for one in (capture.req_body, capture.resp_body)]
    assert bodies == [("larger than captureMaxBody", 99), ("too much", 4)]


def test_a_small_one_is_one_piece_without_work_for_the_collector_and_a_large_one_no_copy():
    size, make = seen(request=b"q" * 1000).kept(CapturePolicy())
    assert (type(make), gc.is_tracked(make), size) == (module.Packed, False, len(make.data))
    one = seen(request=b"q" * (module.PACKED_BYTES + 1))
    size, make = one.kept(CapturePolicy())
    assert (make().req_body.data is one.request, size) == (True, one.size())


def test_headers_are_shown_without_secrets_and_as_they_are_for_the_decoded_body():
    answer = [*JSON, ("Content-Encoding", "gzip"), ("Content-Length", "9"), ("X-\xe9", "\xfc")]
    one = seen(headers=[("Authorization", "Bearer s3cret")], response_headers=answer)
    capture = one.kept(CapturePolicy())[1]()
    assert "s3cret" not in repr(capture)
    assert capture.resp_headers == {**dict(JSON), "X-\xe9": "\xfc"}


CHAT = Capture(
    id=3, req_path="/v1/chat/completions?user=a&api_key=[REDACTED]", status=200,
    req_headers={**dict(JSON), "Authorization": "[REDACTED]", "Content-Length": "13"},
    req_body=CapturedBody.of(b'{"model":"it\'s"}'), resp_headers=dict(JSON),
    resp_body=CapturedBody.of(b"{}"), started_ms=1_000, duration_ms=12.5,
)  # fmt: skip


def test_curl_sends_the_same_request_without_the_secret():
    command = module.capture_curl(CHAT, "http://127.0.0.1:8080")
    assert command.startswith("curl -X POST 'http://127.0.0.1:8080/v1/chat/completions?user=a")
    assert "-H 'Authorization: [REDACTED]'" in command
    assert "Content-Length" not in command
    lost = Capture(id=0, req_path="/v1/x", req_body=CapturedBody(size=9, omitted="too large"))
    assert module.capture_curl(lost, "http://h").startswith("# The body is missing: too large\n")


def test_a_shell_gives_curl_the_very_body():
    fake = """\
        curl() {
            for last; do :; done
            if [ "$last" = @- ]; then cat; return; fi
            case "$*" in *--data-binary*) printf %s "$last";; esac
        }
        """
    bodies = [
        b'{"a": "it\'s $HOME `x` \\n"}',
        b"two\nlines",
        b"@file",
        b"nul\0byte",
        b"\xff\xfe",
        b"",
    ]
    captures = [Capture(id=0, req_path="/v1/x", req_body=CapturedBody.of(body)) for body in bodies]
    commands = [module.capture_curl(one, "http://h") for one in captures]
    script = fake + "\necho; echo ---\n".join(commands)
    sent = subprocess.run(["sh", "-c", script], check=True, capture_output=True).stdout
    assert sent.split(b"\n---\n") == bodies


def test_har_holds_one_entry_with_text_bodies_and_says_what_is_missing():
    har = module.capture_har(CHAT, "http://127.0.0.1:8080")["log"]
    (entry,) = har["entries"]
    assert (har["version"], entry["time"]) == ("1.2", 12.5)
    assert entry["startedDateTime"] == "1970-01-01T00:00:01+00:00"
    assert entry["request"]["postData"]["text"] == '{"model":"it\'s"}'
    assert entry["request"]["queryString"][0] == {"name": "user", "value": "a"}
    content = {"size": 2, "mimeType": JSON[0][1], "text": "{}"}
    assert entry["response"]["content"] == content
    json.dumps(har)
    lost = CapturedBody(size=5, omitted="not text (audio/wav)")
    binary = Capture(id=0, req_path="/v1/x", req_body=CapturedBody.of(b"\xff"), resp_body=lost)
    (entry,) = module.capture_har(binary, "http://h")["log"]["entries"]
    assert entry["request"]["postData"]["comment"] == "base64"
    content = entry["response"]["content"]
    assert (content["comment"], content["size"]) == ("not text (audio/wav)", 5)
