import pytest

from llmsnap import cli
from llmsnap.systems import refusal, shortcomings


@pytest.mark.parametrize("platform", ["win32", "cygwin"])
def test_windows_is_refused_in_one_sentence(platform: str) -> None:
    (line,) = refusal(platform).splitlines()
    assert line.startswith("llmsnap does not run on Windows")
    assert "WSL 2" in line


@pytest.mark.parametrize("platform", ["linux", "darwin", "freebsd14"])
def test_others_are_not(platform: str) -> None:
    assert refusal(platform) == ""


def test_linux_lacks_nothing() -> None:
    assert shortcomings("linux") == ""


def test_macos_is_told_what_it_does_without() -> None:
    (line,) = shortcomings("darwin").splitlines()
    assert "inotify, parent-death signal" in line
    assert "/proc" in line


def test_the_program_says_so_and_ends(monkeypatch, capsys) -> None:
    monkeypatch.setattr(cli, "refusal", lambda: refusal("win32"))
    assert cli.main(["version"]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", refusal("win32") + "\n")
