"""Facts about scripts/xllama_server.py, on stand-ins for what the wheel brings."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import xllama_server

pytestmark = pytest.mark.e2e  # starts programs

SCRIPT = Path(xllama_server.__file__)

# A module of the wheel's name: it "serves" until a signal, says with what on its standard output.
STAND_IN = """
import enum, sys
from types import SimpleNamespace

class Pooling(enum.IntEnum):
    LLAMA_POOLING_TYPE_UNSPECIFIED = -1
    LLAMA_POOLING_TYPE_MEAN = 1
    LLAMA_POOLING_TYPE_RANK = 4

def CommonParams():
    parts = dict(model=SimpleNamespace(path=""), sampling=SimpleNamespace())
    parts |= dict(cpuparams=SimpleNamespace(), cpuparams_batch=SimpleNamespace())
    return SimpleNamespace(pooling_type=Pooling(-1), **parts)

class Server:
    def __init__(self, params):
        if "missing" in params.model.path:
            raise RuntimeError("no such model")
        print("serving", params.model.path, params.port, flush=True)
    def handle_completions(self, body):
        print("generated", body["n_predict"], flush=True)
"""


wheel = ModuleType("xllamacpp")
exec(STAND_IN, vars(wheel))


def configured(*arguments: str) -> Any:
    options, _ = xllama_server.parse(["--model", "m.gguf", *arguments])
    return xllama_server.configured(wheel.CommonParams(), options)


def test_options_reach_llama_cpp() -> None:
    found = configured(
        *("--alias", "chat", "--host", "127.0.0.2", "--port", "9000", "--ctx-size", "2048"),
        *("--parallel", "2", "--threads", "1", "--temp", "0.5", "--repeat-penalty", "1.2"),
        *("--predict", "64", "--chat-template", "{{ x }}", "--slot-save-path", "/slots"),
        *("--swa-full", "--embeddings", "--pooling", "mean", "--no-repack"),
    )
    assert (found.model.path, found.model_alias) == ("m.gguf", {"chat"})
    assert (found.hostnames, found.port) == (["127.0.0.2"], 9000)
    assert (found.n_ctx, found.n_parallel, found.n_predict) == (2048, 2, 64)
    assert (found.cpuparams.n_threads, found.cpuparams_batch.n_threads) == (1, 1)
    assert (found.sampling.temp, found.sampling.penalty_repeat) == (0.5, 1.2)
    assert (found.chat_template, found.slot_save_path) == ("{{ x }}", "/slots/")
    assert (found.swa_full, found.embedding, found.no_extra_bufts) == (True, True, True)
    assert found.pooling_type is wheel.Pooling.LLAMA_POOLING_TYPE_MEAN
    found = configured("--rerank")
    assert (found.hostnames, found.port) == (["127.0.0.1"], 8080), "as llama-server"
    assert found.pooling_type is wheel.Pooling.LLAMA_POOLING_TYPE_RANK
    assert found.embedding
    with pytest.raises(ValueError, match=r"--pooling sum: unknown; choose one of mean, rank"):
        configured("--pooling", "sum")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "m", "--gpu-layers", "3"],
        ["--model", "m", "--ctx", "3"],
        ["--model", "m", "--port", "x"],
        ["--model", "m", "stray"],
        ["--port", "1"],
    ],
)
def test_what_it_does_not_know_it_refuses(arguments, capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        xllama_server.parse(arguments)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "xllamacpp.py").write_text(STAND_IN)
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


def start(environ: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environ, text=True, **pipes)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(environ: dict[str, str], number: int) -> None:
    with start(environ, "--model", "m.gguf", "--port", "1234") as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "serving m.gguf 1234\n"
        server.send_signal(number)
        server.communicate(timeout=10)
    assert server.returncode == -number


def test_the_check_generates_a_token_and_ends_and_a_missing_model_is_named(environ) -> None:
    with start(environ, "--model", "m.gguf", "--port", "1234", "--check") as server:
        output, _ = server.communicate(timeout=10)
    assert (server.returncode, output) == (0, "serving m.gguf 0\ngenerated 1\n")
    with start(environ, "--model", "missing.gguf") as server:
        _, error = server.communicate(timeout=10)
    assert server.returncode == 1
    assert "missing.gguf cannot be served: no such model" in error


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_it_ends_with_its_parent(environ: dict[str, str]) -> None:
    command = [sys.executable, str(SCRIPT), "--model", "m.gguf", "--port", "1"]
    # The pipe's other end closes when the last process that holds it has gone.
    parent = (
        "import subprocess, sys, os; child = subprocess.Popen(sys.argv[1:], stdout=1);"
        "sys.stdin.readline(); os._exit(0)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent, *command],
        env=environ,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("serving")
        process.communicate("end\n", timeout=10)
