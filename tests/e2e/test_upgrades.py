"""A running llmsnap continues with the store and state directory of an earlier release."""

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, Running

pytestmark = pytest.mark.e2e
RELEASES = sorted(path for path in (ROOT / "tests/upgrades").iterdir() if path.is_dir())


@pytest.mark.parametrize("written", RELEASES, ids=lambda path: path.name)
def test_requests_are_numbered_on_from_those_of_the_release(
    written: Path,
    tmp_path: Path,
    start: Callable[..., Running],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = Path(shutil.copytree(written, tmp_path / "release"))
    monkeypatch.setenv("UPGRADE_FOLDER", str(release))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    text = (release / "config.yaml").read_text().replace("python3", sys.executable)
    text = text.replace("{", "{{").replace("}", "}}").replace("28100", "{port}")
    server = start(text, "--state-dir", str(release / "state"))
    assert server.chat("first", max_tokens=1).status_code == 200
    assert [record["id"] for record in server.records()] == [5, 4, 3, 2, 1, 0]
