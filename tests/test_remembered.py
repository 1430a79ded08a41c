"""What is remembered of definitions in a file of the state directory."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from llmsnap import remembered
from llmsnap.remembered import Remembered
from llmsnap.statedir import StateDir, look


@dataclass
class Entry:
    text: str


def parsed(entry: Any) -> Entry:
    return Entry(entry["text"].strip())


def opened(state: StateDir) -> Remembered[Entry]:
    made = Remembered(state, "entries.json", "entries", 1000, parsed)
    made.open()
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o700)
    return tmp_path


def test_what_was_written_is_read_again_the_oldest_left_out(folder: Path, monkeypatch) -> None:
    monkeypatch.setattr(remembered, "MOST_DEFINITIONS", 2)
    first = opened(StateDir(folder))
    for digest, text in (("a", "x"), ("b", "x"), ("a", "\u00e9 \ud800"), ("c", "x")):
        first.keep(digest, Entry(text))
    first.write()
    assert (folder / "entries.json").stat().st_mode & 0o777 == 0o600
    again = opened(StateDir(folder))
    found = [again.get(digest) for digest in "abc"]
    assert found == [Entry("\u00e9 \ud800"), None, Entry("x")]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "[" * 900),
        '{"schema_version": 1}',
        '{"schema_version": 1, "models": []}',
        '{"schema_version": 2, "models": {"a": {"text": "x"}}}',
        '{"schema_version": 1, "models": {"a": {"text": "' + 1000 * "x" + '"}}}',
    ],
)
def test_a_file_that_is_not_understood_is_as_good_as_none(folder: Path, text: str) -> None:
    (folder / "entries.json").write_text(text)
    assert len(opened(StateDir(folder))) == 0


@pytest.mark.parametrize("entry", [None, 7, [], {}, {"text": 7}])
def test_an_entry_that_is_not_understood_is_left_out(folder: Path, entry: Any) -> None:
    models = {"a": entry, "b": {"text": "x"}}
    document = {"schema_version": remembered.SCHEMA_VERSION, "models": models}
    (folder / "entries.json").write_text(json.dumps(document))
    found = opened(StateDir(folder))
    assert ("a" in found, found.get("b")) == (False, Entry("x"))


def test_a_command_reads_it_and_does_not_write(folder: Path, monkeypatch) -> None:
    environ = {"XDG_STATE_HOME": str(folder)}
    path = look("c.yaml", environ).path
    path.mkdir(parents=True, mode=0o700)
    service = opened(StateDir(path))
    service.keep("a", Entry("x"))
    service.write()
    command = opened(look("c.yaml", environ))
    assert command.get("a") == Entry("x")
    command.keep("b", Entry("x"))
    command.write()
    assert "b" not in opened(look("c.yaml", environ))
    path.chmod(0o777)
    assert len(opened(look("c.yaml", environ))) == 0, "another user may have written it"
