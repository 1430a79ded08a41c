"""Facts about llmsnap.web.assets."""

from __future__ import annotations

import zlib
from pathlib import Path

import pytest

from llmsnap.web.assets import Assets, compressors

LONG = "let a = 1;\n" * 500


@pytest.fixture
def assets(tmp_path: Path) -> Assets:
    (tmp_path / "js").mkdir()
    (tmp_path / "js" / "app.js").write_text(LONG)
    (tmp_path / "short.js").write_text("1")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG" + bytes(4000))
    return Assets(tmp_path)


def test_a_file_knows_its_type_and_tag(assets: Assets) -> None:
    script = assets.get("js/app.js")
    assert script is not None
    assert script.media_type == "text/javascript"
    assert script.data == LONG.encode()
    assert len(script.etag) == 32


@pytest.mark.parametrize("name", ["", "js", "../secret", "/etc/passwd", "js/../../x", "nothing.js"])
def test_what_is_not_a_file_below_the_folder_does_not_exist(assets: Assets, name: str) -> None:
    assert assets.get(name) is None


def test_names_are_sorted_and_found_by_prefix(assets: Assets) -> None:
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


def test_text_is_compressed_once(assets: Assets) -> None:
    script = assets.get("js/app.js")
    assert script is not None
    encoding, data = assets.encoded(script, "gzip")
    assert encoding == "gzip"
    assert zlib.decompress(data, wbits=31).decode() == LONG
    assert assets.encoded(script, "gzip")[1] is data


@pytest.mark.parametrize(
    ("accept", "encoding"),
    [
        ("", ""),
        ("deflate", ""),
        ("browser", ""),
        ("gzip, deflate", "gzip"),
        ("gzip;q=0", ""),
        ("br;q=0, gzip", "gzip"),
    ],
)
def test_the_client_decides_about_compression(assets: Assets, accept: str, encoding: str) -> None:
    script = assets.get("js/app.js")
    assert script is not None
    assert assets.encoded(script, accept)[0] == encoding


def test_brotli_comes_first_where_it_is_installed(assets: Assets) -> None:
    pytest.importorskip("brotli")
    assert list(compressors()) == ["br", "gzip"]
    script = assets.get("js/app.js")
    assert script is not None
    assert assets.encoded(script, "gzip;q=1.0, br;q=0.5")[0] == "br"


@pytest.mark.parametrize("name", ["short.js", "picture.png"])
def test_what_would_not_shrink_stays_as_it_is(assets: Assets, name: str) -> None:
    asset = assets.get(name)
    assert asset is not None
    assert assets.encoded(asset, "gzip, br") == ("", asset.data)
