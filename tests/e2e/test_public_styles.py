"""Configurations in the style of public ones, each of which uses another part of llama-swap's keys.

Each is started, and asked what its user would ask.
"""

import io
import json
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest
import requests

from tests.e2e.api import peer, serving
from tests.e2e.harness import SIM, Running
from tests.fakes.ports import free_ports
from tests.parity import parity

pytestmark = pytest.mark.e2e


def reply(server: Running, model: str, **more: object) -> dict:
    """The response to a chat; the simulator shows the request that reached it."""
    answer = server.chat(model, **more)
    assert answer.status_code == 200, answer.text
    found: dict = answer.json()
    return found


def sent(server: Running, model: str, **more: object) -> dict:
    """The request that reached the model's server."""
    found: dict = json.loads(reply(server, model, **more)["sim_request"]["body"])
    return found


def ids(server: Running) -> list[str]:
    return [one["id"] for one in server.get("/v1/models").json()["data"]]


# --- macros and groups, as in older files ---------------------------------------------------------

OLD = """\
healthCheckTimeout: 120
logLevel: info
startPort: {port}
metricsMaxInMemory: 500
macros:
  "server": >
    {sim} --echo-requests
  context: 8192
models:
  "qwen2.5-coder":
    cmd: |
      # the coder
      ${{server}}
      --n-ctx ${{context}}
    aliases: ["gpt-4o-mini", "coder"]
    ttl: 300
    filters:
      strip_params: "temperature, top_p"
  "gemma-3":
    cmd: ${{server}}
    unlisted: true
  "nomic":
    cmd: ${{server}}
groups:
  "swapping":
    swap: true
    exclusive: true
    members: ["qwen2.5-coder", "gemma-3"]
  "forever":
    persistent: true
    swap: false
    exclusive: false
    members: ["nomic"]
hooks:
  on_startup:
    preload: ["nomic"]
"""


def ask_old(server: Running) -> None:
    server.wait_for(lambda: server.running() == {"nomic": "ready"})
    assert "temperature" not in sent(server, "gpt-4o-mini", temperature=0.1)
    assert (
        server.get("/upstream/coder/props").json()["default_generation_settings"]["n_ctx"] == 8192
    )
    reply(server, "gemma-3")
    assert server.running() == {"gemma-3": "ready", "nomic": "ready"}
    assert ids(server) == ["nomic", "qwen2.5-coder"]


# --- a matrix -------------------------------------------------------------------------------------

MATRIX = """\
startPort: {port}
models:
  llama-70b: {{cmd: "{sim}"}}
  qwen-coder: {{cmd: "{sim}"}}
  whisper: {{cmd: "{sim}"}}
  flux: {{cmd: "{sim}"}}
matrix:
  vars: {{L: llama-70b, Q: qwen-coder, W: whisper, F: flux}}
  evict_costs: {{L: 50}}
  sets:
    talk: L & W
    work: Q & (W | F)
"""


def ask_matrix(server: Running) -> None:
    for model in ("qwen-coder", "whisper"):
        reply(server, model)
    assert server.running() == {"qwen-coder": "ready", "whisper": "ready"}
    reply(server, "flux")
    assert server.running() == {"flux": "ready", "qwen-coder": "ready"}


# --- profiles and selectors -----------------------------------------------------------------------

PROFILES = """\
startPort: {port}
includeAliasesInList: true
models:
  small:
    cmd: "{sim}"
    capabilities: {{in: [text], out: [text], tools: true, context: 32768}}
  large: {{cmd: "{sim}"}}
selectors:
  auto: {{strategy: warm, targets: [large, small], description: Whatever is loaded}}
profiles:
  travel:
    description: On battery
    pins: {{gpt-4: small, large: }}
hooks:
  on_startup: {{profile: travel}}
"""


def ask_profiles(server: Running) -> None:
    assert server.get("/api/profiles").json()["active"] == "travel"
    reply(server, "gpt-4")
    refused = server.chat("large")
    assert (refused.status_code, "travel" in refused.text) == (404, True)
    assert requests.put(
        f"{server.url}/api/profiles/active", json={"name": None}, timeout=30
    ).json() == {"active": None}
    reply(server, "auto")
    assert server.running() == {"small": "ready"}
    found = {one["id"]: one for one in server.get("/v1/models").json()["data"]}
    assert found["small"]["context_length"] == 32768
    assert found["auto"]["meta"]["llamaswap"]["type"] == "selector"


# --- vLLM that sleeps, placeholders, shells -------------------------------------------------------

VLLM = """\
startPort: {port}
models:
  qwen-vl:
    cmd: sh -c 'exec {sim}'
    env: ["VLLM_SERVER_DEV_MODE=1", "CUDA_VISIBLE_DEVICES=0"]
    sleepMode: enable
    sleepEndpoints:
      - {{endpoint: "/sleep?level=1", method: POST, timeout: 30}}
    wakeEndpoints:
      - {{endpoint: /wake_up}}
    concurrencyLimit: 16
  always-on:
    cmd: sleep infinity
    proxy: {other}
    checkEndpoint: /health
  remote:
    proxy: {other}
"""


def ask_vllm(server: Running) -> None:
    reply(server, "qwen-vl")
    reply(server, "always-on")
    assert server.running() == {"always-on": "ready", "qwen-vl": "asleep"}
    reply(server, "remote")
    reply(server, "qwen-vl")
    assert server.running() == {"qwen-vl": "ready", "remote": "ready"}


# --- speech, pictures, embeddings, with parameters by name ----------------------------------------

MEDIA = """\
startPort: {port}
logRequests: false
models:
  whisper-1: {{cmd: "{sim}", checkEndpoint: /health, aliases: [whisper]}}
  sd-turbo: {{cmd: "{sim}"}}
  bge: {{cmd: "{sim} --dimensions 8", aliases: [text-embedding-3-small]}}
  gpt-oss:
    cmd: "{sim} --echo-requests"
    filters:
      stripParams: "top_k"
      setParams: {{temperature: 0.7, "max_tokens?": 64}}
      setParamsByID:
        "${{MODEL_ID}}": {{}}
        "${{MODEL_ID}}:high": {{reasoning_effort: high, "chat_template_kwargs.think?": true}}
groups:
  all: {{swap: false, members: [whisper-1, sd-turbo, bge, gpt-oss]}}
"""


def ask_media(server: Running) -> None:
    sound = {"file": ("a.wav", io.BytesIO(b"RIFF" * 100), "audio/wav")}
    address = f"{server.url}/v1/audio/transcriptions"
    heard = requests.post(address, data={"model": "whisper"}, files=sound, timeout=30)
    assert heard.status_code == 200
    drawn = server.post("/v1/images/generations", {"model": "sd-turbo", "prompt": "a cat"})
    assert drawn.json()["data"]
    wanted = {"model": "text-embedding-3-small", "input": "x"}
    (embedding,) = server.post("/v1/embeddings", wanted).json()["data"]
    assert len(embedding["embedding"]) == 8
    high = sent(server, "gpt-oss:high", top_k=5, temperature=0.1)
    assert high["temperature"] == 0.7
    assert (high["max_tokens"], high["reasoning_effort"]) == (64, "high")
    assert high["chat_template_kwargs"] == {"think": True}
    assert "top_k" not in high
    assert sent(server, "gpt-oss", max_tokens=3)["max_tokens"] == 3
    assert len(server.running()) == 4


# --- a directory of files -------------------------------------------------------------------------

FOLDER = {
    "00-server.yaml": """\
        startPort: {port}
        logToStdout: http, upstream
        store: {{path: {folder}/history.db}}
        performance: {{every: 15s}}
        ui: {{activity: {{session_id: [X-Session-Id]}}}}
        macros: {{sim: "{sim}"}}
    """,
    "10-chat.yml": """\
        models: {{chat: {{cmd: "${{sim}}"}}}}
        groups: {{small: {{swap: false, exclusive: false, members: [chat]}}}}
    """,
    "20-embed.yaml": """\
        models: {{embed: {{cmd: "${{sim}}"}}}}
    """,
}


def ask_folder(server: Running) -> None:
    reply(server, "chat")
    server.wait_output(r'"POST /v1/chat/completions HTTP/1.1" 200')
    assert "watching" not in server.output
    found = server.get("/api/metrics/activity").json()["data"]
    assert [row["model"] for row in found] == ["chat"]
    assert server.get("/api/performance").json()["enabled"]
    assert len(server.get("/api/config/status").json()["files"]) == 3
    assert ids(server) == ["chat", "embed"]


STYLES: dict[str, tuple[str, Callable[[Running], None]]] = {
    "macros and groups": (OLD, ask_old),
    "matrix": (MATRIX, ask_matrix),
    "profiles and selectors": (PROFILES, ask_profiles),
    "vLLM, placeholders, shells": (VLLM, ask_vllm),
    "speech, pictures, embeddings": (MEDIA, ask_media),
}


@parity(
    "Files and deployments",
    "files in the style of public ones: groups, matrix, profiles, sleep, media, directories",
    "they load without errors and serve what their users ask",
)
@pytest.mark.parametrize("style", STYLES)
def test_a_configuration_in_the_style_of_public_ones_works(style: str, tmp_path: Path) -> None:
    text, ask = STYLES[style]
    with peer() as other, serving(tmp_path, text, door="llmsnap", other=other) as server:
        ask(server)


def test_a_directory_of_files_works(tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    port = free_ports(10)
    for name, one in FOLDER.items():
        (folder / name).write_text(dedent(one).format(sim=SIM, port=port, folder=tmp_path))
    server = Running("llmsnap", None, "--config-dir", str(folder))
    try:
        server.wait_ready()
        ask_folder(server)
    finally:
        server.stop()
