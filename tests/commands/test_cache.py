import io
from pathlib import Path

import pytest

from llmsnap.commands.cache import main
from llmsnap.errors import CommandFailed
from llmsnap.models import PromptFiles, model_key
from llmsnap.statedir import StateDir

CONFIG = """
models:
  a: {cmd: "llama-server --port ${PORT}", promptCache: true}
  b: {cmd: "sh -c 'llama-server --slot-save-path FOLDER --port ${PORT}'", promptCache: true}
"""


@pytest.fixture
def run(tmp_path: Path):
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path / "own")))
    state = tmp_path / "state"

    def call(*argv: str) -> str:
        out = io.StringIO()
        environ = {"LLMSNAP_CONFIG": str(config), "LLMSNAP_STATE_DIR": str(state)}
        assert main(argv, out, environ) == 0
        return out.getvalue().replace(str(tmp_path), "")

    call()
    for model, folder in (("a", "state/prompt-cache"), ("b", "own")):
        files = PromptFiles(tmp_path / folder, StateDir(state).instance)
        files.prepare()
        part = files.new_part()
        part.write_bytes(b"x" * 100_000)
        files.accept(part, model_key(model), "0" * 32, 0, 1586, 100_000)
        files.new_part().write_bytes(b"half")
    return call


def test_it_lists_and_deletes_what_is_kept(run, tmp_path: Path) -> None:
    one = "1 prompt, 1586 tokens, 0.1 MB"
    assert run() == f"/state/prompt-cache\n  a: {one}\n/own\n  b: {one}\n"
    assert "  b:" not in run("list", "a")
    run("clear", "a")
    assert run() == f"/state/prompt-cache\n  no prompts are kept\n/own\n  b: {one}\n"
    assert "/own: 1 prompt deleted, 0.1 MB" in run("clear")
    assert not list((tmp_path / "own").iterdir())
    with pytest.raises(CommandFailed, match="there is no model 'c'"):
        run("clear", "c")
