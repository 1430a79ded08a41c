import json
from pathlib import Path

from llmsnap import __version__, cli, installation
from llmsnap.installation import (
    EXTENSION,
    Build,
    identify,
    platform_warnings,
    unsupported_reason,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def test_a_release_says_what_it_was_made_from(tmp_path: Path) -> None:
    (tmp_path / "_build.json").write_text(json.dumps({"commit": COMMIT, "date": "2026-02-03"}))
    build = identify(tmp_path)
    assert str(build) == f"llmsnap {__version__} (0123456789ab), built 2026-02-03, " + (
        f"pure Python, from {tmp_path}"
    )
    assert build.short == f"llmsnap {__version__} (pure Python)", "an installed copy"


def test_a_checkout_says_its_commit(tmp_path: Path) -> None:
    git, package = tmp_path / ".git", tmp_path / "llmsnap"
    assert identify(package) == Build(__version__, "unknown", "unknown", folder=str(package))
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


def test_what_is_compiled_says_so(tmp_path: Path) -> None:
    package = tmp_path / "llmsnap"
    (package / "proxy").mkdir(parents=True)
    (package / "proxy/client.py").touch()
    assert not identify(package).compiled
    (package / f"proxy/client{EXTENSION}").touch()
    assert identify(package).compiled
    assert f"(unknown), compiled, from {package}" in str(identify(package))
    assert identify(package).short == f"llmsnap {__version__} (compiled)"


def test_a_checkout_has_the_folders_beside_the_package(tmp_path: Path) -> None:
    assert (installation.static_folder() / "js" / "app.js").is_file()
    assert (installation.template_folder() / "ui.html").is_file()
    assert (installation.data_root() / "conf").is_dir()
    package = tmp_path / "llmsnap"
    assert installation.data_root(package) == tmp_path
    (package / "share").mkdir(parents=True)
    assert installation.data_root(package) == package / "share", "of an installed one"


def test_windows_is_refused_in_one_sentence(monkeypatch, capsys) -> None:
    for platform in ("win32", "cygwin"):
        (line,) = unsupported_reason(platform).splitlines()
        assert line.startswith("llmsnap does not run on Windows")
        assert "WSL 2" in line
    for other in ("linux", "darwin", "freebsd14"):
        assert unsupported_reason(other) == ""
    monkeypatch.setattr(cli, "unsupported_reason", lambda: line)
    assert cli.main(["version"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", f"{line}\n")


def test_macos_is_told_what_it_does_without() -> None:
    (line,) = platform_warnings("darwin").splitlines()
    assert "inotify, parent-death signal" in line
    assert "/proc" in line
    assert platform_warnings("linux") == ""
