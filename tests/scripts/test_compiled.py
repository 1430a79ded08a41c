import subprocess
import sys
from pathlib import Path

import compiled
import pytest

pytestmark = pytest.mark.e2e  # starts programs


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of three files, two of them not committed."""
    root = tmp_path / "checkout"
    (root / "llmsnap").mkdir(parents=True)
    (root / "tests").mkdir()
    for name in ("setup.py", "llmsnap/a.py", "tests/test_a.py"):
        (root / name).write_text(name)
    (root / ".gitignore").write_text("build/\n*.so\n")
    subprocess.run(["git", "init", "--quiet", root], check=True)
    subprocess.run(["git", "add", "setup.py"], cwd=root, check=True)
    monkeypatch.setattr(compiled, "ROOT", root)
    monkeypatch.setattr(compiled, "COPY", root / "build/compiled")
    return root


@pytest.fixture
def compiler(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes each time the copy is compiled."""
    runs: list[str] = []

    def stand_in() -> bool:
        runs.append("compiled")
        (compiled.COPY / "llmsnap__mypyc.so").touch()
        return True

    monkeypatch.setattr(compiled, "compile_there", stand_in)
    return runs


def run(*code: str) -> int:
    return compiled.main([sys.executable, "-c", *code])


def test_the_command_runs_in_the_copy(checkout: Path, compiler: list[str]) -> None:
    assert run("import pathlib; assert pathlib.Path('llmsnap/a.py').read_text()") == 0
    assert run("raise SystemExit(3)") == 3
    assert not list(checkout.glob("*.so")), "the checkout itself stays as it is"


def test_it_is_compiled_again_only_when_the_package_changed(checkout, compiler) -> None:
    for edited, times in (("", 1), ("tests/test_a.py", 1), ("llmsnap/a.py", 2), ("setup.py", 3)):
        if edited:
            (checkout / edited).write_text("edited")
        assert run("") == 0
        assert len(compiler) == times
    assert (compiled.COPY / "tests/test_a.py").read_text() == "edited"


def test_what_is_gone_is_gone_from_the_copy(checkout: Path, compiler: list[str]) -> None:
    run("")
    (checkout / "llmsnap/a.py").unlink()
    (checkout / "tests/test_a.py").unlink()
    run("")
    assert not list(compiled.COPY.rglob("*a.py"))


def test_what_cannot_be_compiled_is_not_run(checkout, capsys) -> None:
    (checkout / "setup.py").write_text("print('no compiler'); raise SystemExit(1)")
    assert run("raise SystemExit(0)") == 1
    said = capsys.readouterr().out
    assert "no compiler" in said
    assert "could not be compiled" in said
