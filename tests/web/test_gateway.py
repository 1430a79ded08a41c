"""The gateway: keys, hosts, errors, health, and the way to what answers."""

import gevent
import pytest
from gevent.event import Event
from werkzeug.test import EnvironBuilder

from llmsnap.errors import BadRequest, StartFailed, TooManyInFlight, UnknownModel
from llmsnap.http.auth import WrongKeys
from llmsnap.proxy import RequestContext, Response
from llmsnap.web import gateway
from llmsnap.web.gateway import Gateway
from tests.fakes.clock import Clock
from tests.parity import parity
from tests.web.serving import site, site_fixture

TEXT = """\
trustedProxies: [10.0.0.1]
models:
  a: {cmd: x, proxy: "http://localhost:1"}
"""
KEYS = TEXT + "apiKeys: [all, {key: some, name: laptop, admin: false}, {key: one, models: [a]}]\n"
locked_site = site_fixture(KEYS, "module")


@pytest.fixture
def here(here):
    here.dispatcher.__init__()
    return here


def proxy_log(of) -> str:
    of.service.deferred.flush()
    return of.service.logs.proxy.snapshot().decode()


class Body:
    """An answer's body that knows whether it was closed."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = iter(pieces)
        self.closed = 0

    def __iter__(self):
        return self.pieces

    def close(self) -> None:
        self.closed += 1


def test_what_models_answer_goes_past_flask(here) -> None:
    served_by = {
        ("POST", "/v1/chat/completions"): "handle",
        ("GET", "/v1/chat/completions"): "handle",
        ("POST", "/v/messages"): "handle",
        ("POST", "/v1/embeddings/"): "handle",
        ("GET", "/v1/realtime?model=a"): "handle",
        ("DELETE", "/upstream/a/x"): "upstream",
        ("GET", "/upstream//a/x"): "upstream",
        ("POST", "/comfyui/prompt"): "upstream",
        ("GET", "/props?model=a"): "props",
        ("HEAD", "/props?x=1&model=a"): "props",
        ("GET", "/health"): 200,  # Flask answers the rest
        ("GET", "/props?model="): 200,
        ("POST", "/props?model=a"): 405,
        ("DELETE", "/props"): 405,
        ("GET", "/upstream"): 302,
        ("GET", "/v1/nothing"): 404,
        ("POST", "/v1/audio/models"): 405,
        ("GET", "/v1/audio/voices"): 200,
    }

    def server(method: str, path: str) -> str | int:
        here.dispatcher.calls.clear()
        answer = here.client.open(path, method=method)
        allowed = {"GET", "HEAD", "OPTIONS"} if answer.status_code == 405 else set()
        assert set(answer.allow) == allowed, path
        if not here.dispatcher.calls:
            return answer.status_code
        ((name, request),) = here.dispatcher.calls
        assert (answer.status_code, request.method) == (200, method), path
        return name

    assert {case: server(*case) for case in served_by} == served_by


def test_an_answer_says_its_id_and_how_long_it_waited_also_in_vain(here, monkeypatch) -> None:
    answer = here.client.post("/v1/embeddings", headers={"X-Request-Id": "mine"})
    assert (answer.status, answer.data) == ("200 OK", b"said")
    assert answer.headers["X-Request-Id"] == "mine"
    assert {"X-Queue-Ms", "X-Load-Ms", "X-Model"} <= set(answer.headers.keys())

    def handle(context: RequestContext, snapshot: object) -> Response:
        context.model_id, context.queue_s, context.load_s = "llama", 0.25, 1.5
        raise StartFailed("llama: no")

    monkeypatch.setattr(here.dispatcher, "handle", handle)
    answer = here.client.post("/v1/embeddings")
    assert answer.status_code == 502
    assert (answer.headers["X-Queue-Ms"], answer.headers["X-Load-Ms"]) == ("250", "1500")
    here.dispatcher.answer = UnknownModel("no such model")
    monkeypatch.undo()
    assert "X-Queue-Ms" not in here.client.post("/v1/embeddings").headers


@pytest.mark.parametrize(("method", "data"), [("POST", b"12345"), ("HEAD", b"")])
def test_a_body_is_closed_and_its_bytes_are_counted(here, method: str, data: bytes) -> None:
    body = Body(b"12", b"345")
    here.dispatcher.answer = Response(200, "OK", [], body)
    path = "/v1/audio/voices?model=a" if method == "HEAD" else "/v1/embeddings"
    assert here.client.open(path, method=method, buffered=True).data == data
    assert body.closed == 1
    plain = path.partition("?")[0]
    assert f'"{method} {plain} HTTP/1.1" 200 {len(data) or -1} ' in proxy_log(here)


@pytest.mark.parametrize("fails", [False, True])
def test_answers_to_anthropics_clients_have_the_request_id_they_read(here, fails: bool) -> None:
    theirs = [("Request-Id", "req_of_the_server"), ("X-Model", "yes")]
    for method, path, headers, anthropic in (
        ("POST", "/v1/messages", {}, True),
        ("POST", "/v1/messages/count_tokens", {}, True),
        ("POST", "/v/messages", {}, True),
        ("GET", "/v1/models", {"anthropic-version": "2023-06-01"}, True),
        ("GET", "/v1/models", {}, False),
        ("POST", "/v1/chat/completions", {}, False),
    ):
        answer = Response(200, "OK", list(theirs), [b""])
        here.dispatcher.answer = TooManyInFlight("x") if fails else answer
        answer = here.client.open(path, method=method, headers={**headers, "X-Request-Id": "mine"})
        ids = answer.headers.getlist("request-id")
        is_passed_on = method == "POST" and not fails
        expected = ["mine"] if anthropic else ["req_of_the_server"] if is_passed_on else []
        assert (ids, answer.headers.getlist("x-request-id")) == (expected, ["mine"]), path


def test_errors_become_answers_and_the_cause_of_a_bug_is_in_the_log_only(here, caplog) -> None:
    here.dispatcher.answer = TooManyInFlight("too many", 3.2)
    answer = here.client.post("/v1/messages", headers={"Origin": "http://localhost:3000"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "4")
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert answer.json["error"]["type"] == "rate_limit_error"
    here.dispatcher.answer = ZeroDivisionError("the cause")
    answer = here.client.post("/v1/embeddings")
    assert (answer.status_code, "the cause" in answer.text) == (500, False)
    assert "the cause" in caplog.text


def test_the_key_goes_with_the_call_and_a_preflight_needs_none(locked_site) -> None:
    locked_site.client.post("/v1/embeddings", headers={"x-api-key": "some"}, buffered=True)
    assert locked_site.dispatcher.calls[-1][1].key.name == "laptop"
    assert "key=laptop" in proxy_log(locked_site)
    answer = locked_site.client.options("/api/activity", headers={"Origin": "https://p.example"})
    assert (answer.status_code, answer.data) == (204, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "*"


@parity("Files and deployments", "`GET /` and `/favicon.ico` need no key: health checks of images")
def test_a_key_opens_what_it_may_and_the_bare_address_needs_none(locked_site) -> None:
    statuses = {
        ("GET", "/api/activity", ""): 401,
        ("GET", "/api/activity", "Authorization: Bearer no"): 401,
        ("GET", "/api/activity", "Authorization: Bearer all"): 200,
        ("GET", "/api/activity", "x-api-key: some"): 403,
        ("GET", "/metrics", "x-api-key: all"): 200,
        ("GET", "/metrics", "x-api-key: some"): 200,
        ("GET", "/metrics", "x-api-key: one"): 403,  # it tells of all models
        ("GET", "/", ""): 302,
        ("HEAD", "/", ""): 302,
        ("GET", "/favicon.ico", ""): 200,
        ("GET", "/", "x-api-key: no"): 401,
        ("POST", "/", ""): 401,
        ("GET", "/ui/", ""): 200,
    }

    def status(method: str, path: str, header: str) -> int:
        headers = [tuple(header.split(": "))] if header else []
        return locked_site.client.open(path, method=method, headers=headers).status_code

    assert {case: status(*case) for case in statuses} == statuses


def test_a_strange_host_is_refused_and_warned_of_once(here, caplog) -> None:
    for host in ["evil.example"] * 3 + [f"e{number}.example" for number in range(200)]:
        answer = here.client.get("/v1/models", headers={"Host": host})
        assert answer.status_code == 421
        assert f'allowedHosts: ["{host}"]' in answer.json["error"]["message"]
    assert caplog.text.count("does not answer for host 'evil.example'") == 1
    assert caplog.text.count("does not answer for host") == 100


def test_another_page_may_open_no_socket_but_to_a_model(here) -> None:
    nearby, far = "http://localhost:3000", "https://page.example"
    statuses = {
        ("/api/events", nearby): 403,
        ("/upstream/a/ws", nearby): 403,
        ("/v1/realtime?model=a", nearby): 200,
        ("/api/events", far): 403,
        ("/upstream/a/ws", far): 403,
        ("/v1/realtime?model=a", far): 403,
    }

    def status(path: str, origin: str) -> int:
        return here.client.get(path, headers={"Upgrade": "websocket", "Origin": origin}).status_code

    assert {case: status(*case) for case in statuses} == statuses


class Noted:
    """Notes from where wrong keys came; each is put off by *wait_s*."""

    def __init__(self) -> None:
        self.wait_s = 0.0
        self.addresses: list[str] = []

    def note(self, address: str) -> float:
        self.addresses.append(address)
        return self.wait_s


@pytest.fixture
def noted(locked_site, monkeypatch) -> Noted:
    made = Noted()
    monkeypatch.setattr(locked_site.service.telemetry, "wrong_keys", made)
    return made


def ask(site, path: str = "/v1/models", **headers: str) -> int:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"headers": headers, "environ_overrides": {"REMOTE_ADDR": "10.0.0.1"}}
    return site.client.get(path, **sent).status_code


def test_wrong_keys_are_noted_and_missing_ones_are_not(locked_site, noted) -> None:
    for headers, status, addresses in (
        ({"x_api_key": "guess"}, 401, ["10.0.0.1"]),
        ({"Authorization": "Bearer guess"}, 401, ["10.0.0.1"]),
        ({"Authorization": "Basic OmE=", "X_Forwarded_For": "1.2.3.4"}, 401, ["1.2.3.4"]),
        ({}, 401, []),
        ({"x_api_key": "some"}, 200, []),
        ({"x_api_key": "some", "Authorization": "Bearer none"}, 200, []),
    ):
        noted.addresses.clear()
        assert (ask(locked_site, **headers), noted.addresses) == (status, addresses), headers
        assert ask(locked_site, "/health", **headers) == 200, headers
        assert noted.addresses == addresses, headers


def test_an_answer_to_a_wrong_key_waits_and_others_do_not(
    locked_site, noted, caplog, monkeypatch
) -> None:
    noted.wait_s, waits, may_go = 3600.0, [], Event()
    monkeypatch.setattr(
        gateway.gevent, "sleep", lambda wait_s: (waits.append(wait_s), may_go.wait())
    )
    waiting = [gevent.spawn(ask, locked_site, x_api_key="guess") for _ in range(2)]
    while len(waits) < 2:
        gevent.idle()
    monkeypatch.setattr(gateway, "MOST_PUT_OFF", 2)
    assert ask(locked_site, x_api_key="guess") == 401, "only so many answers wait at a time"
    assert ask(locked_site, x_api_key="some") == 200
    assert not any(one.ready() for one in waiting)
    may_go.set()
    assert [one.get() for one in waiting] == [401, 401]
    assert caplog.text.count("wrong API keys come from 10.0.0.1") == 1


def test_guessing_takes_a_second_for_each_key_after_ten(locked_site, monkeypatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(gateway.gevent, "sleep", waits.append)
    monkeypatch.setattr(locked_site.service.telemetry, "wrong_keys", WrongKeys(Clock()))
    for number in range(12):
        assert ask(locked_site, x_api_key=f"guess{number}") == 401
    assert waits == [1, 2]
    metrics = locked_site.client.get("/metrics", headers={"x-api-key": "all"}).text
    assert "\nllmsnap_wrong_keys_total 12.0\n" in metrics


@pytest.mark.parametrize(
    ("outcome", "status"),
    [
        (Response(200, "OK", [], Body(b"said")), "200"),
        (BadRequest("no"), "400"),
        (RuntimeError("a bug"), "500"),
        (Response(200, "OK", [("X-Broken", "a\nb")], Body(b"said")), "500"),
    ],
    ids=["answered", "refused", "failed", "not begun"],
)
def test_what_a_request_holds_of_its_body_is_given_back_at_its_end(outcome, status) -> None:
    started: list[str] = []

    def start_response(status: str, headers, exc_info=None):
        if any("\n" in value for _, value in headers):
            raise ValueError("a header of the answer has a line break in it")
        started.append(status)

    def handle(context, snapshot) -> Response:
        context.request.body_share.in_memory(5)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    with site(TEXT) as made:
        made.dispatcher.handle = handle
        environ = EnvironBuilder("/v1/embeddings", method="POST", json={"model": "a"}).get_environ()
        body = Gateway(None, lambda: made.service)(environ, start_response)
        used = made.service.bodies.memory
        assert used.used_bytes == 5
        assert b"".join(body)
        body.close()
        assert used.used_bytes == 0
    assert [one[:3] for one in started] == [status]
    if isinstance(outcome, Response):
        assert outcome.body.closed == 1


@pytest.mark.parametrize(
    ("path", "at_the_end"), [("/health", 200), ("/wol-health", 200), ("/ready", 503)]
)
def test_a_server_that_serves_is_healthy_and_ready_and_one_that_ends_healthy(
    here, path, at_the_end, monkeypatch
) -> None:
    answer = here.client.get(path)
    assert (answer.status, answer.text, answer.mimetype) == ("200 OK", "OK", "text/plain")
    assert "X-Queue-Ms" not in answer.headers
    assert here.client.head(path).status_code == 200
    answer = here.client.post(path)
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
    monkeypatch.setattr(here.service, "accepts", False)
    assert here.client.get(path).status_code == at_the_end
    answer = here.client.post("/v1/embeddings")
    assert (answer.status_code, answer.json["error"]["code"]) == (503, "draining")
