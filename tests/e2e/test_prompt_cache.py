"""Prompts kept over swaps, with llama-server's simulation and with the real one."""

import os
import signal
import sys
from pathlib import Path

import gevent
import pytest
import requests

from tests.e2e.api import serving
from tests.e2e.harness import DEFAULT_DOOR, ROOT, Running, real_model
from tests.memory.ggufs import gguf

pytestmark = pytest.mark.e2e

CONFIG = """\
startPort: {port}
unloadTimeout: {unload}
promptCache: {{minTokens: 300}}
models:
  kept:
    cmd: {server}
    promptCache: true
  other:
    cmd: {sim}
"""
PROMPT = " ".join(["river stone cloud garden window letter"] * 60)


def simulated(folder: Path, *options: str) -> str:
    """Return a command that gets --slot-save-path, or has one in *options*."""
    weights = folder / "m.gguf"
    weights.write_bytes(gguf({"general.architecture": "llama"}))
    program = f"{ROOT / 'scripts' / 'simulated_llama.py'}"
    if options:
        program = "-m llmsnap.simulator"
    return f"{sys.executable} {program} --port ${{PORT}} --model {weights} {' '.join(options)}"


def cached(server: Running, text: str) -> int:
    """Return how many tokens of a prompt its server had already."""
    body = {"model": "kept", "prompt": text, "max_tokens": 4, "temperature": 0}
    answer = server.post("/v1/completions", body)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["timings"]["cache_n"])


def swap_out_and_in(server: Running) -> dict[str, float]:
    """Ask, swap, ask on; return the phases of the last two swaps."""
    assert cached(server, PROMPT) == 0
    server.chat("other")
    assert cached(server, PROMPT + " and what then") >= 300
    return {phase["name"]: phase["ms"] for swap in server.swaps()[-2:] for phase in swap["phases"]}


def test_a_conversation_goes_on_after_a_swap_and_a_restart(tmp_path: Path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    with serving(tmp_path, CONFIG, *state, server=simulated(tmp_path), unload=40) as server:
        assert {"save", "restore"} <= swap_out_and_in(server).keys()
        page = server.get("/metrics").text
        for outcome in ("saved", "restored", "reused"):
            assert f'llmsnap_prompt_cache_tokens_total{{model="kept",outcome="{outcome}"}}' in page
        out, back = [swap["prompt_tokens"] for swap in server.swaps()[-2:]]
        assert out["saved"] == back["restored"] >= 300
        assert server.records()[0]["cached_tokens"] >= 300
    files = [path.name for path in (tmp_path / "state" / "prompt-cache").iterdir()]
    assert len(files) == 1
    with serving(tmp_path, server.config, *state) as server:
        assert cached(server, PROMPT + " and what then") >= 300


@pytest.mark.skipif(DEFAULT_DOOR != "llmsnap", reason="gunicorn's worker outlives its master")
def test_kill_9_while_it_saves_leaves_nothing_that_is_restored(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir(mode=0o700)
    options = ("--slot-save-path", str(folder), "--timings")
    places = {"server": simulated(tmp_path, *options), "unload": 300}
    state = ("--state-dir", str(tmp_path / "state"))
    with serving(tmp_path, CONFIG, *state, **places) as server:
        assert cached(server, PROMPT) == 0
        server.post("/upstream/kept/sim/options", {"slot_time": 60})
        unload = gevent.spawn(requests.post, f"{server.url}/api/models/unload/kept", timeout=60)
        server.wait_for(lambda: server.running().get("kept") == "stopping")
        os.kill(server.process.pid, signal.SIGKILL)
        with pytest.raises(requests.ConnectionError):
            unload.get()
    with serving(tmp_path, server.config, *state) as server:
        assert cached(server, PROMPT) == 0
        server.wait_for(lambda: not list(folder.glob("*.part")))


def test_a_server_that_hangs_while_it_saves_is_stopped_in_time(tmp_path: Path) -> None:
    folder = tmp_path / "prompts"
    folder.mkdir(mode=0o700)
    options = ("--slot-save-path", str(folder), "--slot-fault", "hang", "--timings")
    with serving(tmp_path, CONFIG, server=simulated(tmp_path, *options), unload=2) as server:
        assert cached(server, PROMPT) == 0
        assert server.chat("other").status_code == 200, "the server would hang for ever"
        assert "save" in [phase["name"] for phase in server.swaps()[-1]["phases"]]
        assert cached(server, PROMPT) == 0


def test_the_real_server(tmp_path: Path) -> None:
    found = real_model()
    command = (
        f"{found['LLMSNAP_DEMO_SERVER']} --model '{found['LLMSNAP_DEMO_MODEL']}' --port ${{PORT}} "
        "--threads 2 --ctx-size 2048 --parallel 1 --no-repack --swa-full"
    )
    state = ("--state-dir", str(tmp_path / "state"))
    with serving(tmp_path, CONFIG, *state, server=command, unload=60) as server:
        swap_out_and_in(server)
