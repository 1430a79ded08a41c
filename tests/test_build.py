import json
from pathlib import Path

from llmsnap import __version__
from llmsnap.build import EXTENSION, Build, identify

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_release_says_what_it_was_made_from(tmp_path: Path) -> None:
    (tmp_path / "_build.json").write_text(json.dumps({"commit": COMMIT, "date": "2026-02-03"}))
    build = identify(tmp_path)
    assert str(build) == f"llmsnap {__version__} (0123456789ab), built 2026-02-03, " + (
        f"pure Python, from {tmp_path}"
    )
    assert build.short == f"llmsnap {__version__} (pure Python)", "an installed copy"


def test_a_build_of_changed_files_says_so() -> None:
    said = str(Build("1.0", f"{COMMIT}-modified"))
    assert said.startswith("llmsnap 1.0 (0123456789ab-modified), ")


def test_a_checkout_says_its_commit(tmp_path: Path) -> None:
    git, package = tmp_path / ".git", tmp_path / "llmsnap"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs/heads/main").write_text(COMMIT + "\n")
    assert identify(package).commit == COMMIT
    assert identify(package).short.endswith("(pure Python, checkout 0123456789ab)")
    (git / "refs/heads/main").unlink()
    (git / "packed-refs").write_text(
        f"# pack-refs\n{'f' * 40} refs/heads/x\n{COMMIT} refs/heads/main\n"
    )
    assert identify(package).commit == COMMIT
    (git / "HEAD").write_text(COMMIT)
    assert identify(package).commit == COMMIT


def test_what_nobody_tells_is_unknown(tmp_path: Path) -> None:
    package = tmp_path / "llmsnap"
    assert identify(package) == Build(__version__, "unknown", "unknown", folder=str(package))
    (tmp_path / "llmsnap").mkdir()
    (tmp_path / "llmsnap/_build.json").write_text("{}")
    assert identify(tmp_path / "llmsnap").commit == "unknown"


def test_what_is_compiled_says_so(tmp_path: Path) -> None:
    package = tmp_path / "llmsnap"
    (package / "proxy").mkdir(parents=True)
    (package / "proxy/pool.py").touch()
    assert not identify(package).compiled
    (package / f"proxy/pool{EXTENSION}").touch()
    assert identify(package).compiled
    assert f"(unknown), compiled, from {package}" in str(identify(package))
    assert identify(package).short == f"llmsnap {__version__} (compiled)"
