import ast
import sys
from pathlib import Path

import pytest
import side_by_side

TEST = "def test_it():\n    assert {fact}\n"


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout of two test files."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = e2e\n")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr(side_by_side, "ROOT", tmp_path)
    monkeypatch.setattr(side_by_side.os, "cpu_count", lambda: 2)
    for name, fact in (("one", True), ("two", True)):
        (tmp_path / f"tests/test_{name}.py").write_text(TEST.format(fact=fact))
    return tmp_path


@pytest.mark.e2e  # it starts three interpreters, which takes seconds on a busy machine
def test_all_files_are_run_and_one_failure_fails_the_run(suite, capfd) -> None:
    (suite / "tests/test_two.py").write_text(TEST.format(fact=False))
    assert side_by_side.main(["unit"]) == 1
    output = capfd.readouterr().out
    assert output.count("-- 1 test files") == 2
    assert "1 passed" in output
    assert "1 failed" in output.rpartition("-- failed: 1 test files")[2]
    assert side_by_side.main(["unit", "-x", "tests/test_one.py"]) == 0
    assert "1 passed" in capfd.readouterr().out


def test_progress_is_what_processes_have_written_and_waits_for_the_slowest(tmp_path: Path) -> None:
    assert side_by_side.progress_of([(0, 0), (5, 10)], 20) == "20 s, collecting tests"
    said = side_by_side.progress_of([(10, 20), (10, 40)], 20)
    assert said == "20 of 60 tests, about 60 s left"
    progress = tmp_path / "progress"
    run = side_by_side.Run("title", None, sys.stdout.buffer, progress)
    assert run.counts() == (0, 0)
    for text, counts in (("", (0, 0)), ("3 12", (3, 12))):  # "": about to be written
        progress.write_text(text)
        assert run.counts() == counts


def test_a_file_that_is_left_out_of_the_unit_tests_is_marked_as_a_whole() -> None:
    """A mark within a text, such as a program that a test runs, would keep all from being run."""
    for path in side_by_side.unit_files():
        text = path.read_text(encoding="utf-8")
        if side_by_side.WHOLE in text and path.name != Path(__file__).name:
            lines = [ast.unparse(statement) for statement in ast.parse(text).body]
            assert any(line.startswith(side_by_side.WHOLE) for line in lines), path
