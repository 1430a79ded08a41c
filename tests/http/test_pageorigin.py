"""Facts about llmsnap.http.hosts."""

import re

from llmsnap.http.hosts import PAGES, PageOrigin, label_of, sees_loopback

IDS = ["qwen", "Qwen", "qwen3:8b", "org/qwen3:8b", "ü", "a" * 70, "-a"]


def origin(address: str = "", *, separate: bool = True) -> PageOrigin:
    return PageOrigin(separate=separate, address=address, model_ids=IDS)


def environ(host: str, scheme: str = "http", **more: object) -> dict[str, object]:
    return {"HTTP_HOST": host, "wsgi.url_scheme": scheme, **more}


def test_every_model_has_a_label_of_its_own_that_a_host_name_may_have() -> None:
    labels = [label_of(model_id) for model_id in IDS]
    assert labels[0] == "qwen"
    assert labels[2].startswith("qwen3-8b-")
    assert len(set(labels)) == len(IDS)
    for label in labels:
        assert len(label) <= 63
        assert re.fullmatch("[a-z0-9]([a-z0-9-]*[a-z0-9])?", label)


HERE = [
    ("", "qwen.localhost:8080", {}, True),
    ("", "localhost:8080", {}, False),
    ("", "127.0.0.1:8080", {}, False),
    (":8081", "box:8081", {}, True),
    (":8081", "box:8080", {}, False),
    (":8081", "box:8080", {PAGES: True}, True),
    (":8081", "qwen.localhost:8080", {}, True),
    (":443", "box", {"wsgi.url_scheme": "https"}, True),
    (":443", "box", {}, False),
    ("https://pages.example", "pages.example", {"wsgi.url_scheme": "https"}, True),
    ("https://pages.example", "Pages.Example.:443", {}, True),
    ("https://pages.example", "pages.example:8443", {}, False),
    ("http://box:9000", "box:9000", {}, True),
    ("http://box:9000", "box", {}, False),
    ("", "", {}, False),
]


def test_which_requests_come_to_the_origin_for_pages() -> None:
    for address, host, more, here in HERE:
        asked = environ(host) | more
        assert origin(address).is_here(asked) is here, (address, asked)
        assert not origin(address, separate=False).is_here(asked)


LED = {
    ("", "qwen", "localhost:8080", "http"): "http://qwen.localhost:8080",
    ("", "qwen", "127.0.0.1", "http"): "http://qwen.localhost:80",
    ("", "qwen", "192.168.1.5:8080", "http"): "",
    ("", "qwen", "localhost:8080", "https"): "",
    ("", "qwen", "", "http"): "",
    (":8081", "qwen", "192.168.1.5:8080", "http"): "http://192.168.1.5:8081",
    (":8081", "qwen", "localhost", "https"): "https://localhost:8081",
    (":8081", "qwen", "[fd00::1]:8080", "http"): "http://[fd00::1]:8081",
    ("https://p.example", "qwen", "ui.example", "http"): "https://p.example",
}


def test_where_a_browser_is_led() -> None:
    assert {
        (address, model_id, *asked): origin(address).url_of(model_id, environ(*asked))
        for address, model_id, *asked in LED
    } == LED


def test_where_it_is_led_it_is_right() -> None:
    for address in ("", ":8081", "http://p.example:9000"):
        for model_id in IDS:
            url = origin(address).url_of(model_id, environ("localhost:8080"))
            there = environ(url.removeprefix("http://"))
            assert origin(address).is_here(there)
            assert origin(address).model_of(there["HTTP_HOST"]) in {"", model_id}


FACTS = [
    (environ("localhost:8080"), True),
    (environ("127.0.0.1"), True),
    (environ("[::1]:1"), True),
    (environ("a.localhost"), True),
    (environ("192.168.1.5"), False),
    (environ("box"), False),
    (environ("localhost.example"), False),
    ({}, False),
    (environ("localhost:8080", HTTP_X_FORWARDED_FOR="1.2.3.4"), False),
    (environ("localhost", HTTP_X_FORWARDED_HOST="ui.example"), False),
]


def test_when_the_browser_is_on_this_machine() -> None:
    assert [(facts, sees_loopback(facts)) for facts, _ in FACTS] == FACTS
