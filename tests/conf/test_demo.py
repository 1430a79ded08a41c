from pathlib import Path

import pytest

from llmsnap.config import load_with_advice, split_command

DEMO = Path(__file__).parent.parent.parent / "conf" / "demo.yaml"
REAL = {"LLMSNAP_DEMO_SERVER": "'/opt/my llama/llama-server'", "LLMSNAP_DEMO_MODEL": "/a b/m.gguf"}
SIMULATED = {"LLMSNAP_DEMO_SERVER": "/v/python /s/stand-in.py", "LLMSNAP_DEMO_MODEL": "m.gguf"}


@pytest.mark.parametrize("environ", [REAL, SIMULATED], ids=["real", "simulated"])
def test_the_demo_swaps_two_models_keeps_a_third_and_lets_one_sleep(environ) -> None:
    loaded = load_with_advice(DEMO, environ=environ)
    demo = loaded.config
    assert loaded.advice == ()
    assert demo.groups["(default)"].members == ("gemma", "gemma-story", "sleeper")
    assert demo.groups["(default)"].swap
    assert demo.models["gemma"].cmd != demo.models["gemma-story"].cmd
    kept = demo.groups["always-there"]
    assert (kept.members, kept.persistent, kept.exclusive) == (("gemma-embed",), True, False)
    assert demo.models["sleeper"].can_sleep
    for model in demo.models.values():
        assert model.name
        assert model.description
        assert 1024 < model.port < 32768, "not one that the system hands out"


def test_paths_with_blanks_stay_one_word() -> None:
    demo = load_with_advice(DEMO, environ=REAL).config
    words = split_command(demo.models["gemma"].cmd)
    assert words[:3] == ["/opt/my llama/llama-server", "--model", "/a b/m.gguf"]
    assert words[-1].startswith("{% for m in messages %}")
    assert words[-1].endswith("Answer:")
