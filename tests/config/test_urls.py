import pytest

from llmsnap.config.scalars import url_fault, without_password


@pytest.mark.parametrize(
    "url", ["http://localhost:5800", "https://h/base?x=1", "http://[::1]:80", "http://u:p@h"]
)
def test_addresses_of_servers(url: str) -> None:
    assert url_fault(url) == ""


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://a b", "blank"),
        ("http://a\tb", "blank"),
        ("http://[::1", "not a valid URL"),
        ("ftp://h", "must begin with http"),
        ("localhost:99", "must begin with http"),
        ("", "must begin with http"),
        ("http:///x", "names no host"),
        ("http://h:x", "port"),
        ("http://h:0", "port"),
        ("http://h:70000", "port"),
    ],
)
def test_anything_else_is_told(url: str, words: str) -> None:
    assert words in url_fault(url)


def test_passwords_are_not_shown() -> None:
    assert without_password("http://u:p@h/x@y") == "http://(hidden)@h/x@y"
    assert without_password("http://h/x@y") == "http://h/x@y"
