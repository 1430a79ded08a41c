import json

import pytest

from llmsnap import __version__
from llmsnap.commands import version


def test_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert version.main([]) == 0
    assert capsys.readouterr().out.startswith(f"llmsnap {__version__} (")


def test_it_is_a_document_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    version.main(["--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == __version__
    assert set(found) == {"version", "commit", "date", "compiled", "checkout", "folder"}
