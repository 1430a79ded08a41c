import build_backend
import pytest


def test_a_pure_build_takes_nothing_but_setuptools(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMSNAP_COMPILE", raising=False)
    assert build_backend.compilers() == []


def test_compiling_takes_pinned_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMSNAP_COMPILE", "1")
    names = [line.partition("==")[0] for line in build_backend.compilers()]
    assert sorted(names) == sorted(build_backend.COMPILERS)
