from __future__ import annotations

from pathlib import Path

import pytest

from llmsnap.config import Config, load_with_advice, split_command

DEMO = Path(__file__).parent.parent.parent / "conf" / "demo.yaml"
REAL = {"LLMSNAP_DEMO_SERVER": "'/opt/my llama/llama-server'", "LLMSNAP_DEMO_MODEL": "/a b/m.gguf"}
SIMULATED = {"LLMSNAP_DEMO_SERVER": "/v/python /s/stand-in.py", "LLMSNAP_DEMO_MODEL": "m.gguf"}


@pytest.fixture(params=[REAL, SIMULATED], ids=["real", "simulated"])
def environ(request: pytest.FixtureRequest) -> dict[str, str]:
    found: dict[str, str] = request.param
    return found


@pytest.fixture
def demo(environ: dict[str, str]) -> Config:
    loaded = load_with_advice(DEMO, environ=environ)
    assert loaded.advice == ()
    return loaded.config


def test_the_two_chat_models_swap(demo: Config) -> None:
    default = demo.groups["(default)"]
    assert default.members == ("gemma", "gemma-story", "sleeper")
    assert default.swap
    assert demo.models["gemma"].cmd != demo.models["gemma-story"].cmd


def test_the_embedding_model_stays(demo: Config) -> None:
    group = demo.groups["always-there"]
    assert group.members == ("gemma-embed",)
    assert group.persistent
    assert not group.exclusive
    assert "--embeddings --pooling mean" in demo.models["gemma-embed"].cmd


def test_the_simulated_vllm_sleeps(demo: Config) -> None:
    sleeper = demo.models["sleeper"]
    assert sleeper.can_sleep
    assert [each.endpoint for each in sleeper.sleep_endpoints] == ["/sleep?level=1"]
    assert [each.endpoint for each in sleeper.wake_endpoints] == ["/wake_up"]


def test_every_model_is_introduced(demo: Config) -> None:
    for model in demo.models.values():
        assert model.name
        assert model.description


def test_the_ports_are_not_those_the_system_hands_out(demo: Config) -> None:
    for model in demo.models.values():
        assert model.port is not None
        assert 1024 < model.port < 32768


def test_paths_with_blanks_stay_one_word() -> None:
    demo = load_with_advice(DEMO, environ=REAL).config
    words = split_command(demo.models["gemma"].cmd)
    assert words[:3] == ["/opt/my llama/llama-server", "--model", "/a b/m.gguf"]
    assert words[-1].startswith("{% for m in messages %}")
    assert words[-1].endswith("Answer:")
