"""``flask --app llmsnap.wsgi run --debug``: for whoever works on llmsnap."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.harness import Running, is_alive, pids_below

pytestmark = pytest.mark.e2e


def models(server: Running) -> list[int]:
    """What runs below the reloader and its server."""
    below = pids_below(server.process.pid)
    return [pid for pid in below if "simulator" in " ".join(cmdline(pid))]


def cmdline(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def test_changed_code_starts_it_anew_and_no_model_twice(start: Any, tmp_path: Path) -> None:
    source = tmp_path / "source.py"
    source.write_text("1")
    server = start(door="flask", own=("--extra-files", str(source)))
    server.chat("alpha")
    (before,) = models(server)
    tab = server.get("/api/events", stream=True)
    source.write_text("2")
    server.wait_output("Detected change")
    server.wait_for(lambda: not is_alive(before))
    server.wait_ready()
    assert server.running() == {}
    assert server.chat("alpha").status_code == 200
    assert len(models(server)) == 1
    tab.close()

    # Its command kills the server outright at TERM; the models end with that.
    left = pids_below(server.process.pid)
    server.stop(signal.SIGTERM)
    server.wait_for(lambda: not any(map(is_alive, left)))
