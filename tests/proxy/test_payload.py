"""Facts about llmsnap.proxy.payload."""

import gzip
import re
from contextlib import ExitStack, closing, nullcontext
from itertools import product
from urllib.parse import quote, unquote

import pytest

from llmsnap import errors
from llmsnap.http.auth import ClientKey
from llmsnap.http.lookup import INFERENCE_PATHS, RESOURCES
from llmsnap.http.routes import ROUTES, ModelPlace
from llmsnap.proxy import payload as module
from llmsnap.proxy.payload import RESEND_BYTES, RawPayload, parse_message, parse_request, read_body
from llmsnap.proxy.request import BodyBudget, BodyShare
from tests.fakes.calls import make_request, runtime
from tests.parity import parity
from tests.proxy.fakes import sent, target

MIB = 1 << 20
FORMS = "/v1/audio/transcriptions"
KEYS = [ClientKey(), ClientKey("k", admin=False), ClientKey("k", admin=False, upstream=True)]
POSTS = [row.path for row in ROUTES if row.model in (ModelPlace.JSON, ModelPlace.FORM)]


@pytest.fixture(scope="module")
def snapshot():
    return runtime("""\
        maxRequestBody: 1
        maxUpload: 2
        models:
          a: {cmd: x, proxy: "http://localhost:1"}
          author/m: {cmd: x, proxy: "http://localhost:1", aliases: [ü b]}
        peers:
          p: {proxy: "http://peer/base", models: [far, org/far]}
        """)


@pytest.fixture
def parse(snapshot):
    """Parses a request; what it holds is given back at the end."""
    with ExitStack() as stack:

        def parse(*args, config=snapshot, **facts):
            asked = make_request(*args, **facts)
            of_path = module.parse_upstream if asked.path.startswith("/upstream") else parse_request
            return stack.enter_context(closing(of_path(asked, config)))

        yield parse


def form(*fields: tuple[str, str], file: bytes = b"") -> dict:
    parts = [f'Content-Disposition: form-data; name="{k}"\r\n\r\n{v}'.encode() for k, v in fields]
    if file:
        head = b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        parts.append(head + file)
    body = b"".join(b"--b\r\n%b\r\n" % part for part in parts) + b"--b--\r\n"
    return {"body": body, "headers": [("Content-Type", "multipart/form-data; boundary=b")]}


# --- which kind ---------------------------------------------------------------------------------


def test_a_first_message_is_adapted_and_sent_behind_the_handshake(snapshot) -> None:
    asked = make_request("/v1/responses?model=b", method="GET")
    payload = parse_message(asked, snapshot, b'{"model":"a","stream":true,"top_p":1}', "realtime")
    assert (payload.requested, payload.path) == ("a", "/v1/responses?model=b")
    for _ in range(2):  # a server that ended is asked again
        payload.adapt(target(["top_p"], temperature=0.5), "real")
        assert payload.message == b'{"model":"real","stream":true,"temperature":0.5}'
        assert payload.path == "/v1/responses?model=real"
        assert (payload.body, payload.length, payload.stream) == (b"", 0, False)
    assert payload.drops == {"sec-websocket-extensions", "sec-websocket-protocol"}
    assert payload.adds == (("Sec-WebSocket-Protocol", "realtime"),)


def test_a_body_is_known_by_its_fields(parse) -> None:
    payload = parse(body={"model": "a", "stream": True})
    assert (payload.requested, payload.stream, payload.path) == ("a", True, "/v1/chat/completions")
    assert payload.length == len(payload.body)
    upload = form(("model", "a"), ("stream", "true"), file=b"x" * 9)
    payload = parse(FORMS, **upload)
    assert (payload.requested, payload.stream, sent(payload)) == ("a", True, upload["body"])
    assert payload.length == len(upload["body"])
    assert not isinstance(payload.body, bytes), "no copy of an upload is made"


@parity(
    "Errors and keys",
    "the route decides between JSON and form; JSON without its content type is 404",
    "the content type decides; JSON without one is read",
)
def test_a_body_is_what_its_content_type_says_on_every_route(parse) -> None:
    document, upload = b'{"model":"a", "x":1e3}', form(("model", "a"), file=b"x")["body"]
    for path in POSTS:
        for kind in ("APPLICATION/JSON; charset=utf-8", "text/plain", ""):
            payload = parse(path, document, headers=[("Content-Type", kind)] if kind else [])
            assert (payload.requested, payload.body) == ("a", document), path
        for kind in ("Multipart/Form-Data; boundary=b", ' multipart/form-data;boundary="b"'):
            payload = parse(path, upload, headers=[("Content-Type", kind)])
            assert (payload.requested, sent(payload)) == ("a", upload), path


SENT_PATHS = {
    **{f"/{name}": f"/v1/{name}" for name in ("chat/completions", "embeddings", "messages")},
    "/audioapi/v1/tasks/run": "/v1/tasks/run",
    "/v/embeddings": "/embeddings",
}


@parity("Audio tasks", "`POST /audioapi/v1/tasks/run`, sent on without `/audioapi`")
def test_some_paths_go_on_as_others(parse) -> None:
    for path, goes_to in SENT_PATHS.items():
        payload = parse(f"{path}?q=1", b'{"model":"a"}')
        payload.adapt(target(), "b")
        assert (payload.requested, payload.path) == ("a", f"{goes_to}?q=1")
        assert payload.body == b'{"model":"b"}'


def test_the_model_may_be_named_in_the_query(parse) -> None:
    for path in (*POSTS, "/v1/audio/voices"):
        body = None if path.endswith("voices") else b'{"x":1}'
        payload = parse(f"{path}?x=1&model=author%2Fm", body)
        payload.adapt(target(), "new name")
        assert payload.requested == "author/m"
        assert payload.path == f"{RESOURCES[path].sent_path}?model=new%20name&x=1"
        assert payload.body == (b'{"x":1,"model":"new name"}' if body else b"")


# --- rewriting ----------------------------------------------------------------------------------


def test_every_target_adapts_the_request_the_client_sent(parse) -> None:
    payload = parse(body={"model": "a", "keep": 1})
    payload.adapt(target(["keep"], top_k=5, stream=True), "other")
    assert payload.body == b'{"model": "other","stream":true,"top_k":5}'
    assert payload.stream
    payload.adapt(target(), "")
    assert payload.body == b'{"model": "a", "keep": 1}'
    upload = form(("model", "a"), ("keep", "1"), file=b"x")
    payload = parse(FORMS, **upload)
    payload.adapt(target(["keep"], top_k=5), "other")
    first = sent(payload)
    assert [part in first for part in (b"other", b"keep", b"top_k")] == [True, False, True]
    assert payload.length == len(first)
    payload.adapt(target(), "")
    assert sent(payload) == upload["body"]


# --- encodings and limits -----------------------------------------------------------------------


PLAIN = b'{"model":"a"}'
GZIP = [("Content-Encoding", "gzip")]


@pytest.mark.parametrize(
    ("encoding", "body", "outcome"),
    [
        ("GZIP", gzip.compress(PLAIN), PLAIN),
        ("Identity, ", PLAIN, PLAIN),
        ("br", None, errors.UnsupportedEncoding),
        ("gzip", PLAIN, errors.BadRequest),
        ("gzip", gzip.compress(b" " * (2 * MIB)), errors.TooLarge),
    ],
)
def test_a_compressed_request_goes_on_plain_or_is_refused(parse, encoding, body, outcome) -> None:
    facts = {"headers": [("Content-Encoding", encoding)]} | ({} if body else {"read": unread})
    if isinstance(outcome, bytes):
        payload = parse(body=body, **facts)
        assert (payload.body, payload.drops) == (outcome, {"content-encoding"})
    else:
        with pytest.raises(outcome):
            parse(body=body or b"", **facts)


def test_a_compressed_form_is_refused(parse) -> None:
    upload = form(("model", "a"))
    plain = [*upload["headers"], ("Content-Encoding", "identity")]
    assert parse(FORMS, upload["body"], headers=plain).drops == {"content-encoding"}
    with pytest.raises(errors.UnsupportedEncoding):
        parse(FORMS, upload["body"], headers=[*upload["headers"], *GZIP])


HUGE = [
    (b"[" + b"1," * 40_000 + b"1]", "x.0"),
    (b"[" + b"1," * 40_000 + b"1]", "x.-1"),
    (b"{" + b'"a":1,' * 40_000 + b'"a":1}', "x.b"),
    (b'{"a":[' + b'"\\ud83d",' * 40_000 + b"1]}", "x.a.0"),
]


def test_a_filter_takes_no_huge_collection_apart(parse) -> None:
    for values, path in HUGE:
        payload = parse(body=b'{"model":"a","x":' + values + b"}")
        payload.adapt(target(["y.z"]), "")
        with pytest.raises(errors.BadRequest, match="as filters say: more than 16384"):
            payload.adapt(target([path]), "")


def unread(size: int) -> bytes:
    pytest.fail(f"{size} bytes were read of a body that is too large")


def test_a_body_said_to_be_too_large_is_not_read(parse) -> None:
    for path, method, limit in (
        ("/v1/chat/completions", "POST", MIB),
        ("/v1/images/edits", "POST", 2 * MIB),
        ("/v1/realtime?model=a", "GET", 2 * MIB),
    ):
        with pytest.raises(errors.TooLarge, match=r"max(RequestBody|Upload)"):
            parse(path, b"", method=method, length=limit + 1, read=unread)


def test_a_body_is_read_up_to_the_limit_and_its_end(parse) -> None:
    assert read_body(make_request(body=b"x" * 10, chunked=True), 10) == b"x" * 10
    with pytest.raises(errors.TooLarge):
        read_body(make_request(body=b"x" * 11, chunked=True), 10)
    with pytest.raises(errors.BadRequest, match="after 3 of 10 bytes"):
        read_body(make_request(body=b"abc", length=10), 100)
    with pytest.raises(errors.TooLarge, match="maxRequestBody"):
        parse("/v1/images/edits", b" " * (MIB + 1))


# --- below /upstream ----------------------------------------------------------------------------


NAMED_BY_PATHS = {
    "/upstream/a/": ("a", "/upstream/a", "/"),
    "/upstream/a": ("a", "/upstream/a", ""),
    "/upstream/a?q": ("a", "/upstream/a", "?q"),
    "/upstream/author/m/a%2Fb?q=%20": ("author/m", "/upstream/author/m", "/a%2Fb?q=%20"),
    "/upstream/author%2Fm//x/": ("author/m", "/upstream/author%2Fm", "//x/"),
    "/upstream/%C3%BC%20b/x": ("ü b", "/upstream/%C3%BC%20b", "/x"),
    "/upstream//a/x": ("a", "/upstream//a", "/x"),
    "/upstream/zz/x/y": ("zz", "/upstream/zz/x/y", ""),
}


def test_the_longest_name_is_the_models_and_the_rest_stays(parse) -> None:
    payloads = {path: parse(path) for path in NAMED_BY_PATHS}
    found = {path: (one.requested, one.prefix, one.path) for path, one in payloads.items()}
    assert found == NAMED_BY_PATHS
    with pytest.raises(errors.NotFound):
        parse("/upstream//")


def test_no_path_leaves_the_base_of_a_server(parse) -> None:
    rests = ["/../admin", "/v1/../../slots", "/%252e%2e%2fx", "/x\\..\\..\\y"]
    names = ["a", "author/m", "author%2Fm", "far", "p/far"]
    for name, rest, key, method in product(names, rests, KEYS, ("GET", "POST")):
        with pytest.raises(errors.BadRequest):
            parse(f"/upstream/{name}{rest}", b"", method=method, key=key, read=unread)


BELOW = """
    / /slots/0?action=erase /release_memory_occupation /v1/models /v1/chat/completions/x
    /v1%2Fchat/completions //v1/chat/completions /V1/chat/completions /x?q=/v1/embeddings /props
"""


def test_a_key_without_the_right_reaches_inference_only(parse) -> None:
    scoped = ClientKey("k", (re.compile("a"),), admin=False)
    for rest in BELOW.split():
        for key in (ClientKey("k", admin=False), scoped):
            with pytest.raises(errors.Forbidden, match="the key 'k' may use inference routes only"):
                parse(f"/upstream/a{rest}", b"", key=key, read=unread, length=9)
        for key in (ClientKey("k"), ClientKey("k", admin=False, upstream=True)):
            payload = parse(f"/upstream/a{rest}", b"", key=key)
            assert (payload.requested, payload.path) == ("a", rest)


def test_a_key_without_the_right_reaches_all_inference(parse) -> None:
    for path in INFERENCE_PATHS:
        payload = parse(f"/upstream/a{path}?q=%20", b"raw", key=ClientKey("k", admin=False))
        assert (payload.path, payload.body) == (f"{path}?q=%20", b"raw")


@pytest.mark.parametrize(
    ("name", "named", "fine"),
    [
        ("author/m", "ü b", True),
        ("%C3%BC%20b", "author/m", True),
        ("author/m", "", True),
        ("author/m", "far", False),
        ("author/m", "gpt-4", False),
    ],
)
def test_a_key_with_limits_names_the_model_of_the_path_or_none(parse, name, named, fine) -> None:
    """The server may have other models than the one that was authorised."""
    model = {"model": named} if named else {}
    query = f"model={quote(named, safe='')}" if named else ""
    for rest, facts in (
        ("embeddings", {"body": {**model, "Model": "a"}}),
        ("images/edits", form(*model.items(), ("x", "1"))),
        (f"audio/voices?{query}", {}),
    ):
        facts["key"] = ClientKey("k", (re.compile("author/m"),), admin=False)
        if not fine:
            with pytest.raises(errors.BadRequest, match="the path names the model"):
                parse(f"/upstream/{name}/v1/{rest}", **facts)
            continue
        payload = parse(f"/upstream/{name}/v1/{rest}", **facts)
        assert payload.requested == unquote(name)
        payload.adapt(target(), "")
        assert b'"a"' not in sent(payload)


def test_a_peer_answers_inference_only(parse) -> None:
    rests = ["/", "/v1/models", "/unload", "/upstream/x/", "/v1%2Fembeddings"]
    for name, rest, key in product(["far", "p/far", "org/far"], rests, KEYS):
        with pytest.raises(errors.BadRequest, match="peers answer inference routes only"):
            parse(f"/upstream/{name}{rest}", b"", key=key, read=unread, length=9)


@pytest.mark.parametrize("name", ["far", "p/far"])
@pytest.mark.parametrize("named", ["far", "p/far", "org/far", ""])
def test_what_goes_to_a_peer_names_the_model_of_the_path(parse, name: str, named: str) -> None:
    for rest, facts in (
        ("embeddings?x=1", {"body": {"model": named, "input": 1}}),
        ("images/edits?x=1", form(("model", named))),
        (f"audio/voices?x=1&model={named}", {}),
    ):
        if named not in {"far", name}:
            with pytest.raises(errors.BadRequest, match="model"):
                parse(f"/upstream/{name}/v1/{rest}", **facts)
            continue
        payload = parse(f"/upstream/{name}/v1/{rest}", **facts)
        assert (payload.requested, payload.prefix) == (name, f"/upstream/{name}")
        payload.adapt(target(), "far")
        assert payload.path.partition("?")[0] in INFERENCE_PATHS
        body = sent(payload)
        assert b"far" in body or "model=far" in payload.path
        assert b"p/far" not in body


def test_a_wrong_method_is_delivered_the_right_ones(parse) -> None:
    for method, path, allow in (
        ("GET", "/v1/chat/completions", ("POST", "OPTIONS")),
        ("PUT", "/v1/audio/voices", ("POST", "GET", "HEAD", "OPTIONS")),
        ("POST", "/sdapi/v1/loras", ("GET", "HEAD", "OPTIONS")),
        ("PUT", "/upstream/far/v1/embeddings", ("POST", "OPTIONS")),
    ):
        with pytest.raises(errors.MethodNotAllowed) as caught:
            parse(path, b"{}", method=method, read=unread)
        assert caught.value.allow == allow


def test_a_hidden_model_is_as_unknown_as_any(parse) -> None:
    key = ClientKey("k", (re.compile("b"),), admin=False)
    rests = ["", "/", "/x", "/m/x", "/v1/embeddings", "/../x"]
    for name, rest in product(["a", "nope", "far", "p/far", "author/m"], rests):
        payload = parse(f"/upstream/{name}{rest}", b"", key=key)
        assert type(payload) is RawPayload
        assert (payload.requested, payload.path) == (name.partition("/")[0], "")


def test_a_small_body_is_held_and_a_large_one_passes_through(parse) -> None:
    payload = parse("/upstream/a/x", b"body")
    payload.adapt(target(["x"], y=1), "ignored")
    assert (payload.body, payload.is_kept) == (b"body", True)
    body = b"x" * (RESEND_BYTES + 1)
    payload = parse("/upstream/a/x", body)
    pieces = list(payload.body())
    assert b"".join(pieces) == body
    assert len(pieces) > 1
    assert (payload.length, payload.is_kept) == (len(body), False)
    with pytest.raises(errors.BadRequest, match="after 9 of"):
        sent(parse("/upstream/a/x", b"x" * 9, length=RESEND_BYTES + 1))


def test_a_chunked_body_passes_through_up_to_the_limit(parse) -> None:
    payload = parse("/upstream/a/x", b"x" * 9, chunked=True)
    assert (sent(payload), payload.length) == (b"x" * 9, None)
    with pytest.raises(errors.TooLarge):
        sent(parse("/upstream/a/x", b"x" * (2 * MIB + 1), chunked=True))


# --- what all bodies together may take -----------------------------------------------------------


JSON_BODY = b'{"model":"a","x":"%b"}' % (b"x" * 200_000)
SMALL_FORM, LARGE_FORM = (form(("model", "a"), file=b"x" * size) for size in (9, MIB))


@pytest.fixture
def bodies() -> BodyBudget:
    return BodyBudget(runtime("{models: {}, maxBodyMemory: 1.5, maxSpool: 1.5}").config)


@pytest.mark.parametrize(
    ("path", "body", "headers", "expected"),
    [
        ("/v1/chat/completions", JSON_BODY, [], (len(JSON_BODY), 0)),
        ("/v1/chat/completions", gzip.compress(JSON_BODY), GZIP, (len(JSON_BODY), 0)),
        (FORMS, *SMALL_FORM.values(), (len(SMALL_FORM["body"]), 0)),
        (FORMS, *LARGE_FORM.values(), (0, len(LARGE_FORM["body"]))),
        ("/upstream/a/x", b"x" * RESEND_BYTES, [], (RESEND_BYTES, 0)),
        ("/upstream/a/x", b"x" * (RESEND_BYTES + 1), [], (0, 0)),
    ],
    ids=["json", "gzip", "form", "upload", "kept", "passed through"],
)
def test_a_body_is_counted_while_it_is_held_and_refused_without_room(
    parse, bodies, path, body, headers, expected
) -> None:
    for chunked in (False, True):
        share, other = BodyShare(bodies), BodyShare(bodies)
        facts = {"headers": headers, "body_share": share, "chunked": chunked}
        held = (0, 0) if chunked and path.startswith("/upstream") else expected
        payload = parse(path, body, **facts)
        assert (bodies.memory.used_bytes, bodies.disk.used_bytes) == held
        payload.close()
        share.close()
        assert (bodies.memory.used_bytes, bodies.disk.used_bytes) == (0, 0)
        other.in_memory(bodies.memory.limit_bytes - 10)
        other.on_disk(bodies.disk.limit_bytes - 10)
        reads = {} if chunked or headers == GZIP or not any(held) else {"read": unread}
        with pytest.raises(errors.NoRoom) if any(held) else nullcontext():
            parse(path, body, **facts, **reads)
        other.close()


def test_what_is_announced_and_does_not_come_takes_nothing_from_others(parse, bodies) -> None:
    def read(size: int) -> bytes:
        assert bodies.memory.used_bytes == 0
        raise errors.BodyTimeout("it did not come")

    with pytest.raises(errors.BodyTimeout):
        parse(body=b"", length=MIB, body_share=BodyShare(bodies), read=read)


def test_a_rewritten_body_is_counted_beside_the_one_that_came(parse, bodies) -> None:
    payload = parse(body=JSON_BODY, body_share=BodyShare(bodies))
    payload.adapt(target(), "")
    assert bodies.memory.used_bytes == len(JSON_BODY)
    payload.adapt(target(top_k=5), "")
    assert bodies.memory.used_bytes == len(JSON_BODY) + payload.length
