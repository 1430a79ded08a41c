"""The vendored libraries are the files their manifest lists, and all of them."""

from __future__ import annotations

import hashlib
import json
import re

from llmsnap.paths import static_folder

VENDOR = static_folder() / "vendor"
PACKAGES = json.loads((VENDOR / "manifest.json").read_text())["packages"]


def test_every_file_is_what_the_manifest_says() -> None:
    for package in PACKAGES:
        for name, digest in package["files"].items():
            assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name


def test_no_file_is_unlisted() -> None:
    listed = {name for package in PACKAGES for name in package["files"]} | {"manifest.json"}
    there = {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*") if path.is_file()}
    assert there == listed


def test_every_package_has_version_licence_and_origin() -> None:
    for package in PACKAGES:
        assert re.fullmatch(r"\d+\.\d+\.\d+", package["version"])
        assert package["licence"]
        assert package["integrity"].startswith("sha512-")
        assert any(name.startswith("licences/") for name in package["files"]), package["name"]


def test_scripts_import_only_what_lies_beside_them() -> None:
    for path in static_folder().rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        for target in re.findall(
            r'^\s*(?:import|export)\b[^"\n]*\bfrom\s*"([^"]+)"', text, re.MULTILINE
        ):
            assert (path.parent / target).is_file(), f"{path.name} imports {target}"


def test_own_modules_stay_small() -> None:
    for path in (static_folder() / "js").rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 350, path.name
        assert text.startswith("// "), f"{path.name} does not say what it is for"
