"""The demo's config through the real command: on the simulator always, on a real model if here."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, Running, real_model, text_of

pytestmark = pytest.mark.e2e
openai = pytest.importorskip("openai")
DEMO = ROOT / "conf" / "demo.yaml"
PLACES = ("LLMSNAP_DEMO_SERVER", "LLMSNAP_DEMO_MODEL")


def demo_variables(kind: str) -> dict[str, str]:
    if kind == "simulated":
        stand_in = ROOT / "scripts" / "simulated_llama.py"
        return dict(zip(PLACES, (f"'{sys.executable}' '{stand_in}'", "m.gguf"), strict=True))
    return real_model()


@pytest.fixture(params=["simulated", "real"])
def demo(
    request: pytest.FixtureRequest,
    start: Callable[..., Running],
    monkeypatch: pytest.MonkeyPatch,
) -> Running:
    """llmsnap on conf/demo.yaml, with ports of its own."""
    for name, value in demo_variables(request.param).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    text = DEMO.read_text().replace("{", "{{").replace("}", "}}")
    return start(text.replace("startPort: 18650", "startPort: {port}"))


def test_the_openai_client_chats_swaps_and_embeds(demo: Running) -> None:
    client = openai.OpenAI(base_url=f"{demo.url}/v1", api_key="none", timeout=90)
    for model in ("gemma", "gemma-story"):
        question = [{"role": "user", "content": "What is the capital of France?"}]
        stream = client.chat.completions.create(
            model=model, messages=question, stream=True, max_tokens=4
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
        assert "".join(pieces)
        assert demo.running() == {model: "ready"}
    vector = client.embeddings.create(model="text-embedding-3-small", input="llama")
    assert len(vector.data[0].embedding) >= 64
    assert demo.running() == {"gemma-embed": "ready", "gemma-story": "ready"}


def test_the_sleeping_model_is_woken_not_loaded(demo: Running) -> None:
    assert text_of(demo.chat("sleeper", stream=True, max_tokens=2))
    assert demo.chat("gemma", max_tokens=1).status_code == 200
    assert demo.running() == {"gemma": "ready", "sleeper": "asleep"}
    assert text_of(demo.chat("sleeper", stream=True, max_tokens=2))
    assert demo.running() == {"sleeper": "ready"}
