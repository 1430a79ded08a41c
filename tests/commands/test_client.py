import json

import pytest
from gevent import pywsgi
from gevent.pool import Pool

from llmsnap.commands.client import Client
from llmsnap.errors import CommandFailed, KeyRefused, NoServer, NoSuchModel
from tests.commands.conftest import Running

CLOSE = ("Connection", "close")


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


def test_a_document_is_read(server: Running) -> None:
    assert Client(server.url).get("/running") == {"running": []}


def test_nobody_at_the_address_says_what_to_do() -> None:
    with pytest.raises(NoServer, match=r"Connection refused.*--url or LLMSNAP_URL"):
        Client("http://127.0.0.1:1").get("/running")


def test_a_name_that_leads_nowhere_is_told() -> None:
    with pytest.raises(NoServer, match=r"no server at http://nowhere\.invalid"):
        Client("http://nowhere.invalid:1").get("/running")


@pytest.mark.parametrize("status", ["200 OK", "404 Not Found", "302 Found", "502 Bad Gateway"])
def test_a_stranger_is_told_as_such(stranger, status: str) -> None:
    stranger["status"] = status
    with pytest.raises(NoServer, match="is not llmsnap"):
        Client(stranger["url"]).get("/running")


def test_a_key_is_asked_for_and_a_wrong_one_refused(guarded: Running) -> None:
    with pytest.raises(KeyRefused, match="set LLMSNAP_API_KEY, or name a file"):
        Client(guarded.url).get("/running")
    with pytest.raises(KeyRefused, match="does not know this API key") as caught:
        Client(guarded.url, "s3cret").get("/running")
    assert "s3cret" not in str(caught.value)
    assert Client(guarded.url, "boss").get("/running") == {"running": []}


def test_a_key_that_may_not_is_refused_in_the_servers_words(guarded: Running) -> None:
    with pytest.raises(KeyRefused, match="'guest' may not use"):
        Client(guarded.url, "guest").act("unload", "llama")


def test_the_key_goes_in_a_header_and_follows_no_redirect(stranger) -> None:
    stranger["status"], stranger["headers"] = "302 Found", [("Location", stranger["url"] + "/2")]
    with pytest.raises(NoServer):
        Client(stranger["url"], "s3cret").get("/1")
    (request,) = stranger["seen"]
    assert (request["HTTP_AUTHORIZATION"], request["PATH_INFO"]) == ("Bearer s3cret", "/1")
    assert "s3cret" not in request["QUERY_STRING"]


def test_no_password_file_and_no_proxy_is_used(stranger, monkeypatch, tmp_path) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cret")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    stranger["body"] = b"{}"
    assert Client(stranger["url"]).get("/x") == {}
    assert "HTTP_AUTHORIZATION" not in stranger["seen"][0]


def test_an_unknown_model_is_told_with_near_ones(server: Running) -> None:
    with pytest.raises(NoSuchModel, match="did you mean llama"):
        Client(server.url).act("load", "lama")


def test_a_model_of_a_peer_is_told_as_such(server: Running, stranger) -> None:
    stranger["body"] = b"{}"
    assert "is a model of another server" in str(Client(stranger["url"]).unknown("far"))


def test_names_may_hold_anything(stranger) -> None:
    Client(stranger["url"]).act("load", "a/b c?d")
    assert stranger["seen"][0]["PATH_INFO"] == "/api/models/load/a/b c?d"


def test_other_failures_are_told_in_the_servers_words(stranger) -> None:
    stranger["status"] = "503 Service Unavailable"
    stranger["body"] = json.dumps({"error": {"message": "it is too late"}}).encode()
    with pytest.raises(CommandFailed, match="it is too late") as caught:
        Client(stranger["url"]).get("/running")
    assert type(caught.value) is CommandFailed


def test_an_answer_that_breaks_off_is_a_failure(stranger) -> None:
    stranger["headers"], stranger["body"] = [("Content-Length", "9"), CLOSE], b"12345"
    with pytest.raises(CommandFailed), Client(stranger["url"]).send("GET", "/x") as answer:
        list(answer.iter_content(None))


def test_a_certificate_nobody_vouches_for_is_told(server: Running) -> None:
    with pytest.raises(NoServer):
        Client(server.url.replace("http:", "https:")).get("/running")
