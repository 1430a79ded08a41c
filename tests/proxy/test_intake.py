"""Facts about llmsnap.proxy.intake."""

import gzip

import pytest

from llmsnap.errors import (
    BadRequest,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    UnsupportedEncoding,
)
from llmsnap.proxy.client import Limits
from llmsnap.proxy.filters import CompiledFilter
from llmsnap.proxy.intake import RESEND_BYTES, read_body, take_in, take_in_upstream
from llmsnap.proxy.target import Target
from llmsnap.wire.headers import RequestRule
from tests.fakes.calls import call, runtime

MIB = 1 << 20


@pytest.fixture(scope="module")
def snapshot():
    return runtime("""\
        maxRequestBody: 1
        maxUpload: 2
        models:
          a: {cmd: x, proxy: "http://localhost:1"}
          author/m: {cmd: x, proxy: "http://localhost:1", aliases: [ü b]}
        """)


def target(strip=(), **settings) -> Target:
    return Target(RequestRule(), CompiledFilter.from_settings(strip, settings), Limits())


def form(*fields: tuple[str, str], file: bytes = b"") -> tuple[bytes, list]:
    parts = [f'Content-Disposition: form-data; name="{k}"\r\n\r\n{v}'.encode() for k, v in fields]
    if file:
        head = b'Content-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        parts.append(head + file)
    body = b"".join(b"--b\r\n%b\r\n" % part for part in parts) + b"--b--\r\n"
    return body, [("Content-Type", "multipart/form-data; boundary=b")]


# --- which kind ---------------------------------------------------------------------------------


def test_a_json_request_is_known_by_its_top_level(snapshot) -> None:
    work = take_in(call(body={"model": "a", "stream": True}), snapshot)
    assert (work.requested, work.stream, work.path) == ("a", True, "/v1/chat/completions")
    assert work.body() == b'{"model": "a", "stream": true}'
    assert work.length == len(work.body())


def test_an_upload_is_known_by_its_fields(snapshot) -> None:
    body, headers = form(("model", "a"), ("stream", "true"), file=b"x" * 9)
    work = take_in(call("/v1/audio/transcriptions", body, headers=headers), snapshot)
    assert (work.requested, work.stream) == ("a", True)
    assert b"".join(work.body()()) == body
    assert work.length == len(body)
    assert work.held() == b"", "no copy of an upload is made"
    work.close()


def test_the_query_names_the_model_where_the_form_does_not(snapshot) -> None:
    body, headers = form(("x", "1"))
    for query in ("model=a", "xmodel=z&model=a"):
        work = take_in(call(f"/v1/images/edits?{query}", body, headers=headers), snapshot)
        assert work.requested == "a"
        work.close()


def test_a_query_names_the_model(snapshot) -> None:
    work = take_in(call("/v1/audio/voices?x=1&model=author%2Fm"), snapshot)
    assert (work.requested, work.body(), work.length) == ("author/m", b"", 0)
    assert work.path == "/v1/audio/voices?x=1&model=author%2Fm"
    work.adapt(target(), "new name")
    assert work.path == "/v1/audio/voices?model=new%20name&x=1"


def test_without_its_version_a_path_goes_on_without_one(snapshot) -> None:
    work = take_in(call("/v/embeddings?q=1", {"model": "a"}), snapshot)
    assert work.path == "/embeddings?q=1"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", ("POST", "OPTIONS")),
        ("GET", "/v1/images/edits", ("POST", "OPTIONS")),
        ("PUT", "/v1/audio/voices", ("POST", "GET", "HEAD", "OPTIONS")),
        ("POST", "/sdapi/v1/loras", ("GET", "HEAD", "OPTIONS")),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(snapshot, method, path, allow) -> None:
    with pytest.raises(MethodNotAllowed) as caught:
        take_in(call(path, method=method), snapshot)
    assert caught.value.allow == allow


# --- rewriting ----------------------------------------------------------------------------------


def test_every_target_adapts_the_request_the_client_sent(snapshot) -> None:
    work = take_in(call(body={"model": "a", "keep": 1}), snapshot)
    work.adapt(target(["keep"], top_k=5), "other")
    assert work.body() == b'{"model": "other","top_k":5}'
    work.adapt(target(), "")
    assert work.body() == b'{"model": "a", "keep": 1}'


def test_every_target_adapts_the_form_the_client_sent(snapshot) -> None:
    body, headers = form(("model", "a"), ("keep", "1"), file=b"x")
    work = take_in(call("/v1/audio/transcriptions", body, headers=headers), snapshot)
    work.adapt(target(["keep"], top_k=5), "other")
    first = b"".join(work.body()())
    assert b"other" in first
    assert b"keep" not in first
    assert b"top_k" in first
    assert work.length == len(first)
    work.adapt(target(), "")
    assert b"".join(work.body()()) == body
    work.close()


def test_a_filter_may_make_a_stream_of_it(snapshot) -> None:
    work = take_in(call(body={"model": "a"}), snapshot)
    work.adapt(target(stream=True), "")
    assert work.stream


# --- encodings and limits -----------------------------------------------------------------------


def test_a_compressed_request_goes_on_plain(snapshot) -> None:
    headers = [("Content-Encoding", "GZIP")]
    work = take_in(call(body=gzip.compress(b'{"model":"a"}'), headers=headers), snapshot)
    assert work.body() == b'{"model":"a"}'
    assert work.drops == {"content-encoding"}


@pytest.mark.parametrize(
    ("encoding", "body", "error"),
    [
        ("br", b"{}", UnsupportedEncoding),
        ("gzip, gzip", b"{}", UnsupportedEncoding),
        ("gzip", b'{"model":"a"}', BadRequest),
        ("gzip", gzip.compress(b'{"model":"a"}')[:-9], BadRequest),
        ("gzip", b"", BadRequest),
        ("gzip", gzip.compress(b" " * (2 * MIB)), TooLarge),
    ],
)
def test_what_cannot_be_decompressed_is_said(snapshot, encoding, body, error) -> None:
    with pytest.raises(error):
        take_in(call(body=body, headers=[("Content-Encoding", encoding)]), snapshot)


@pytest.mark.parametrize("encoding", ["identity", "Identity, ", ""])
def test_a_body_that_is_said_to_be_as_it_is_passes(snapshot, encoding: str) -> None:
    headers = [("Content-Encoding", encoding)] if encoding else []
    work = take_in(call(body=b'{"model":"a"}', headers=headers), snapshot)
    assert work.body() == b'{"model":"a"}'
    assert work.drops == ({"content-encoding"} if encoding else frozenset())


def test_an_unknown_coding_is_refused_before_the_body_is_read(snapshot) -> None:
    headers = [("Content-Encoding", "br")]
    with pytest.raises(UnsupportedEncoding):
        take_in(call(body=b"{}", headers=headers, read=unread), snapshot)


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
    work = take_in(call(body=body), runtime("maxRequestBody: 10"))
    work.adapt(target(["y.z"]), "")
    with pytest.raises(BadRequest, match="as filters say: more than 32768"):
        work.adapt(target([path]), "")


def unread(size: int) -> bytes:
    pytest.fail(f"{size} bytes were read of a body that is too large")


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/v1/chat/completions", MIB), ("/v1/images/edits", 2 * MIB), ("/v1/realtime?model=a", 0)],
)
def test_a_body_said_to_be_too_large_is_not_read(snapshot, path: str, limit: int) -> None:
    method = "GET" if "?" in path else "POST"
    large = call(path, b"", method=method, length=(limit or 2 * MIB) + 1, read=unread)
    with pytest.raises(TooLarge, match=r"max(RequestBody|Upload)"):
        take_in(large, snapshot)


def test_a_chunked_body_is_read_up_to_the_limit(snapshot) -> None:
    assert read_body(call(body=b"x" * 10, chunked=True), 10) == b"x" * 10
    with pytest.raises(TooLarge):
        read_body(call(body=b"x" * 11, chunked=True), 10)


def test_a_body_that_ends_early_is_the_clients_fault(snapshot) -> None:
    with pytest.raises(BadRequest, match="after 3 of 10 bytes"):
        read_body(call(body=b"abc", length=10), 100)


# --- below /upstream ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "name", "prefix", "rest"),
    [
        ("/upstream/a/x", "a", "/upstream/a", "/x"),
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
    work = take_in_upstream(call(path), snapshot)
    assert (work.requested, work.prefix, work.path) == (name, prefix, rest)


def test_without_a_name_there_is_nothing(snapshot) -> None:
    with pytest.raises(NotFound):
        take_in_upstream(call("/upstream//"), snapshot)


def test_a_small_body_is_held_and_can_be_sent_again(snapshot) -> None:
    work = take_in_upstream(call("/upstream/a/x", b"body"), snapshot)
    work.adapt(target(["x"], y=1), "ignored")
    assert work.body() == work.held() == b"body"
    assert work.is_kept


def test_a_large_body_passes_through(snapshot) -> None:
    body = b"x" * (RESEND_BYTES + 1)
    work = take_in_upstream(call("/upstream/a/x", body), snapshot)
    pieces = list(work.body()())
    assert b"".join(pieces) == body
    assert len(pieces) > 1
    assert (work.length, work.held(), work.is_kept) == (len(body), b"", False)


def test_a_large_body_that_ends_early_is_told_from_an_upstreams_end(snapshot) -> None:
    work = take_in_upstream(call("/upstream/a/x", b"x" * 9, length=RESEND_BYTES + 1), snapshot)
    with pytest.raises(BadRequest, match="after 9 of"):
        list(work.body()())


def test_a_chunked_body_passes_through_up_to_the_limit(snapshot) -> None:
    work = take_in_upstream(call("/upstream/a/x", b"x" * 9, chunked=True), snapshot)
    assert (b"".join(work.body()()), work.length) == (b"x" * 9, None)
    work = take_in_upstream(call("/upstream/a/x", b"x" * (2 * MIB + 1), chunked=True), snapshot)
    with pytest.raises(TooLarge):
        list(work.body()())
