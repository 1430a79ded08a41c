import json
from typing import Any

from llmsnap.http.auth import ClientKey
from llmsnap.logs.handler import LogHandler, LogStyle
from llmsnap.logs.stream import LogStream
from llmsnap.proxy import Request, RequestContext
from llmsnap.web import accesslog
from llmsnap.web.accesslog import AccessEntry
from tests.fakes.calls import make_request


def ended(**facts: Any) -> RequestContext:
    """A request that has ended; *facts* of it or of its context."""
    given = {"method": "POST", "client_ip": "10.0.0.7", "status": 200, **facts}
    path = given.pop("path", "/v1/chat/completions")
    request = make_request(
        f"{path}?api_key=secret", id="7f3a-1", received_at=100.0, user_agent="curl/8.0"
    )
    context = RequestContext(request)
    for name, value in given.items():
        setattr(request if name in Request.__struct_fields__ else context, name, value)
    return context


def served() -> RequestContext:
    return ended(
        key=ClientKey(name="wiki"), requested="fast", model_id="llama", queue_s=3.1, load_s=8.2,
        first_byte_at=111.7, swap_id=4,
    )  # fmt: skip


def test_a_line_tells_who_asked_for_what_and_where_the_time_went_as_text_or_as_fields() -> None:
    entry = AccessEntry(served(), 4711, 12.7)
    assert str(entry) == (
        '10.0.0.7 "POST /v1/chat/completions HTTP/1.1" 200 4711 "curl/8.0" 12700.0ms'
        " key=wiki model=fast served=llama queue_ms=3100.0 load_ms=8200.0 first_byte_ms=11700.0"
    )
    known = {
        "client": "10.0.0.7", "method": "POST", "path": "/v1/chat/completions",
        "protocol": "HTTP/1.1", "status": 200, "bytes": 4711, "user_agent": "curl/8.0",
        "total_ms": 12700.0,
    }  # fmt: skip
    of_models = {
        "key": "wiki", "model_requested": "fast", "model_served": "llama", "queue_ms": 3100.0,
        "load_ms": 8200.0, "first_byte_ms": 11700.0,
    }  # fmt: skip
    assert entry.fields() == known | of_models
    access = AccessEntry(ended(path="/running"), 0, 0.001)
    assert str(access) == '10.0.0.7 "POST /running HTTP/1.1" 200 -1 "curl/8.0" 1.0ms'
    fields = access.fields()
    assert fields["bytes"] == 0
    assert {name for name, value in fields.items() if value is None} == of_models.keys()


def test_a_client_cannot_make_up_other_values() -> None:
    for facts, shown in (
        ({"path": '/x" 200 1 "'}, r'"POST /x\" 200 1 \" HTTP/1.1" 200'),
        ({"user_agent": 'a"b\\'}, r'"a\"b\\" '),
        ({"requested": 'x served=y "z"'}, r'model="x served=y \"z\""'),
        ({"requested": "author/model-1.5:Q4_K@x+y"}, "model=author/model-1.5:Q4_K@x+y"),
        ({"client_ip": ""}, '- "POST'),
    ):
        assert shown in str(AccessEntry(ended(**facts), 1, 0.0))


def log(*contexts: RequestContext, level: str = "info", as_json: bool = False) -> str:
    """What requests that ended leave in the proxy log."""
    stream = LogStream("proxy")
    handler = LogHandler(stream, style=LogStyle(as_json=as_json), level=level)
    for one in contexts:
        accesslog.write(handler, one, 1)
    return stream.snapshot().decode()


def test_a_line_carries_the_ids_of_request_and_swap_and_no_query() -> None:
    text = log(served())
    assert text.startswith('[INFO] 10.0.0.7 "POST ')
    assert text.endswith(" request_id=7f3a-1 swap_id=4\n")
    assert "secret" not in text
    assert "\n[" not in log(ended(path="/x\n[ERROR] made up"))
    assert log(served(), level="warn") == ""


def test_as_json_each_line_is_one_object() -> None:
    text = log(served(), ended(path='/ä\n"'), as_json=True)
    first, second = map(json.loads, text.splitlines())
    assert first["time"].endswith("Z")
    assert (first["level"], first["message"]) == ("info", "request")
    assert (first["request_id"], first["swap_id"]) == ("7f3a-1", 4)
    assert first["model_served"] == "llama"
    assert (second["path"], "swap_id" in second) == ('/ä\n"', False)


AGAIN = ("/health", "/wol-health", "/metrics", "/ui/", "/ui/static/1/app.js", "/api/performance")
ONCE = ("/v1/models", "/running", "/logs", "/api/captures/1", "/api/config/file", "/uix")


def test_what_is_asked_again_and_again_is_for_debugging() -> None:
    for path in AGAIN + ONCE:
        look = {"method": "GET", "path": path}
        if path in AGAIN:
            assert log(ended(**look)) == "", path
            assert log(ended(**look), level="debug").startswith("[DEBUG] 10.0.0.7"), path
            look["status"] = 503  # a failure is news
        assert log(ended(**look)).startswith("[INFO] 10.0.0.7"), path
    assert log(ended(path="/health")).startswith("[INFO] 10.0.0.7")
