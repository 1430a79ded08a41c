"""The interface: its page, its files, their caching and compression."""

import gzip
import os
import re
import zlib
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from llmsnap.errors import NotFound
from llmsnap.web import ui
from llmsnap.web.app import create_app
from llmsnap.web.ui import Assets, compressors

FIRST_LOAD_BYTES = 150_000


@pytest.fixture
def client() -> FlaskClient:
    app = Flask("test", static_folder=None)
    app.register_blueprint(ui.bp)
    app.register_error_handler(NotFound, lambda error: (str(error), 404))
    return app.test_client()


def test_addresses_that_lead_on(client) -> None:
    targets = {
        "/": (302, "ui/"),
        "/ui": (301, "ui/"),
        "/ui/models": (302, "../ui/#/models"),
        "/ui/models/": (302, "../../ui/#/models"),
        "/ui/home": (302, "../ui/"),
    }
    answers = {path: client.get(path) for path in targets}
    found = {path: (one.status_code, one.headers["Location"]) for path, one in answers.items()}
    assert found == targets


def test_the_page_allows_no_inline_script_and_no_other_origin_and_is_not_sent_again(client) -> None:
    answer = client.get("/ui/")
    policy = answer.headers["Content-Security-Policy"]
    assert not [word for word in ("unsafe", "http") if word in policy]
    assert "script-src 'self';" in policy
    assert "require-trusted-types-for 'script'" in policy
    assert not re.findall(r"<script(?![^>]*\bsrc=)|\bon\w+=|style=", answer.text)
    assert "//" not in re.sub(r"<!doctype html>", "", answer.text)
    assert answer.headers["Cache-Control"] == "no-cache"
    again = client.get("/ui/", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")


def test_an_edited_template_is_shown_at_the_next_look(tmp_path: Path) -> None:
    app = create_app(lambda: pytest.fail("no service needed"))
    app.template_folder = str(tmp_path)
    page = tmp_path / "ui.html"
    page.write_text("one")
    with app.test_request_context("/ui/"):
        first = app.make_response(ui.shell())
    page.write_text("another")
    os.utime(page, (1, 1))
    with app.test_request_context("/ui/", headers={"If-None-Match": first.headers["ETag"]}):
        second = app.make_response(ui.shell())
    assert (first.data, second.status_code, second.data) == (b"one", 200, b"another")


def addresses(client: FlaskClient) -> list[str]:
    return re.findall(r'(?:src|href)="(/ui/[^"#]+)"', client.get("/ui/").text)


def test_everything_the_page_names_exists_and_what_is_versioned_stays(client) -> None:
    for address in addresses(client):
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        forever = "immutable" in answer.headers["Cache-Control"]
        assert forever == address.startswith("/ui/static/"), address
    old = client.get("/ui/static/0123456789abcdef/js/app.js")
    assert (old.status_code, old.headers["Cache-Control"]) == (200, "no-cache")
    assert client.get("/favicon.ico").mimetype in {"image/x-icon", "image/vnd.microsoft.icon"}
    names = [each for each in addresses(client) if each.startswith("/ui/static/")]
    packed = [client.get(name, headers={"Accept-Encoding": "gzip"}).data for name in names]
    assert sum(map(len, packed)) < FIRST_LOAD_BYTES


def test_compression_is_negotiated_and_said(client) -> None:
    address = f"/ui/static/{ui.assets.version}/css/components.css"
    plain = client.get(address)
    packed = client.get(address, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.data) == plain.data
    assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
    assert plain.headers["ETag"] != packed.headers["ETag"]


def test_what_is_not_there(client) -> None:
    names = ("nothing.js", "js", "static/x/", "static/x/../ui.py", "a/b")
    absent = ["/uix", *(f"/ui/{name}" for name in names)]
    found = {path: client.get(path).status_code for path in absent}
    assert found == dict.fromkeys(absent, 404)
    assert client.post("/ui/").status_code == 405
    part = client.get("/ui/icon-512.png", headers={"Range": "bytes=1-3"})
    assert (part.status_code, part.data) == (206, b"PNG")


LONG = "let a = 1;\n" * 500


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    (tmp_path / "js").mkdir()
    (tmp_path / "js" / "app.js").write_text(LONG)
    (tmp_path / "short.js").write_text("1")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG" + bytes(4000))
    return Assets(tmp_path)


def test_files_are_those_below_the_folder(assets: Assets) -> None:
    for name in ("", "js", "../secret", "/etc/passwd", "js/../../x", "nothing.js"):
        assert assets.get(name) is None, name
    assert assets.names("") == ["js/app.js", "picture.png", "short.js"]
    assert assets.names("js/") == ["js/app.js"]


def test_the_version_changes_with_any_content_and_only_then(assets: Assets, tmp_path: Path) -> None:
    first = assets.version
    assets.refresh()
    assert assets.version == first
    (tmp_path / "short.js").write_text("22")
    assert assets.version == first
    assets.refresh()
    assert assets.version != first
    assert assets.get("short.js").data == b"22"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("accept", "encoding"), [("", ""), ("gzip, deflate", "gzip"), ("gzip;q=0", "")]
)
def test_the_client_decides_about_compression(assets: Assets, accept: str, encoding: str) -> None:
    script = assets.get("js/app.js")
    assert script is not None
    assert (script.media_type, script.data) == ("text/javascript", LONG.encode())
    found, data = assets.encoded(script, accept)
    assert found == encoding
    if found == "gzip":
        assert zlib.decompress(data, wbits=31).decode() == LONG
    assert assets.encoded(script, accept)[1] is data
    if "br" in compressors():
        assert assets.encoded(script, "gzip;q=1.0, br;q=0.5")[0] == "br"


def test_what_would_not_shrink_stays_as_it_is(assets: Assets) -> None:
    for asset in (assets.get("short.js"), assets.get("picture.png")):
        assert asset is not None
        assert assets.encoded(asset, "gzip, br") == ("", asset.data)
