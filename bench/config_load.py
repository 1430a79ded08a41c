"""Measures the load time of a configuration of many models: best and median of several runs.

python bench/config_load.py [MODELS] [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import time

from llmsnap.config import loads

HEAD = """
startPort: 10000
macros:
  server: llama-server --host 127.0.0.1 --port ${PORT}
  model-dir: /models
  context: 8192
models:
"""

# A typical large file has these per model: comments, macros, filters, metadata.
MODEL = """
  vendor/model-NUMBER:
    cmd: |
      ${server}
      # NUMBER of many
      --model ${model-dir}/model-NUMBER-q4_k_m.gguf
      --ctx-size ${context} --alias ${MODEL_ID}
    name: Model NUMBER
    description: One of many
    aliases: [alias-NUMBER, "${MODEL_ID}-latest"]
    env:
      - CUDA_VISIBLE_DEVICES=0
    ttl: 300
    filters:
      stripParams: temperature, top_p
      setParams:
        cache_prompt: true
    metadata:
      context: ${context}
      port: ${PORT}
"""


def text_of(models: int) -> str:
    """Return a configuration of *models* models."""
    return HEAD + "".join(MODEL.replace("NUMBER", str(number)) for number in range(models))


def seconds_to_load(text: str) -> tuple[float, float]:
    """Return wall and CPU seconds of one load."""
    wall, cpu = time.perf_counter(), time.process_time()
    loads(text, environ={})
    return time.perf_counter() - wall, time.process_time() - cpu


def main(models: int, rounds: int) -> None:
    text = text_of(models)
    runs = [seconds_to_load(text) for _ in range(rounds)]
    for name, seconds in zip(("wall", "CPU"), zip(*runs, strict=True), strict=True):
        best, median = min(seconds), statistics.median(seconds)
        print(f"{models} models, {name}: best {best:.3f} s, median {median:.3f} s")


if __name__ == "__main__":
    main(*(int(word) for word in (sys.argv[1:] + ["1000", "7"][len(sys.argv) - 1 :])))
