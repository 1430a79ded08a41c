"""The vendored libraries are the files their manifest lists, and all of them."""

import hashlib
import json
import re
from pathlib import Path

import pytest

from llmsnap.installation import static_folder

FOLDERS = [static_folder() / "vendor", Path(__file__).parent / "vendor"]


@pytest.mark.parametrize("folder", FOLDERS, ids=["static", "tests"])
def test_every_file_is_what_the_manifest_says_of_packages_with_licence_and_origin(
    folder: Path,
) -> None:
    packages = json.loads((folder / "manifest.json").read_text())["packages"]
    listed = {name: digest for package in packages for name, digest in package["files"].items()}
    there = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert there == listed
    for package in packages:
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert package["licence"]
        assert package["integrity"].startswith("sha512-")
        assert any(name.startswith("licences/") for name in package["files"]), package["name"]
