from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from llmsnap.server import development
from llmsnap.server.development import CodeWatch, start_anew, watching_code


class Code:
    """Two loaded modules of a package, and one from elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "package"
        self.folder.mkdir()
        self.modules: dict[str, ModuleType] = {"builtin": ModuleType("builtin")}
        self.calls: list[str] = []
        self._time = 0
        for name in ("one", "two"):
            self.write(self.folder / f"{name}.py", "x = 1\n")
        self.elsewhere = self.write(folder / "elsewhere.py", "x = 1\n")

    def write(self, path: Path, text: str) -> Path:
        path.write_text(text)
        self._time += 1
        os.utime(path, (self._time, self._time))
        module = ModuleType(path.stem)
        module.__file__ = str(path)
        self.modules[path.stem] = module
        return path

    def watch(self) -> CodeWatch:
        return CodeWatch(lambda: self.calls.append("change"), self.folder, self.modules)


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path)


def test_a_changed_module_is_told_once(code: Code) -> None:
    watch = code.watch()
    watch.check()
    assert not watch.has_changed
    code.write(code.folder / "one.py", "x = 2\n")
    watch.check()
    watch.check()
    assert (watch.has_changed, code.calls) == (True, ["change"])


def test_a_module_loaded_later_is_no_change_but_one_of_it_is(code: Code) -> None:
    watch = code.watch()
    later = code.write(code.folder / "later.py", "x = 1\n")
    watch.check()
    assert code.calls == []
    code.write(later, "x = 2\n")
    watch.check()
    assert code.calls == ["change"]


def test_other_packages_and_removed_files_do_not_count(code: Code) -> None:
    watch = code.watch()
    code.write(code.elsewhere, "x = 2\n")
    (code.folder / "two.py").unlink()
    watch.check()
    assert code.calls == []


def test_what_does_not_compile_waits_until_it_does(
    code: Code, caplog: pytest.LogCaptureFixture
) -> None:
    watch = code.watch()
    code.write(code.folder / "one.py", "x = \n")
    watch.check()
    assert (watch.has_changed, code.calls) == (False, [])
    assert "one.py changed, and is not loaded" in caplog.text
    code.write(code.folder / "one.py", "x = 3\n")
    watch.check()
    assert code.calls == ["change"]


def test_the_watch_ends_with_its_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(development, "POLL_S", 60)
    with watching_code(lambda: None) as watch:
        assert "as loaded" in repr(watch)


def test_the_same_command_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(os, "execv", lambda path, words: runs.append((path, words)))
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "llmsnap", "--debug"])
    start_anew()
    assert runs == [(sys.executable, [sys.executable, "-m", "llmsnap", "--debug"])]
