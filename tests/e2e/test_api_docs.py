"""The examples of docs/api.md, run and compared."""

import json
import re
from pathlib import Path

import pytest

from tests.e2e.harness import ROOT, Running

pytestmark = pytest.mark.e2e

PAGE = Path(ROOT, "docs/api.md").read_text()
CONFIG = """\
startPort: {port}
models:
  llama:
    cmd: "{sim} --n-ctx 8192"
    name: Llama 8B
    description: small
    ttl: 60
    metadata: {{tags: [a, b]}}
"""
EXAMPLES = re.findall(r"<!-- example: GET (\S+) -->\n```json\n(.*?)```", PAGE, re.DOTALL)


def shape(value: object) -> object:
    """What kind of document it is: its members, and whether these are numbers, texts, or null."""
    match value:
        case dict():
            return {name: shape(inner) for name, inner in value.items()}
        case list():
            return [shape(inner) for inner in value[:1]]
        case None | int() | float():
            return "number or null"
    return type(value).__name__


@pytest.mark.parametrize(("path", "example"), EXAMPLES, ids=lambda text: text[:20])
def test_the_examples_look_like_the_answers(server: Running, path: str, example: str) -> None:
    server.chat("llama")
    server.wait_for(lambda: "context_length" in server.get("/v1/models/llama").json())
    assert shape(server.get(path).json()) == shape(json.loads(example))
