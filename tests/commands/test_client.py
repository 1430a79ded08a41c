import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from llmsnap.commands import models
from llmsnap.commands.client import ServerClient, connect
from llmsnap.errors import CommandFailed, KeyRefused, NoServer, WrongUse
from tests.commands.conftest import Running, serving


def args(*argv: str) -> argparse.Namespace:
    return models.ps_parser().parse_args(argv)


def key_of(client: ServerClient) -> str:
    return client._headers.get("Authorization", "")


def test_the_address_is_of_the_option_then_of_the_variable() -> None:
    environ = {"LLMSNAP_URL": "http://box:1/"}
    assert connect(args(), {}).url == "http://127.0.0.1:8080"
    assert connect(args(), environ).url == "http://box:1"
    assert connect(args("--url", "https://x/llm/"), environ).url == "https://x/llm"
    assert connect(args("--url", "http://x/v1/"), environ).url == "http://x", "as SDKs take it"


@pytest.mark.parametrize("url", ["box:8080", "ftp://box", "http://", "/tmp/socket"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(WrongUse, match=r"must be like http://127\.0\.0\.1:8080"):
        connect(args("--url", url), {})
    with pytest.raises(WrongUse, match="LLMSNAP_API_KEY") as caught:
        connect(args("--url", "http://me:s3cret@box"), {})
    assert "s3cret" not in str(caught.value)


def test_the_key_is_of_the_files_or_of_the_variable(tmp_path: Path) -> None:
    for name in ("k1", "k2"):
        (tmp_path / name).write_text(f"{name}\n")
    file = {"LLMSNAP_KEY_FILE": f"{tmp_path}/k2"}
    both = {**file, "LLMSNAP_API_KEY": "k3"}
    assert key_of(connect(args(), {})) == ""
    assert key_of(connect(args(), file)) == "Bearer k2"
    assert key_of(connect(args(), both)) == "Bearer k3"
    assert key_of(connect(args("--key-file", f"{tmp_path}/k1"), both)) == "Bearer k1"


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff\xfe"])
def test_a_key_file_that_is_none_is_told_without_its_content(tmp_path, content) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(WrongUse, match="the key file") as caught:
        connect(args("--key-file", str(file)), {})
    assert "two words" not in str(caught.value)
    with pytest.raises(WrongUse, match="/no/key cannot be read: No such file"):
        connect(args("--key-file", "/no/key"), {})
    with pytest.raises(WrongUse, match="no such file: /no/ca"):
        connect(args("--ca-file", "/no/ca"), {})


def test_no_option_takes_a_key() -> None:
    for word in ("--key", "--api-key", "--token"):
        with pytest.raises(SystemExit):
            args(word, "secret")


@pytest.fixture
def stranger() -> Iterator[SimpleNamespace]:
    """A web server that is not llmsnap: answers the same to everything."""
    made = SimpleNamespace(status="200 OK", body=b"<html>", headers=[], seen=[])

    def application(environ, start_response):
        made.seen.append(environ)
        start_response(made.status, made.headers)
        return [made.body]

    with serving(application) as made.url:
        yield made


def test_nobody_at_the_address_says_what_to_do(server: Running) -> None:
    for url, words in (
        ("http://127.0.0.1:1", r"Connection refused.*--url or LLMSNAP_URL"),
        ("http://nowhere.invalid:1", r"no server at http://nowhere\.invalid"),
        (server.url.replace("http:", "https:"), "speaks no TLS that can be used .*; try http://"),
    ):
        with pytest.raises(NoServer, match=words):
            ServerClient(url).get("/running")


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "302 Found", "502 Bad Gateway"])
def test_a_stranger_is_told_as_such(stranger, status: str) -> None:
    stranger.status = status
    with pytest.raises(NoServer, match="is not llmsnap"):
        ServerClient(stranger.url).get("/running")


def test_a_key_is_asked_for_and_a_wrong_one_refused(guarded: Running) -> None:
    with pytest.raises(KeyRefused, match="set LLMSNAP_API_KEY, or name a file"):
        ServerClient(guarded.url).get("/running")
    with pytest.raises(KeyRefused, match="does not know this API key") as caught:
        ServerClient(guarded.url, "s3cret").get("/running")
    assert "s3cret" not in str(caught.value)
    assert ServerClient(guarded.url, "boss").get("/running") == {"running": []}
    with pytest.raises(KeyRefused, match="'guest' may not use"):
        ServerClient(guarded.url, "guest").act("unload", "llama")


def test_the_key_goes_in_a_header_and_follows_no_redirect(stranger) -> None:
    stranger.status, stranger.headers = "302 Found", [("Location", stranger.url + "/2")]
    with pytest.raises(NoServer):
        ServerClient(stranger.url, "s3cret").get("/1")
    (request,) = stranger.seen
    assert (request["HTTP_AUTHORIZATION"], request["PATH_INFO"]) == ("Bearer s3cret", "/1")
    assert "s3cret" not in request["QUERY_STRING"]


def test_no_password_file_and_no_proxy_is_used(stranger, monkeypatch, tmp_path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    stranger.body = b"{}"
    client = ServerClient(stranger.url)
    assert client.get("/x") == {}
    assert "HTTP_AUTHORIZATION" not in stranger.seen[0]
    client.act("load", "a/b c?d")
    assert stranger.seen[1]["PATH_INFO"] == "/api/models/load/a/b c?d"
    assert "is a model of another server" in str(client.unknown("far"))


def test_other_failures_are_told_in_the_servers_words(stranger) -> None:
    stranger.status = "503 Service Unavailable"
    stranger.body = json.dumps({"error": {"message": "it is too late"}}).encode()
    with pytest.raises(CommandFailed, match="it is too late") as caught:
        ServerClient(stranger.url).get("/running")
    assert type(caught.value) is CommandFailed
    stranger.status, stranger.body = "200 OK", b"12345"  # which breaks off
    stranger.headers = [("Content-Length", "9"), ("Connection", "close")]
    with pytest.raises(CommandFailed), ServerClient(stranger.url).send("GET", "/x") as answer:
        list(answer.iter_content(None))
