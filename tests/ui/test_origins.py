"""A real browser keeps pages of other sites, and of models, from acting in our name.

On this machine's own address, where browsers say which page a request is for, and on one that is
not loopback, where over plain HTTP they do not.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from gevent import socket

from tests.fakes.ports import free_port, free_ports
from tests.ui import servers
from tests.ui.servers import ROOT, Server

pytestmark = pytest.mark.e2e

ADDRESSES = [each for found in psutil.net_if_addrs().values() for each in found]
HOSTS = [each.address for each in ADDRESSES if each.family == socket.AF_INET]
LAN = next((host for host in HOSTS if not host.startswith("127.")), "")
needs_lan = pytest.mark.skipif(not LAN, reason="this machine has no address but loopback")
SITE = [sys.executable, str(ROOT / "tests/fakes/website.py")]
MODELS = """\
startPort: {port}
models:
  a: {{cmd: "{site} --port ${{PORT}}"}}
  b: {{cmd: "{site} --port ${{PORT}}"}}
"""
KEYS = MODELS + "apiKeys: [secret]\n"
SEPARATE = MODELS + "uiOrigin: separate\n"

SHOW = """
    const [kind, address, done] = arguments;
    const made = document.createElement(kind);
    made.onload = () => done("load");
    made.onerror = () => done("error");
    made.referrerPolicy = "no-referrer";
    made.src = address;
    document.body.append(made);
"""
FETCH = """
    const [address, options, done] = arguments;
    fetch(address, options ?? {}).then(async (answer) => done([answer.status, await answer.text()]),
      () => done([0, ""]));
"""
CONNECT = """
    const [address, done] = arguments;
    const made = new WebSocket(address);
    made.onopen = () => done("open");
    made.onerror = () => done("error");
"""
REGISTER = """
    const [script, scope, done] = arguments;
    navigator.serviceWorker.register(script, scope ? { scope } : {}).then(
      (made) => made.unregister().then(() => done(new URL(made.scope).pathname)),
      () => done("refused"));
"""


@dataclass
class Place:
    """A server with two models, and the address that the browser has for it."""

    server: Server
    host: str

    def __post_init__(self) -> None:
        self.url = self.server.base.replace("127.0.0.1", self.host)
        self.is_loopback = self.host == "127.0.0.1"

    def only_a(self) -> bool:
        """Whether a still runs and b, which would evict it, was not loaded."""
        return self.server.states() == {"a": "ready"}


def serving(folder: Path, text: str) -> Server:
    filled = text.format(port=free_ports(40), site=" ".join(SITE))
    return servers.serving(folder, filled, host="0.0.0.0")


@pytest.fixture(scope="module")
def site(browser: Any) -> Iterator[str]:
    """The port of another web site, under any name that the browser resolves."""
    port = free_port()
    command = [*SITE, "--host", "0.0.0.0", "--port", str(port)]
    with Server(command, port, Path("/dev/null")):
        yield str(port)


@pytest.fixture(scope="module")
def open_server(browser: Any, tmp_path_factory: Any) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("open"), MODELS) as server:
        yield server


@pytest.fixture(
    params=[pytest.param("127.0.0.1", id="loopback"), pytest.param(LAN, id="lan", marks=needs_lan)]
)
def place(request: Any, open_server: Server) -> Place:
    open_server.post("/api/models/load/a")
    return Place(open_server, request.param)


@pytest.fixture(autouse=True)
def leaving(browser: Any) -> Iterator[None]:
    yield
    browser.leave()  # refusals are the point


def ran(browser: Any) -> None:
    """The script of the model's page has run."""
    browser.becomes("return document.title", "ran")


def run(browser: Any, script: str, *arguments: Any) -> Any:
    """Run a script of the page that says itself when it is done."""
    return browser.driver.execute_async_script(script, *arguments)


@pytest.mark.parametrize("page", ["page.example", "127.0.0.1"])
def test_a_page_of_another_origin_neither_stops_nor_loads(
    browser: Any, place: Place, site: str, page: str
) -> None:
    browser.driver.get(f"http://{page}:{site}/")
    for kind in ("img", "script"):
        run(browser, SHOW, kind, f"{place.url}/unload")
        run(browser, SHOW, kind, f"{place.url}/upstream/b/x")
    no_cors = {"mode": "no-cors", "credentials": "include", "referrerPolicy": "no-referrer"}
    for method, path in (
        ("GET", "/unload"),
        ("HEAD", "/unload"),
        ("GET", "/upstream/b/x"),
        ("POST", "/upstream/b/x"),
        ("POST", "/api/models/unload"),
        ("POST", "/api/models/load/b"),
    ):
        run(browser, FETCH, place.url + path, {**no_cors, "method": method})
        run(browser, FETCH, place.url + path, {"method": method})
    for path in ("/upstream/b/ws", "/api/ws"):
        assert run(browser, CONNECT, place.url.replace("http", "ws") + path) == "error"
    if place.is_loopback:  # elsewhere it looks like a link that was followed
        run(browser, SHOW, "iframe", f"{place.url}/upstream/b/x")
    assert place.only_a()


def test_a_page_of_another_site_uses_no_model(browser: Any, place: Place, site: str) -> None:
    browser.driver.get(f"http://page.example:{site}/")
    body = '{"model": "b", "input": "x"}'
    plain = {"method": "POST", "body": body, "headers": {"Content-Type": "text/plain"}}
    json = {**plain, "headers": {"Content-Type": "application/json"}}
    run(browser, FETCH, f"{place.url}/v1/embeddings", {**plain, "mode": "no-cors"})
    assert run(browser, FETCH, f"{place.url}/v1/embeddings", plain)[0] == 403
    status, said = run(browser, FETCH, f"{place.url}/v1/embeddings", json)
    assert status == 403
    assert "inferenceOrigins" in said
    for path in ("/v1/audio/voices?model=b", "/props?model=b&autoload=1"):
        run(browser, FETCH, place.url + path, {"mode": "no-cors", "referrerPolicy": "no-referrer"})
        run(browser, SHOW, "img", place.url + path)
    socket_of_model = place.url.replace("http", "ws") + "/v1/realtime?model=b"
    assert run(browser, CONNECT, socket_of_model) == "error"
    assert place.only_a()


def test_a_page_of_this_machine_may_use_models(browser: Any, place: Place, site: str) -> None:
    browser.driver.get(f"http://localhost:{site}/")
    json = {"Content-Type": "application/json"}
    options = {"method": "POST", "headers": json, "body": '{"model": "b", "input": "x"}'}
    status, said = run(browser, FETCH, f"{place.url}/v1/embeddings", options)
    assert status == 200
    assert "page" in said


def test_our_own_pages_act(browser: Any, place: Place) -> None:
    browser.visit(place.url, "models")
    ask = "return its.getText(given[0])"
    assert "<p>page</p>" in browser.module("shared/api.js", ask, "/v1/audio/voices?model=b")
    assert place.server.states() == {"b": "ready"}
    browser.driver.get(f"{place.url}/upstream/a/")
    ran(browser)
    assert place.only_a()
    assert run(browser, FETCH, "file", None)[0] == 200
    place.server.post("/api/models/unload")
    assert run(browser, FETCH, "file", None)[0] == 200, "as the page says where it is"
    assert place.only_a()


def test_a_link_on_another_site_opens_a_page(browser: Any, place: Place, site: str) -> None:
    browser.driver.get(f"http://page.example:{site}/")
    browser.run("location.href = arguments[0]", f"{place.url}/upstream/b/")
    browser.wait(lambda: browser.driver.current_url == f"{place.url}/upstream/b/", "the page")
    assert place.server.states() == {"b": "ready"}


def test_what_a_model_answers_is_shown_and_not_run(browser: Any, place: Place) -> None:
    browser.driver.get(f"{place.url}/v1/audio/voices?model=a")
    assert browser.read("body").strip() == "page"
    assert browser.driver.title == "quiet"
    assert browser.run("return origin") == "null"


def test_no_model_serves_our_pages(browser: Any, open_server: Server) -> None:
    open_server.post("/api/models/load/a")
    browser.driver.get(f"{open_server.base}/upstream/a/")
    assert run(browser, REGISTER, "sw.js", "") == "/upstream/a/"
    assert run(browser, REGISTER, "sw.js", "/") == "refused", "the server may not widen it"
    for script in ("/props?model=a", "/v1/audio/voices?model=a"):
        assert run(browser, REGISTER, script, "") == "refused"


@pytest.fixture(scope="module")
def locked_server(browser: Any, tmp_path_factory: Any) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("locked"), KEYS) as server:
        yield server


def answer_dialog(browser: Any, url: str) -> None:
    """Have the browser remember the key, as after its question for it."""
    browser.driver.get(url.replace("http://", "http://me:secret@") + "/running")
    browser.driver.get(f"{url}/running")
    assert run(browser, FETCH, "/running", None)[0] == 200


def open_session(browser: Any, url: str) -> None:
    """Sign in at the interface; its cookie is all that the browser has."""
    browser.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})
    browser.driver.get(f"{url}/ui/")
    options = {"method": "POST", "headers": {"Authorization": "Bearer secret"}}
    assert run(browser, FETCH, "/session", options)[0] == 200
    assert browser.run("return document.cookie") == ""
    assert run(browser, FETCH, "/running", None)[0] == 200


def test_a_session_is_of_no_use_to_a_page_of_another_port(
    browser: Any, locked_server: Server, site: str
) -> None:
    for host in filter(None, ("127.0.0.1", LAN)):
        url = Place(locked_server, host).url
        open_session(browser, url)
        assert run(browser, FETCH, "/api/models/load/a?wait=1", {"method": "POST"})[0] == 200
        browser.driver.get(f"http://{host}:{site}/")
        silent = {"mode": "no-cors", "credentials": "include", "referrerPolicy": "no-referrer"}
        for method, path in (
            ("GET", "/unload"),
            ("GET", "/upstream/b/x"),
            ("POST", "/api/models/unload"),
            ("DELETE", "/session"),
        ):
            run(browser, SHOW, "img", url + path)
            run(browser, FETCH, url + path, {**silent, "method": method})
        assert run(browser, CONNECT, url.replace("http", "ws") + "/api/ws") == "error"
        browser.driver.get(f"{url}/ui/")
        status, said = run(browser, FETCH, "/running", {"referrerPolicy": "same-origin"})
        assert (status, said.count('"model":"a"'), said.count('"model":"b"')) == (200, 1, 0)


@pytest.mark.parametrize("log_in", [answer_dialog, open_session])
def test_with_the_key_cached_a_page_of_a_model_reaches_that_model_only(
    browser: Any, locked_server: Server, log_in: Any
) -> None:
    base = locked_server.base
    log_in(browser, base)
    browser.driver.get(f"{base}/upstream/a/")
    ran(browser)
    assert run(browser, FETCH, "file", None)[0] == 200
    for path in ("/api/version", "/api/config/file", "/logs", "/upstream/b/file", "/ui/"):
        assert run(browser, FETCH, path, None)[0] == 403, path
    assert run(browser, FETCH, "/api/models/unload", {"method": "POST"})[0] == 403


@needs_lan
def test_with_keys_and_from_afar_a_page_of_a_model_has_no_origin(
    browser: Any, locked_server: Server
) -> None:
    url = Place(locked_server, LAN).url
    answer_dialog(browser, url)
    browser.driver.get(f"{url}/upstream/a/")
    ran(browser)
    assert browser.run("return origin") == "null"
    for path in ("/api/version", "/upstream/b/file"):
        assert run(browser, FETCH, url + path, {"credentials": "include"}) == [0, ""]


def test_pages_have_a_name_of_their_own(browser: Any, tmp_path: Path) -> None:
    with serving(tmp_path, SEPARATE) as server:
        port = server.base.rpartition(":")[2]
        browser.driver.get(f"http://localhost:{port}/upstream/a/")
        assert browser.driver.current_url == f"http://a.localhost:{port}/upstream/a/"
        ran(browser)
        assert browser.run("localStorage.x = 1; return localStorage.x") == "1"
        assert run(browser, FETCH, "file", None)[0] == 200
        assert run(browser, FETCH, "/api/version", None)[0] == 404
        assert run(browser, FETCH, f"http://localhost:{port}/api/version", None)[0] == 0
        for path in ("/api/models/unload", "/upstream/b/x"):
            there = f"http://localhost:{port}{path}"
            run(browser, FETCH, there, {"method": "POST", "mode": "no-cors"})
        assert server.states() == {"a": "ready"}
