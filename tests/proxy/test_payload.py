"""Facts about llmsnap.proxy.payload."""

import gzip
import re
from contextlib import nullcontext
from itertools import product
from urllib.parse import quote, unquote

import pytest

from llmsnap import errors
from llmsnap.http.auth import ClientKey
from llmsnap.http.headers import RequestRule
from llmsnap.http.routes import INFERENCE_PATHS, RESOURCES, ROUTES, ModelPlace
from llmsnap.proxy.client import UpstreamTimeouts
from llmsnap.proxy.jsonbody import CompiledFilter
from llmsnap.proxy.payload import (
    RESEND_BYTES,
    RawPayload,
    parse_message,
    parse_request,
    parse_upstream,
    read_body,
)
from llmsnap.proxy.request import BodyBudget, BodyShare, UpstreamSettings
from tests.fakes.calls import make_request, runtime
from tests.parity import parity

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


def target(strip=(), **settings) -> UpstreamSettings:
    return UpstreamSettings(
        RequestRule(), CompiledFilter.from_settings(strip, settings), UpstreamTimeouts()
    )


def form(*fields: tuple[str, str], file: bytes = b"") -> tuple[bytes, list]:
    parts = [f'Content-Disposition: form-data; name="{k}"\r\n\r\n{v}'.encode() for k, v in fields]
    if file:
        head = b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        parts.append(head + file)
    body = b"".join(b"--b\r\n%b\r\n" % part for part in parts) + b"--b--\r\n"
    return body, [("Content-Type", "multipart/form-data; boundary=b")]


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


def test_a_body_is_known_by_its_fields(snapshot) -> None:
    payload = parse_request(make_request(body={"model": "a", "stream": True}), snapshot)
    assert (payload.requested, payload.stream, payload.path) == ("a", True, "/v1/chat/completions")
    assert payload.length == len(payload.body)
    body, headers = form(("model", "a"), ("stream", "true"), file=b"x" * 9)
    payload = parse_request(make_request(FORMS, body, headers=headers), snapshot)
    assert (payload.requested, payload.stream) == ("a", True)
    assert b"".join(payload.body()) == body
    assert payload.length == len(body)
    assert not isinstance(payload.body, bytes), "no copy of an upload is made"
    payload.close()


@parity(
    "Errors and keys",
    "the route decides between JSON and form; JSON without its content type is 404",
    "the content type decides; JSON without one is read",
)
@pytest.mark.parametrize("path", POSTS)
def test_a_body_is_what_its_content_type_says_on_every_route(snapshot, path: str) -> None:
    for kind in ("APPLICATION/JSON; charset=utf-8", "text/plain", ""):
        headers = [("Content-Type", kind)] if kind else []
        asked = make_request(path, b'{"model":"a", "x":1e3}', headers=headers)
        payload = parse_request(asked, snapshot)
        assert (payload.requested, payload.body) == ("a", b'{"model":"a", "x":1e3}')
    body, _ = form(("model", "a"), file=b"x")
    for kind in ("Multipart/Form-Data; boundary=b", ' multipart/form-data;boundary="b"'):
        asked = make_request(path, body, headers=[("Content-Type", kind)])
        payload = parse_request(asked, snapshot)
        assert (payload.requested, b"".join(payload.body())) == ("a", body)
        payload.close()


@parity("Audio tasks", "`POST /audioapi/v1/tasks/run`, sent on without `/audioapi`")
@pytest.mark.parametrize(
    ("path", "sent"),
    [
        *((f"/{name}", f"/v1/{name}") for name in ("chat/completions", "embeddings", "messages")),
        ("/audioapi/v1/tasks/run", "/v1/tasks/run"),
        ("/v/embeddings", "/embeddings"),
    ],
)
def test_some_paths_go_on_as_others(snapshot, path: str, sent: str) -> None:
    payload = parse_request(make_request(f"{path}?q=1", b'{"model":"a"}'), snapshot)
    payload.adapt(target(), "b")
    assert (payload.requested, payload.path) == ("a", f"{sent}?q=1")
    assert payload.body == b'{"model":"b"}'


@pytest.mark.parametrize("path", [*POSTS, "/v1/audio/voices"])
def test_the_model_may_be_named_in_the_query(snapshot, path: str) -> None:
    body = None if path.endswith("voices") else b'{"x":1}'
    payload = parse_request(make_request(f"{path}?x=1&model=author%2Fm", body), snapshot)
    payload.adapt(target(), "new name")
    assert payload.requested == "author/m"
    assert payload.path == f"{RESOURCES[path].sent_path}?model=new%20name&x=1"
    assert payload.body == (b'{"x":1,"model":"new name"}' if body else b"")


# --- rewriting ----------------------------------------------------------------------------------


def test_every_target_adapts_the_request_the_client_sent(snapshot) -> None:
    payload = parse_request(make_request(body={"model": "a", "keep": 1}), snapshot)
    payload.adapt(target(["keep"], top_k=5, stream=True), "other")
    assert payload.body == b'{"model": "other","stream":true,"top_k":5}'
    assert payload.stream
    payload.adapt(target(), "")
    assert payload.body == b'{"model": "a", "keep": 1}'
    body, headers = form(("model", "a"), ("keep", "1"), file=b"x")
    payload = parse_request(make_request(FORMS, body, headers=headers), snapshot)
    payload.adapt(target(["keep"], top_k=5), "other")
    first = b"".join(payload.body())
    assert [part in first for part in (b"other", b"keep", b"top_k")] == [True, False, True]
    assert payload.length == len(first)
    payload.adapt(target(), "")
    assert b"".join(payload.body()) == body
    payload.close()


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
def test_a_compressed_request_goes_on_plain_or_is_refused(
    snapshot, encoding: str, body: bytes | None, outcome
) -> None:
    reads = {"read": unread} if body is None else {}
    headers = [("Content-Encoding", encoding)]
    asked = make_request(body=body or b"", headers=headers, **reads)
    if isinstance(outcome, bytes):
        payload = parse_request(asked, snapshot)
        assert (payload.body, payload.drops) == (outcome, {"content-encoding"})
    else:
        with pytest.raises(outcome):
            parse_request(asked, snapshot)


def test_a_compressed_form_is_refused(snapshot) -> None:
    body, headers = form(("model", "a"))
    with pytest.raises(errors.UnsupportedEncoding):
        parse_request(make_request(FORMS, body, headers=[*headers, *GZIP]), snapshot)
    plain = [*headers, ("Content-Encoding", "identity")]
    payload = parse_request(make_request(FORMS, body, headers=plain), snapshot)
    assert payload.drops == {"content-encoding"}
    payload.close()


@pytest.mark.parametrize(
    ("values", "path"),
    [
        (b"[" + b"1," * 40_000 + b"1]", "x.0"),
        (b"[" + b"1," * 2_000_000 + b"1]", "x.-1"),
        (b"{" + b'"a":1,' * 40_000 + b'"a":1}', "x.b"),
        (b'{"a":[' + b'"\\ud83d",' * 40_000 + b"1]}", "x.a.0"),
    ],
)
def test_a_filter_takes_no_huge_collection_apart(snapshot, values: bytes, path: str) -> None:
    body = b'{"model":"a","x":' + values + b"}"
    payload = parse_request(make_request(body=body), runtime("maxRequestBody: 10"))
    payload.adapt(target(["y.z"]), "")
    with pytest.raises(errors.BadRequest, match="as filters say: more than 16384"):
        payload.adapt(target([path]), "")


def unread(size: int) -> bytes:
    pytest.fail(f"{size} bytes were read of a body that is too large")


@pytest.mark.parametrize(
    ("path", "method", "limit"),
    [
        ("/v1/chat/completions", "POST", MIB),
        ("/v1/images/edits", "POST", 2 * MIB),
        ("/v1/realtime?model=a", "GET", 2 * MIB),
    ],
)
def test_a_body_said_to_be_too_large_is_not_read(snapshot, path, method, limit: int) -> None:
    large = make_request(path, b"", method=method, length=limit + 1, read=unread)
    with pytest.raises(errors.TooLarge, match=r"max(RequestBody|Upload)"):
        parse_request(large, snapshot)


def test_a_body_is_read_up_to_the_limit_and_its_end(snapshot) -> None:
    assert read_body(make_request(body=b"x" * 10, chunked=True), 10) == b"x" * 10
    with pytest.raises(errors.TooLarge):
        read_body(make_request(body=b"x" * 11, chunked=True), 10)
    with pytest.raises(errors.BadRequest, match="after 3 of 10 bytes"):
        read_body(make_request(body=b"abc", length=10), 100)
    with pytest.raises(errors.TooLarge, match="maxRequestBody"):
        parse_request(make_request("/v1/images/edits", b" " * (MIB + 1)), snapshot)


# --- below /upstream ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "prefix", "rest"),
    [
        ("/upstream/a/", "a", "/upstream/a", "/"),
        ("/upstream/a", "a", "/upstream/a", ""),
        ("/upstream/a?q", "a", "/upstream/a", "?q"),
        ("/upstream/author/m/a%2Fb?q=%20", "author/m", "/upstream/author/m", "/a%2Fb?q=%20"),
        ("/upstream/author%2Fm//x/", "author/m", "/upstream/author%2Fm", "//x/"),
        ("/upstream/%C3%BC%20b/x", "ü b", "/upstream/%C3%BC%20b", "/x"),
        ("/upstream//a/x", "a", "/upstream//a", "/x"),
        ("/upstream/zz/x/y", "zz", "/upstream/zz/x/y", ""),
    ],
)
def test_the_longest_name_is_the_models_and_the_rest_stays(
    snapshot, path: str, name: str, prefix: str, rest: str
) -> None:
    payload = parse_upstream(make_request(path), snapshot)
    assert (payload.requested, payload.prefix, payload.path) == (name, prefix, rest)
    with pytest.raises(errors.NotFound):
        parse_upstream(make_request("/upstream//"), snapshot)


@pytest.mark.parametrize("rest", ["/../admin", "/v1/../../slots", "/%252e%2e%2fx", "/x\\..\\..\\y"])
def test_no_path_leaves_the_base_of_a_server(snapshot, rest: str) -> None:
    names = ["a", "author/m", "author%2Fm", "far", "p/far"]
    for name, key, method in product(names, KEYS, ("GET", "POST")):
        asked = make_request(f"/upstream/{name}{rest}", b"", method=method, key=key, read=unread)
        with pytest.raises(errors.BadRequest):
            parse_upstream(asked, snapshot)


BELOW = """
    / /slots/0?action=erase /release_memory_occupation /v1/models /v1/chat/completions/x
    /v1%2Fchat/completions //v1/chat/completions /V1/chat/completions /x?q=/v1/embeddings /props
"""


@pytest.mark.parametrize("rest", BELOW.split())
def test_a_key_without_the_right_reaches_inference_only(snapshot, rest: str) -> None:
    for key in (ClientKey("k", admin=False), ClientKey("k", (re.compile("a"),), admin=False)):
        asked = make_request(f"/upstream/a{rest}", b"", key=key, read=unread, length=9)
        with pytest.raises(errors.Forbidden, match="the key 'k' may use inference routes only"):
            parse_upstream(asked, snapshot)
    for key in (ClientKey("k"), ClientKey("k", admin=False, upstream=True)):
        payload = parse_upstream(make_request(f"/upstream/a{rest}", b"", key=key), snapshot)
        assert (payload.requested, payload.path) == ("a", rest)


@pytest.mark.parametrize("path", sorted(INFERENCE_PATHS))
def test_a_key_without_the_right_reaches_all_inference(snapshot, path: str) -> None:
    key = ClientKey("k", admin=False)
    payload = parse_upstream(make_request(f"/upstream/a{path}?q=%20", b"raw", key=key), snapshot)
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
def test_a_key_with_limits_names_the_model_of_the_path_or_none(snapshot, name, named, fine) -> None:
    """The server may have other models than the one that was authorised."""
    key = ClientKey("k", (re.compile("author/m"),), admin=False)
    model = {"model": named} if named else {}
    body, headers = form(*model.items(), ("x", "1"))
    query = f"model={quote(named, safe='')}" if named else ""
    for asked in (
        make_request(f"/upstream/{name}/v1/embeddings", {**model, "Model": "a"}, key=key),
        make_request(f"/upstream/{name}/v1/images/edits", body, headers=headers, key=key),
        make_request(f"/upstream/{name}/v1/audio/voices?{query}", key=key),
    ):
        if not fine:
            with pytest.raises(errors.BadRequest, match="the path names the model"):
                parse_upstream(asked, snapshot)
            continue
        payload = parse_upstream(asked, snapshot)
        assert payload.requested == unquote(name)
        payload.adapt(target(), "")
        sent = payload.body
        assert b'"a"' not in (sent if isinstance(sent, bytes) else b"".join(sent()))
        payload.close()


@pytest.mark.parametrize("rest", ["/", "/v1/models", "/unload", "/upstream/x/", "/v1%2Fembeddings"])
@pytest.mark.parametrize("name", ["far", "p/far", "org/far"])
def test_a_peer_answers_inference_only(snapshot, name: str, rest: str) -> None:
    for key in KEYS:
        asked = make_request(f"/upstream/{name}{rest}", b"", key=key, read=unread, length=9)
        with pytest.raises(errors.BadRequest, match="peers answer inference routes only"):
            parse_upstream(asked, snapshot)


@pytest.mark.parametrize("name", ["far", "p/far"])
@pytest.mark.parametrize("named", ["far", "p/far", "org/far", ""])
def test_what_goes_to_a_peer_names_the_model_of_the_path(snapshot, name: str, named: str) -> None:
    body, headers = form(("model", named))
    asked = [
        make_request(f"/upstream/{name}/v1/embeddings?x=1", {"model": named, "input": 1}),
        make_request(f"/upstream/{name}/v1/images/edits?x=1", body, headers=headers),
        make_request(f"/upstream/{name}/v1/audio/voices?x=1&model={named}"),
    ]
    for one in asked:
        if named not in {"far", name}:
            with pytest.raises(errors.BadRequest, match="model"):
                parse_upstream(one, snapshot)
            continue
        payload = parse_upstream(one, snapshot)
        assert (payload.requested, payload.prefix) == (name, f"/upstream/{name}")
        payload.adapt(target(), "far")
        assert payload.path.partition("?")[0] in INFERENCE_PATHS
        sent = payload.body
        sent = sent if isinstance(sent, bytes) else b"".join(sent())
        assert b"far" in sent or "model=far" in payload.path
        assert b"p/far" not in sent
        payload.close()


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", ("POST", "OPTIONS")),
        ("PUT", "/v1/audio/voices", ("POST", "GET", "HEAD", "OPTIONS")),
        ("POST", "/sdapi/v1/loras", ("GET", "HEAD", "OPTIONS")),
        ("PUT", "/upstream/far/v1/embeddings", ("POST", "OPTIONS")),
    ],
)
def test_a_wrong_method_is_delivered_the_right_ones(snapshot, method, path, allow) -> None:
    parse = parse_upstream if path.startswith("/upstream") else parse_request
    with pytest.raises(errors.MethodNotAllowed) as caught:
        parse(make_request(path, b"{}", method=method, read=unread), snapshot)
    assert caught.value.allow == allow


@pytest.mark.parametrize("rest", ["", "/", "/x", "/m/x", "/v1/embeddings", "/../x"])
def test_a_hidden_model_is_as_unknown_as_any(snapshot, rest: str) -> None:
    key = ClientKey("k", (re.compile("b"),), admin=False)
    facts = []
    for name in ("a", "nope", "far", "p/far", "author/m"):
        payload = parse_upstream(make_request(f"/upstream/{name}{rest}", b"", key=key), snapshot)
        facts.append((payload.requested, payload.path, type(payload)))
    assert facts == [(name, "", RawPayload) for name in ("a", "nope", "far", "p", "author")]


def test_a_small_body_is_held_and_a_large_one_passes_through(snapshot) -> None:
    payload = parse_upstream(make_request("/upstream/a/x", b"body"), snapshot)
    payload.adapt(target(["x"], y=1), "ignored")
    assert (payload.body, payload.is_kept) == (b"body", True)
    body = b"x" * (RESEND_BYTES + 1)
    payload = parse_upstream(make_request("/upstream/a/x", body), snapshot)
    pieces = list(payload.body())
    assert b"".join(pieces) == body
    assert len(pieces) > 1
    assert (payload.length, payload.is_kept) == (len(body), False)
    asked = make_request("/upstream/a/x", b"x" * 9, length=RESEND_BYTES + 1)
    with pytest.raises(errors.BadRequest, match="after 9 of"):
        list(parse_upstream(asked, snapshot).body())


def test_a_chunked_body_passes_through_up_to_the_limit(snapshot) -> None:
    payload = parse_upstream(make_request("/upstream/a/x", b"x" * 9, chunked=True), snapshot)
    assert (b"".join(payload.body()), payload.length) == (b"x" * 9, None)
    payload = parse_upstream(
        make_request("/upstream/a/x", b"x" * (2 * MIB + 1), chunked=True), snapshot
    )
    with pytest.raises(errors.TooLarge):
        list(payload.body())


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
        (FORMS, *SMALL_FORM, (len(SMALL_FORM[0]), 0)),
        (FORMS, *LARGE_FORM, (0, len(LARGE_FORM[0]))),
        ("/upstream/a/x", b"x" * RESEND_BYTES, [], (RESEND_BYTES, 0)),
        ("/upstream/a/x", b"x" * (RESEND_BYTES + 1), [], (0, 0)),
    ],
    ids=["json", "gzip", "form", "upload", "kept", "passed through"],
)
def test_a_body_is_counted_while_it_is_held_and_refused_where_others_leave_no_room(
    snapshot, bodies, path, body, headers, expected
) -> None:
    is_upstream = path.startswith("/upstream")
    parse = parse_upstream if is_upstream else parse_request
    for chunked in (False, True):
        share, other = BodyShare(bodies), BodyShare(bodies)
        facts = {"headers": headers, "body_share": share, "chunked": chunked}
        held = (0, 0) if is_upstream and chunked else expected
        payload = parse(make_request(path, body, **facts), snapshot)
        assert (bodies.memory.used_bytes, bodies.disk.used_bytes) == held
        payload.close()
        share.close()
        assert (bodies.memory.used_bytes, bodies.disk.used_bytes) == (0, 0)
        other.in_memory(bodies.memory.limit_bytes - 10)
        other.on_disk(bodies.disk.limit_bytes - 10)
        reads = {} if chunked or headers == GZIP or not any(held) else {"read": unread}
        with pytest.raises(errors.NoRoom) if any(held) else nullcontext():
            parse(make_request(path, body, **facts, **reads), snapshot)
        other.close()


def test_what_is_announced_and_does_not_come_takes_nothing_from_others(snapshot, bodies) -> None:
    def read(size: int) -> bytes:
        assert bodies.memory.used_bytes == 0
        raise errors.BodyTimeout("it did not come")

    made = make_request(body=b"", length=MIB, body_share=BodyShare(bodies), read=read)
    with pytest.raises(errors.BodyTimeout):
        parse_request(made, snapshot)


def test_a_rewritten_body_is_counted_beside_the_one_that_came(snapshot, bodies) -> None:
    payload = parse_request(make_request(body=JSON_BODY, body_share=BodyShare(bodies)), snapshot)
    payload.adapt(target(), "")
    assert bodies.memory.used_bytes == len(JSON_BODY)
    payload.adapt(target(top_k=5), "")
    assert bodies.memory.used_bytes == len(JSON_BODY) + payload.length
