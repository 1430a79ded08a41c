"""Every shell command of the documentation is run, or the page says why it is not."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from gevent import subprocess

from tests.e2e.harness import Running
from tests.shell_blocks import Block, commands

pytestmark = pytest.mark.e2e
CONFIG = """\
startPort: {port}
models:
  gemma: {{cmd: "{sim}"}}
  gemma-story: {{cmd: "{sim}"}}
  gemma-embed: {{cmd: "{sim}"}}
  llama: {{cmd: "{sim}"}}
  whisper: {{cmd: "{sim}"}}
  z-image: {{cmd: "{sim}"}}
  coder: {{cmd: "{sim}"}}
  chat: {{cmd: "{sim} --tokens 8", aliases: [gpt-4o]}}
  sleeper:
    cmd: "{sim}"
    sleepMode: enable
    sleepEndpoints: [{{endpoint: /sleep}}]
    wakeEndpoints: [{{endpoint: /wake_up}}]
"""
WHOLE = "models:\n  qwen:\n    cmd: llmsnap sim --port ${PORT}\n"
ADDRESSES = ("http://127.0.0.1:8080", "http://localhost:8080", "localhost:8080")


@pytest.fixture(scope="module")
def folder(server: Running, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the pages name, and a curl that fails when the response is an error."""
    server.chat("chat")  # the first record and the first capture
    made = tmp_path_factory.mktemp("reader")
    (made / "config.yaml").write_text(WHOLE)
    (made / "speech.mp3").write_bytes(b"ID3")
    curl = made / "bin" / "curl"
    curl.parent.mkdir()
    curl.write_text(f'#!/bin/sh\nexec {shutil.which("curl")} -sS --fail "$@"\n')
    curl.chmod(0o755)
    return made


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    "block", [block for block in commands() if not block.why_not], ids=lambda block: block.place
)
def test_a_command_of_the_documentation_succeeds(
    block: Block, server: Running, folder: Path
) -> None:
    script = block.script
    assert script, "a transcript without a command"
    for address in ADDRESSES:
        script = script.replace(address, server.url)
    path = os.pathsep.join(
        [str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": path, "HOME": str(folder), "LLMSNAP_URL": server.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout.decode(errors='replace')}"
