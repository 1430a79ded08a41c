"""The vendored libraries are the files their manifest lists, and all of them."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from llmsnap.installation import static_folder

VENDOR = static_folder() / "vendor"
TOOLS = Path(__file__).parent / "vendor"
FOLDERS = [VENDOR, TOOLS]
each_folder = pytest.mark.parametrize("folder", FOLDERS, ids=["static", "tests"])


def packages(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "manifest.json").read_text())["packages"]
    return found


@each_folder
def test_every_file_is_what_the_manifest_says(folder: Path) -> None:
    for package in packages(folder):
        for name, digest in package["files"].items():
            assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name


@each_folder
def test_no_file_is_unlisted(folder: Path) -> None:
    listed = {name for package in packages(folder) for name in package["files"]}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there == listed | {"manifest.json"}


@each_folder
def test_every_package_has_version_licence_and_origin(folder: Path) -> None:
    for package in packages(folder):
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert package["licence"]
        assert package["integrity"].startswith("sha512-")
        assert any(name.startswith("licences/") for name in package["files"]), package["name"]
