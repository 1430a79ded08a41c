"""Sign-in: which requests a session's cookie counts for, and what ends a session."""

import pytest

from llmsnap.config import compare, loads
from llmsnap.http.auth import ClientKey
from llmsnap.http.sessions import LIFETIME_S, MOST_SESSIONS, Sessions
from llmsnap.web.events import EventFeed
from tests.fakes.clock import Clock
from tests.web.serving import site

KEYS = """\
apiKeys:
  - {{key: boss-key, name: boss, admin: true}}
  - {{key: {secret}, name: kid, models: [a]}}
models:
  a: {{cmd: x, proxy: "http://localhost:1"}}
  b: {{cmd: x, proxy: "http://localhost:1"}}
"""
TEXT = KEYS.format(secret="kid-key")
HOST = "box:8080"
BROWSER = {"Host": HOST, "User-Agent": "Mozilla/5.0"}
PAGE = {**BROWSER, "Referer": f"http://{HOST}/ui/"}


@pytest.fixture
def locked():
    with site(TEXT) as made:
        made.client = made.client.application.test_client(use_cookies=False)
        yield made


def sign_in(locked, key: str = "boss-key", **headers: str) -> str:
    """The cookie, as the browser sends it back."""
    sent = {**PAGE, "Origin": f"http://{HOST}", "Authorization": f"Bearer {key}", **headers}
    answer = locked.client.post("/session", headers=sent)
    assert answer.status_code == 200
    return answer.headers["Set-Cookie"].partition(";")[0]


def status(locked, cookie: str, path: str = "/running", method: str = "GET", **sent: str) -> int:
    answer = locked.client.open(path, method=method, headers={**sent, "Cookie": cookie})
    return answer.status_code


def apply(locked, text: str) -> None:
    service, config = locked.service, loads(text, environ={})
    service._apply(config, compare(service.runtime.config, config))


def test_the_cookie_is_host_only_hidden_from_scripts_and_secure_on_tls(locked) -> None:
    sent = {**PAGE, "Authorization": "Bearer boss-key"}
    for origin, secure in ((f"http://{HOST}", False), (f"https://{HOST}", True)):
        answer = locked.client.post("/session", headers={**sent, "Origin": origin})
        assert answer.json == {"required": True, "key": "boss", "admin": True}
        value, *flags = answer.headers["Set-Cookie"].split("; ")
        assert value.startswith("llmsnap-session-8080=")
        assert "boss" not in value
        expected = {"Max-Age=43200", "HttpOnly", "SameSite=Strict"}
        assert set(flags) == expected | ({"Secure"} if secure else set())


def test_a_session_counts_for_pages_of_this_origin_only(locked) -> None:
    cookie = sign_in(locked)
    for sent, expected in (
        ({**BROWSER, "Sec-Fetch-Site": "same-origin"}, 200),
        ({**BROWSER, "Sec-Fetch-Site": "none"}, 200),
        (PAGE, 200),
        ({**BROWSER, "Origin": f"http://{HOST}"}, 200),
        # A page of another port of the host, which browsers count as the same site.
        ({**BROWSER, "Sec-Fetch-Site": "same-site"}, 401),
        ({**BROWSER, "Referer": "http://box:9999/"}, 401),
        ({**BROWSER, "Origin": "http://box:9999"}, 401),
        ({**BROWSER, "Sec-Fetch-Site": "cross-site"}, 401),
        ({**BROWSER, "Origin": "null"}, 401),
        (BROWSER, 401),  # an image of such a page, on plain HTTP and without its address
        ({"Host": HOST}, 401),
        # The server at another port has sessions of its own.
        ({**PAGE, "Host": "box:8081", "Referer": "http://box:8081/ui/"}, 401),
    ):
        for path in ("/running", "/logs", "/upstream/b/x"):
            assert status(locked, f"theme=x; {cookie}", path, **sent) == expected, (path, sent)


def test_a_page_of_a_model_reaches_that_model_only(locked) -> None:
    cookie = sign_in(locked)
    page = {**BROWSER, "Sec-Fetch-Site": "same-origin", "Referer": f"http://{HOST}/upstream/a/"}
    assert status(locked, cookie, "/upstream/a/x", **page) == 200
    for path in ("/running", "/session", "/upstream/b/x", "/api/config/file"):
        assert status(locked, cookie, path, **page) == 403
    assert status(locked, cookie, "/session", "POST", **page) == 403


def test_no_other_page_signs_in(locked) -> None:
    for origin in ("http://box:9999", "https://other.example", "null"):
        sent = {**BROWSER, "Origin": origin, "Authorization": "Bearer boss-key"}
        assert locked.client.post("/session", headers=sent).status_code == 403


def test_a_session_has_the_rights_of_its_key(locked) -> None:
    kid, boss = sign_in(locked, "kid-key"), sign_in(locked, "boss-key")
    # A key that a program or a page sends itself counts; one that the browser remembers does not.
    sent, remembered = "Bearer boss-key", "Basic eDpib3NzLWtleQ=="
    assert [
        status(locked, kid, **PAGE),
        status(locked, kid, "/logs", **PAGE),
        status(locked, boss, "/logs", **PAGE),
        status(locked, kid, "/logs", Authorization=sent, **PAGE),
        status(locked, kid, "/logs", Authorization=remembered, **PAGE),
    ] == [200, 403, 200, 200, 403]


def test_signing_out_ends_the_session_and_deletes_the_cookie(locked) -> None:
    cookie = sign_in(locked)
    sent = {**PAGE, "Origin": f"http://{HOST}", "Cookie": cookie}
    answer = locked.client.delete("/session", headers=sent)
    assert answer.json == {"required": True, "key": None, "admin": False}
    assert "llmsnap-session-8080=; Max-Age=0" in answer.headers["Set-Cookie"]
    assert status(locked, cookie, **PAGE) == 401


def test_a_reload_ends_the_sessions_of_keys_that_changed(locked) -> None:
    kid, boss = sign_in(locked, "kid-key"), sign_in(locked)
    feed = EventFeed(locked.service)
    feed.open()
    apply(locked, TEXT + "logLevel: warn\n")
    assert status(locked, kid, **PAGE) == status(locked, boss, **PAGE) == 200
    assert not feed.is_over
    apply(locked, KEYS.format(secret="another-key"))
    assert feed.is_over, "it may be of the key that is gone"
    feed.close()
    assert status(locked, kid, **PAGE) == 401
    assert status(locked, boss, **PAGE) == 200
    apply(locked, TEXT)
    assert status(locked, kid, **PAGE) == 401, "it does not come back with its key"


def test_without_a_key_the_page_is_served_and_says_who_is_signed_in(locked) -> None:
    for path in ("/", "/ui/", "/ui/favicon.svg", "/favicon.ico"):
        assert locked.client.get(path, headers=BROWSER).status_code in (200, 302)
    nobody = {"required": True, "key": None, "admin": False}
    assert locked.client.get("/session", headers=PAGE).json == nobody
    assert locked.client.post("/session", headers=PAGE).status_code == 401
    wrong = {**PAGE, "Authorization": "Bearer wrong"}
    for method in ("GET", "POST"):
        assert locked.client.open("/session", method=method, headers=wrong).status_code == 401


def test_browsers_ask_for_a_key_at_pages_only(locked) -> None:
    for sent, challenge in (
        ({}, "Basic"),
        ({**PAGE, "Accept": "*/*"}, "Bearer"),  # no dialog over our own page
        ({**PAGE, "Accept": "text/event-stream"}, "Bearer"),
        ({**BROWSER, "Accept": "text/html,*/*;q=0.8"}, "Basic"),
    ):
        answer = locked.client.get("/running", headers=sent)
        found = (answer.status_code, answer.headers["WWW-Authenticate"].split()[0])
        assert found == (401, challenge), sent


def test_sessions_end_after_their_time_and_the_oldest_when_there_are_too_many() -> None:
    clock = Clock()
    sessions, key = Sessions(clock), ClientKey("one")
    ids = [sessions.open(key) for _ in range(MOST_SESSIONS)]
    assert sessions.find(ids[0]) is key
    newest = sessions.open(key)
    assert [sessions.find(each) for each in (ids[0], ids[1], newest)] == [None, key, key]
    clock.now += LIFETIME_S
    assert sessions.find(newest) is None
    assert len({*ids, newest}) == MOST_SESSIONS + 1
