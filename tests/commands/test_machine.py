import socket
from pathlib import Path

import pytest

from llmsnap.commands.machine import advise
from llmsnap.config.report import Report
from llmsnap.config.settings import Config, ModelConfig


def advice(cmd: str, proxy: str = "http://far:80") -> list[str]:
    report = Report()
    model = ModelConfig(id="m", cmd=cmd, proxy=proxy)
    advise(Config(models={"m": model}), None, report, {"PATH": "/bin:/usr/bin"})
    return [each.what for each in report.advice]


def test_a_program_that_is_there_is_fine(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.touch()
    assert advice(f"/bin/sh -m {file} --other=/etc/passwd --port 80") == []
    assert advice("sh -c 'x | y'") == []


@pytest.mark.parametrize(
    ("cmd", "what"),
    [
        ("no-such-program", "no-such-program is not on PATH"),
        ("/no/such/program", "/no/such/program is no executable file"),
        ("/etc/passwd", "/etc/passwd is no executable file"),
        ("sh -m /no/model.gguf", "/no/model.gguf does not exist"),
        ("sh --model=./no.gguf", "./no.gguf does not exist"),
        ("sh ~/x.gguf", "~/x.gguf stays as it is: no shell replaces ~"),
    ],
)
def test_what_is_not_there_is_told(cmd: str, what: str) -> None:
    assert advice(cmd) == [what]


def test_signs_for_a_shell_are_told() -> None:
    assert "no shell runs the command" in advice("sh x | tee y")[0]


@pytest.mark.parametrize(
    "cmd",
    [
        "sh --api-key /no/s3cret.key",
        "sh --hf-token=/no/s3cret.txt",
        "docker run -v /models:/models x --model /models/there.gguf",
        "sh http://h/x.json",
        "sh -v /a:/b.c",
    ],
)
def test_secrets_and_paths_of_elsewhere_are_left_alone(cmd: str) -> None:
    assert not [what for what in advice(cmd) if "PATH" not in what]


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert advice("sh", f"http://localhost:{port}") == [f"port {port} is in use at the moment"]
        assert advice("sh", f"http://far:{port}") == []
