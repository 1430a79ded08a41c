"""``flask --app llmsnap.wsgi run --debug`` and ``llmsnap --debug``: for who works on llmsnap."""

import os
import re
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from llmsnap.installation import identify
from tests.e2e.harness import ROOT, SIM, Installed, Running, children_with, is_alive, pids_below
from tests.fakes.ports import free_ports

pytestmark = pytest.mark.e2e


def models(server: Running) -> list[int]:
    """What runs below the reloader and its server."""
    return sorted(set(children_with("llmsnap.simulator")) & set(pids_below(server.process.pid)))


def test_changed_code_starts_flasks_server_anew_and_no_model_twice(
    start: Any, tmp_path: Path
) -> None:
    source = tmp_path / "source.py"
    source.write_text("1")
    server = start(door="flask", own=("--extra-files", str(source)))
    server.chat("alpha")
    (before,) = models(server)
    tab = server.get("/api/events", stream=True)
    source.write_text("2")
    server.wait_output("Detected change")
    server.wait_for(lambda: not is_alive(before))
    again = f"(?s){re.escape(identify().short)}.*{re.escape(identify().short)}"
    server.wait_for(lambda: server.wait_ready() or re.search(again, server.output))
    assert server.running() == {}
    assert server.chat("alpha").status_code == 200
    assert len(models(server)) == 1
    tab.close()

    # Its command kills the server outright at TERM; the models end with that.
    left = pids_below(server.process.pid)
    server.stop(signal.SIGTERM)
    server.wait_for(lambda: not any(map(is_alive, left)))


@pytest.fixture
def copy(tmp_path: Path) -> Installed:
    """A copy of the package that a test may edit, and a command that runs it."""
    shutil.copytree(ROOT / "llmsnap", tmp_path / "llmsnap")
    program = tmp_path / "program"
    program.write_text(f"#!{sys.executable}\nfrom llmsnap.__main__ import main\nmain()\n")
    program.chmod(0o755)
    environ = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    return Installed(program, environ, tmp_path)


def test_changed_code_starts_llmsnap_anew_and_no_model_twice(
    copy: Installed, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"startPort: {free_ports(10)}\nmodels:\n  alpha:\n    cmd: {SIM}\n")
    server = Running("llmsnap", config, "--debug", installed=copy)
    try:
        server.wait_ready()
        server.chat("alpha")
        (before,) = models(server)
        source = tmp_path / "llmsnap" / "service.py"
        source.write_text(source.read_text() + "\nhalf a li\n")
        server.wait_output("service.py changed, and is not loaded")
        assert server.running() == {"alpha": "ready"}
        source.write_text((ROOT / "llmsnap" / "service.py").read_text() + "\nNEW = True\n")
        server.wait_output(r"(?s)listening.*service.py changed: restarting.*listening")
        assert not is_alive(before)
        server.wait_ready()
        assert server.chat("alpha").status_code == 200
        assert len(models(server)) == 1
        assert server.stop(signal.SIGTERM) == 0
    finally:
        server.process.kill()
