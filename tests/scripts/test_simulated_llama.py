import sys

import simulated_llama

from llmsnap.simulator.options import parse


def test_llama_servers_options_become_the_simulators() -> None:
    given = "--model m.gguf --host 127.0.0.1 --port 1234 --ctx-size 2048 --alias gemma"
    extra = "--embeddings --pooling mean --temp 0.3 --chat-template {{x}} -np 2 --no-ui"
    command = simulated_llama.simulator_command(f"{given} {extra}".split())
    assert command[:3] == [sys.executable, "-m", "llmsnap.simulator"]
    options = parse(command[3:])
    assert (options.port, options.n_ctx, options.model) == (1234, 2048, "gemma")
