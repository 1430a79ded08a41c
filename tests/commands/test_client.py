import argparse
import json
from pathlib import Path

import pytest
from gevent import pywsgi
from gevent.pool import Pool

from llmsnap.commands import models
from llmsnap.commands.client import ServerClient, connect
from llmsnap.errors import CommandFailed, KeyRefused, NoServer, WrongUse
from tests.commands.conftest import Running


def args(*argv: str) -> argparse.Namespace:
    return models.ps_parser().parse_args(argv)


def key_of(client: ServerClient) -> str:
    return client._headers.get("Authorization", "")


def test_the_address_is_of_the_option_then_of_the_variable() -> None:
    environ = {"LLMSNAP_URL": "http://box:1/"}
    assert connect(args(), {}).url == "http://127.0.0.1:8080"
    assert connect(args(), environ).url == "http://box:1"
    assert connect(args("--url", "https://x/llm/"), environ).url == "https://x/llm"


@pytest.mark.parametrize("url", ["box:8080", "ftp://box", "http://", "/tmp/socket"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(WrongUse, match=r"must be like http://127\.0\.0\.1:8080"):
        connect(args("--url", url), {})
    with pytest.raises(WrongUse, match="LLMSNAP_API_KEY") as caught:
        connect(args("--url", "http://me:s3cret@box"), {})
    assert "s3cret" not in str(caught.value)


def test_the_key_is_of_the_files_or_of_the_variable(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("k1\n")
    two.write_text("k2\n")
    environ = {"LLMSNAP_KEY_FILE": str(two)}
    assert key_of(connect(args(), {})) == ""
    assert key_of(connect(args(), environ)) == "Bearer k2"
    assert key_of(connect(args(), {**environ, "LLMSNAP_API_KEY": "k3"})) == "Bearer k3"
    both = {**environ, "LLMSNAP_API_KEY": "k3"}
    assert key_of(connect(args("--key-file", str(one)), both)) == "Bearer k1"


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
def stranger():
    """A web server that is not llmsnap: answers *says* to everything."""
    says = {"status": "200 OK", "body": b"<html>", "headers": []}

    def application(environ, start_response):
        seen.append(environ)
        start_response(says["status"], says["headers"])
        return [says["body"]]

    seen: list[dict] = []
    server = pywsgi.WSGIServer(("127.0.0.1", 0), application, log=None, spawn=Pool())
    server.start()
    says["url"] = f"http://127.0.0.1:{server.server_port}"
    says["seen"] = seen
    yield says
    server.stop(0)


def test_nobody_at_the_address_says_what_to_do(server: Running) -> None:
    for url, words in (
        ("http://127.0.0.1:1", r"Connection refused.*--url or LLMSNAP_URL"),
        ("http://nowhere.invalid:1", r"no server at http://nowhere\.invalid"),
        (server.url.replace("http:", "https:"), "https:"),
    ):
        with pytest.raises(NoServer, match=words):
            ServerClient(url).get("/running")


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "302 Found", "502 Bad Gateway"])
def test_a_stranger_is_told_as_such(stranger, status: str) -> None:
    stranger["status"] = status
    with pytest.raises(NoServer, match="is not llmsnap"):
        ServerClient(stranger["url"]).get("/running")


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
    stranger["status"], stranger["headers"] = "302 Found", [("Location", stranger["url"] + "/2")]
    with pytest.raises(NoServer):
        ServerClient(stranger["url"], "s3cret").get("/1")
    (request,) = stranger["seen"]
    assert (request["HTTP_AUTHORIZATION"], request["PATH_INFO"]) == ("Bearer s3cret", "/1")
    assert "s3cret" not in request["QUERY_STRING"]


def test_no_password_file_and_no_proxy_is_used(stranger, monkeypatch, tmp_path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    stranger["body"] = b"{}"
    assert ServerClient(stranger["url"]).get("/x") == {}
    assert "HTTP_AUTHORIZATION" not in stranger["seen"][0]
    ServerClient(stranger["url"]).act("load", "a/b c?d")
    assert stranger["seen"][1]["PATH_INFO"] == "/api/models/load/a/b c?d"
    assert "is a model of another server" in str(ServerClient(stranger["url"]).unknown("far"))


def test_other_failures_are_told_in_the_servers_words(stranger) -> None:
    stranger["status"] = "503 Service Unavailable"
    stranger["body"] = json.dumps({"error": {"message": "it is too late"}}).encode()
    with pytest.raises(CommandFailed, match="it is too late") as caught:
        ServerClient(stranger["url"]).get("/running")
    assert type(caught.value) is CommandFailed
    stranger["status"], stranger["body"] = "200 OK", b"12345"  # which breaks off
    stranger["headers"] = [("Content-Length", "9"), ("Connection", "close")]
    with pytest.raises(CommandFailed), ServerClient(stranger["url"]).send("GET", "/x") as answer:
        list(answer.iter_content(None))
