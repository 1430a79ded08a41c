"""Which page may make a browser do what: for every pair of a request and a sender."""

import base64
import re
from functools import partial

import pytest

from llmsnap.http.hosts import PAGES
from llmsnap.http.routes import ROUTES
from llmsnap.proxy import Response
from llmsnap.web import ui
from tests.web.serving import Site, site

CONFIG = """\
allowedOrigins: ["https://friend.example"]
inferenceOrigins: ["https://chat.example"]
models:
  a: {cmd: x, proxy: "http://localhost:1", aliases: [first]}
  a/b: {cmd: x, proxy: "http://localhost:2"}
"""
KEYS = CONFIG + "apiKeys: [all, {key: some, models: [a], admin: false}]\n"
HOSTS = ["localhost:8080", "192.168.1.5:8080"]
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) Chrome/140.0"

# Every kind of request, by the columns of the table.
REQUESTS = {
    "read": [("GET", "/running"), ("GET", "/v1/models"), ("HEAD", "/ui/"),
             ("GET", "/props?model=a")],
    "post": [("POST", "/v1/chat/completions"), ("POST", "/v/embeddings"), ("POST", "/completion")],
    "ask": [("GET", "/v1/audio/voices?model=a"), ("HEAD", "/sdapi/v1/loras?model=a"),
            ("GET", "/props?model=a&autoload=1")],
    "look": [("GET", "/upstream/a/"), ("GET", "/upstream/first/x?y"), ("GET", "/upstream/a%2Fb/x"),
             ("GET", "/upstream//a/"), ("GET", "/comfyui/x")],
    "head": [("HEAD", "/upstream/a/x")],
    "send": [("POST", "/upstream/a/x"), ("DELETE", "/upstream/a/x"), ("PUT", "/upstream/a/x")],
    "stop": [("GET", "/unload"), ("HEAD", "/unload"), ("GET", "/unload/")],
    "act": [("POST", "/api/models/unload"), ("POST", "/api/models/load/nope"),
            ("POST", "/api/config/reload"), ("POST", "/api/inflight/1/cancel")],
}  # fmt: skip

SITE, MODE, DEST, AGENT = "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest", "User-Agent"
ASKS, GUESSES = "Upgrade-Insecure-Requests", "Sec-Purpose"
LINK = {SITE: "cross-site", MODE: "navigate", DEST: "document"}
# Who sends it: for each column y (served), n (served, but no model is loaded for it) or - (refused)
# without keys; then its headers, {host} being the address the browser has of us.
SENDERS = {
    #                       read, post, ask, look, head, send, stop, act
    "a program": ("yyyyyyyy", {}),
    "a program with a name": ("yyyyyyyy", {AGENT: "python/2.32", "Referer": "http://x.example/"}),
    "node": ("yyyyyyyy", {AGENT: "node", MODE: "cors"}),
    "our page": ("yyyyyyyy", {SITE: "same-origin", AGENT: BROWSER}),
    "our page, told": ("yyyyyyyy", {SITE: "same-origin", "Origin": "http://{host}"}),
    "our page on plain http": ("yyyyyyyy", {AGENT: BROWSER, "Referer": "http://{host}/ui/"}),
    "our page, told on plain http": ("yyyyyyyy", {AGENT: BROWSER, "Origin": "http://{host}"}),
    "the address bar": ("yyyyyyyy", {SITE: "none", AGENT: BROWSER}),
    "the address bar, guessing": ("ynnnnn--", {SITE: "none", GUESSES: "prefetch;prerender"}),
    "another port": ("yyy-----", {SITE: "same-site", "Origin": "http://localhost:3000"}),
    "another port, an image": ("y-------", {SITE: "same-site", AGENT: BROWSER}),
    "a private page": ("yyy-----", {SITE: "cross-site", "Origin": "http://192.168.1.9"}),
    "a private page on plain http": ("yyy-----", {AGENT: BROWSER, "Origin": "http://nas.local"}),
    "another site": ("y-------", {SITE: "cross-site", "Origin": "https://page.example"}),
    "another site, an image": ("y-------", {SITE: "cross-site", AGENT: BROWSER}),
    "another site, old browser": ("y-------", {"Origin": "https://page.example"}),
    "another site, on plain http": ("y-------", {AGENT: BROWSER, "Referer": "http://page.example/"}),
    "a page of no origin": ("y-------", {SITE: "cross-site", "Origin": "null"}),
    "what says both": ("y-------", {SITE: "same-origin", "Origin": "https://page.example"}),
    "what makes it up": ("yyy-----", {SITE: "sideways", "Origin": "http://{host}"}),
    "a link": ("y--y----", {**LINK, AGENT: BROWSER}),
    "a frame": ("y-------", {**LINK, DEST: "iframe", ASKS: "1"}),
    "a link, guessing": ("y-------", {**LINK, GUESSES: "prefetch"}),
    "a link on plain http": (
        "y--y----", {AGENT: BROWSER, ASKS: "1", "Referer": "http://page.example/"}
    ),
    "an image on plain http": ("yynnny-y", {AGENT: BROWSER, "Accept": "image/*"}),
    "typed on plain http": ("yynyny-y", {AGENT: BROWSER, ASKS: "1"}),
    "a worker's script": ("---yyy--", {SITE: "same-origin", "Service-Worker": "script"}),
    "a listed page": ("yyyyyyyy", {SITE: "cross-site", "Origin": "https://friend.example"}),
    "a listed page, an image": (
        "yyyyyyyy", {SITE: "cross-site", AGENT: BROWSER, "Referer": "https://friend.example/"}
    ),
    "a page listed for models": ("yyy-----", {SITE: "cross-site", "Origin": "https://chat.example"}),
}  # fmt: skip

# With a key that browsers add by themselves, a private page must be listed too. With one that the
# page has to know, any page that knows it may use models.
UNPROVEN = {"an image on plain http", "typed on plain http"}
NEED_A_LIST = {"another port", "a private page", "a private page on plain http", "what makes it up"}
CREDENTIALS = {
    "nothing": {},
    "basic": {"Authorization": "Basic " + base64.b64encode(b"me:all").decode()},
    "bearer": {"Authorization": "Bearer all"},
    "x-api-key": {"X-Api-Key": "all"},
}


def expected(sender: str, column: str, key: str) -> str:
    cell = SENDERS[sender][0][list(REQUESTS).index(column)]
    if column in {"post", "ask"} and sender != "a worker's script":
        if key == "basic" and sender in NEED_A_LIST:
            return "-"
        if key in {"bearer", "x-api-key"}:
            return "y" if cell == "-" or sender in UNPROVEN else cell
    return cell


def headers_of(sender: str, host: str) -> dict[str, str]:
    sent = {name: value.format(host=host) for name, value in SENDERS[sender][1].items()}
    return {"Host": host, **sent}


def outcome(of: Site, method: str, path: str, headers: dict[str, str]) -> str:
    of.dispatcher.calls.clear()
    answer = of.client.open(path, method=method, headers=headers)
    if answer.status_code == 403:
        assert not of.dispatcher.calls
        return "-"
    assert answer.status_code not in {401, 421, 500}, answer.text
    return "n" if any(not request.may_load for _, request in of.dispatcher.calls) else "y"


@pytest.fixture(scope="module")
def sites():
    with (
        site(CONFIG) as open_site,
        site(KEYS) as locked_site,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(ui.assets, "refresh", lambda: None)  # it asks for the time of every file
        yield {True: open_site, False: locked_site}


@pytest.mark.parametrize("key", CREDENTIALS)
def test_what_a_page_may_have_a_browser_do(sites, key: str) -> None:
    found, wanted = {}, {}
    for number, sender in enumerate(SENDERS, list(CREDENTIALS).index(key)):
        # The hosts take turns: which of them it is makes no difference that depends on the rest.
        host = HOSTS[number % len(HOSTS)]
        headers = headers_of(sender, host) | CREDENTIALS[key]
        for column, requests in REQUESTS.items():
            # Which request of a column it is was shown without keys.
            for method, path in requests if key == "nothing" else requests[:1]:
                case = (sender, host, method, path)
                wanted[case] = expected(sender, column, key)
                found[case] = outcome(sites[key == "nothing"], method, path, headers)
    assert found == wanted


def test_a_get_of_another_site_never_acts(sites, monkeypatch) -> None:
    """Whatever the interface answers to GET now or later."""
    here, acted = sites[True], []
    here.dispatcher.calls.clear()
    driver = here.service.driver
    for name in ("unload", "sleep", "load", "preload", "request"):
        monkeypatch.setattr(driver, name, lambda *_, _name=name, **__: acted.append(_name))
    monkeypatch.setattr(here.service, "reload", lambda: acted.append("reload"))
    paths = {row.path for row in ROUTES if "GET" in row.methods}
    assert len(paths) > 30
    for path in paths:
        filled = re.sub(r"{(\w+)}", "a", path)
        for sender in ("another site, an image", "a frame", "another site, on plain http"):
            sent = headers_of(sender, "localhost")
            here.client.get(f"{filled}?model=a&autoload=1&no-follow", headers=sent).close()
            assert not acted, (path, sender)
            assert not here.dispatcher.calls, (path, sender)


@pytest.mark.parametrize(
    ("method", "path", "key"),
    [
        ("POST", "/v1/embeddings", "inferenceOrigins or allowedOrigins"),
        ("POST", "/api/models/unload", "allowedOrigins"),
        ("GET", "/upstream/a/", "allowedOrigins"),
    ],
)
def test_a_refusal_says_what_would_permit_it(sites, caplog, method, path, key) -> None:
    origin = f"https://{key.count('O')}{method}.example".lower()
    for _ in range(3):
        answer = sites[True].client.open(path, method=method, headers={"Origin": origin})
        assert f"a page of {origin} may not do this" in answer.json["error"]["message"]
        assert f"list its origin in {key} if" in answer.json["error"]["message"]
    assert caplog.text.count(f"a page of {origin} may not do this") == 1


def test_a_star_lets_all_pages_use_models_and_nothing_else() -> None:
    with site(CONFIG.replace("https://chat.example", "*")) as here:
        for sender in ("another site", "another site, an image", "a page of no origin"):
            headers = headers_of(sender, "localhost")
            assert outcome(here, "POST", "/v1/embeddings", headers) == "y"
            assert outcome(here, "GET", "/v1/audio/voices?model=a", headers) == "y"
            assert outcome(here, "GET", "/upstream/a/", headers) == "-"
            assert outcome(here, "POST", "/api/models/unload", headers) == "-"


FROM = "http://box:8080"


MODELS_PAGES = {
    ("/upstream/a/", "/upstream/a/v1/chat/completions"): True,
    ("/upstream/a/index.html?q#h", "/upstream/first/x"): True,
    ("/upstream/first/", "/upstream/a/x"): True,
    ("/llm/upstream/a/", "/upstream/a/x"): True,
    ("/upstream/a%2Fb/", "/upstream/a/b/x"): True,
    ("/ui/", "/api/version"): True,
    ("/upstream/a/", "/health"): True,
    ("/upstream/a/", "/api/version"): False,
    ("/upstream/a/", "/v1/chat/completions"): False,
    ("/upstream/a/", "/upstream/a/b/x"): False,
    ("/upstream/a/", "/comfyui/x"): False,
    ("/comfyui/", "/api/version"): False,
    ("/comfyui/", "/upstream/a/x"): False,
    ("/upstream/a/b/", "/upstream/a/x"): False,
    ("/upstream/a/../b/", "/upstream/a/b/x"): False,
    ("/upstream/a/", "/upstream/nope/x"): False,
    ("/upstream/gone/", "/upstream/gone/x"): False,
}


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("key", ["basic", "bearer", "x-api-key"])
def test_with_keys_a_page_of_a_model_reaches_that_model_only(sites, method: str, key: str) -> None:
    pages = {(FROM + page, path): served for (page, path), served in MODELS_PAGES.items()}
    pages["https://elsewhere.example/upstream/a/sw.js", "/api/version"] = False
    usual = {
        "Host": "box:8080",
        **CREDENTIALS[key],
        **({"Origin": FROM} if method == "POST" else {}),
    }

    def served(here: Site) -> dict[tuple[str, str], bool]:
        ask = partial(here.client.open, method=method)
        return {
            (page, path): ask(path, headers={**usual, "Referer": page}).status_code != 403
            for page, path in pages
        }

    assert served(sites[False]) == pages
    assert all(served(sites[True]).values())  # there is nothing to protect


def test_a_page_in_a_sandbox_may_ask_its_model(sites) -> None:
    """It has no origin any more, but its browser says where it is from."""
    page = {"Referer": f"{FROM}/upstream/a/", "Sec-Fetch-Site": "cross-site"}
    sites[True].dispatcher.answer = Response(200, "OK", [], [])
    for headers, path, served in (
        ({}, "/upstream/a/x", True),
        ({}, "/upstream/first/x", True),
        ({"Origin": "null"}, "/upstream/a/x", True),
        ({"Origin": "null"}, "/upstream/a/b/x", False),
        ({"Origin": "null"}, "/api/version", True),
        ({"Origin": "null"}, "/v1/chat/completions", False),
        ({"Origin": "https://page.example"}, "/upstream/a/x", False),
        ({"Origin": "null", "Referer": "http://evil:8080/upstream/a/"}, "/upstream/a/x", False),
        ({"Origin": "null", "Referer": ""}, "/upstream/a/x", False),
        ({"Service-Worker": "script"}, "/props?model=a", False),
    ):
        sent = {"Host": "box:8080", "User-Agent": BROWSER, **page, **headers}
        answer = sites[True].client.get(path, headers=sent)
        assert (answer.status_code != 403) is served, (headers, path)
        allowed = answer.headers.get("Access-Control-Allow-Origin")
        if served and headers.get("Origin") and path.startswith("/upstream/"):
            assert allowed == "null", (headers, path)
        else:
            assert allowed is None or path.startswith("/v1/"), (headers, path)


SEPARATE = CONFIG + "uiOrigin: separate\n"
OPENS = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "User-Agent": BROWSER}


@pytest.fixture(scope="module")
def separate():
    with site(SEPARATE) as names, site(SEPARATE + "upstream: {origin: 8081}\n") as ports:
        yield {"names": names, "ports": ports}


@pytest.mark.parametrize(
    ("opens", "leads"),
    [(OPENS, True), ({"User-Agent": BROWSER, "Upgrade-Insecure-Requests": "1"}, True), ({}, False)],
    ids=["navigation", "on plain http", "a program"],
)
def test_a_browser_that_opens_a_page_is_led_to_its_origin(separate, opens, leads: bool) -> None:
    places = {
        ("names", "localhost:8080", "/upstream/a/x?y=1"): "http://a.localhost:8080/upstream/a/x?y=1",
        ("names", "127.0.0.1:8080", "/upstream/first/"): "http://a.localhost:8080/upstream/first/",
        ("names", "192.168.1.5:8080", "/upstream/a/"): "",
        ("ports", "192.168.1.5:8080", "/upstream/a/"): "http://192.168.1.5:8081/upstream/a/",
        ("ports", "localhost:8080", "/upstream/a%2Fb/"): "http://localhost:8081/upstream/a%2Fb/",
        ("names", "a.localhost:8080", "/upstream/a/"): "",
        ("ports", "localhost:8081", "/upstream/a/"): "",
        ("names", "localhost:8080", "/ui/"): "",
        ("names", "localhost:8080", "/upstream/nope/"): "",
    }  # fmt: skip
    found = {}
    for kind, host, path in places:
        answer = separate[kind].client.get(path, headers={"Host": host, **opens})
        place = found[kind, host, path] = answer.headers.get("Location", "")
        assert (answer.status_code == 307) is bool(place), path
    assert found == (places if leads else dict.fromkeys(places, ""))


def test_nothing_but_pages_is_served_there(separate) -> None:
    statuses = {  # of a GET, and of a POST
        ("names", "a.localhost:8080", "/upstream/a/x"): (200, 200),
        ("names", "a.localhost:8080", "/upstream/first/x"): (200, 200),
        ("names", "a.localhost:8080", "/health"): (200, 405),
        ("names", "a.localhost:8080", "/"): (307, 307),
        ("names", "a.localhost:8080", "/upstream/a/b/x"): (404, 404),
        ("names", "nope.localhost:8080", "/upstream/a/x"): (404, 404),
        ("names", "a.localhost:8080", "/ui/"): (404, 404),
        ("names", "a.localhost:8080", "/v1/chat/completions"): (404, 404),
        ("ports", "box:8081", "/upstream/a/x"): (200, 200),
        ("ports", "box:8081", "/upstream/a/b/x"): (200, 200),
        ("ports", "box:8081", "/"): (404, 404),
        ("ports", "box:8081", "/ui/"): (404, 404),
        ("ports", "box:8080", "/api/version"): (200, 405),
    }

    def status(kind: str, host: str, path: str, method: str) -> int:
        answer = separate[kind].client.open(path, method=method, headers={"Host": host})
        return answer.status_code

    found = {case: (status(*case, "GET"), status(*case, "POST")) for case in statuses}
    assert found == statuses


def test_what_came_to_the_port_for_pages_stays_there(separate) -> None:
    """Whatever host it names, and whatever was made of the same head on the other port."""
    for there, status in (({}, 200), ({PAGES: True}, 404), ({}, 200)):
        answer = separate["ports"].client.get(
            "/api/version", headers={"Host": "box:8080"}, environ_overrides=there
        )
        assert answer.status_code == status


def test_where_pages_of_models_may_run() -> None:
    for text, hosts in (
        (CONFIG, {"192.168.1.5": True}),
        (KEYS, {"localhost:8080": True, "192.168.1.5": False, "ai.example": False}),
        (SEPARATE, {"localhost:8080": False, "a.localhost:8080": True}),
        (SEPARATE + "apiKeys: [all]\n", {"a.localhost:8080": True}),
    ):
        with site(text) as here:
            for host in hosts:
                here.client.get("/upstream/a/", headers={"Host": host, **CREDENTIALS["bearer"]})
            trusts = [request.trusts_pages for _, request in here.dispatcher.calls]
            assert dict(zip(hosts, trusts, strict=True)) == hosts, text


def test_a_pinned_model_is_shown_in_the_origin_of_its_target() -> None:
    pins = "profiles: {p: {pins: {a: b, gone: }}}\nhooks: {on_startup: {profile: p}}\n"
    model = '  b: {cmd: x, proxy: "http://localhost:3"}\n'
    statuses = {
        ("b.localhost:8080", "/upstream/a/x"): 200,
        ("b.localhost:8080", "/upstream/b/x"): 200,
        ("a.localhost:8080", "/upstream/a/x"): 404,
        ("a.localhost:8080", "/upstream/gone/x"): 404,
    }
    with site(f"{CONFIG}{model}uiOrigin: separate\n{pins}") as made:
        get = made.client.get
        found = {(host, path): get(path, headers={"Host": host}) for host, path in statuses}
        moved = get("/upstream/a/x", headers={"Host": "localhost:8080", **OPENS})
    assert {case: answer.status_code for case, answer in found.items()} == statuses
    assert moved.headers["Location"] == "http://b.localhost:8080/upstream/a/x"
