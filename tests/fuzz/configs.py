"""A configuration file: a Config comes out of it, or a ConfigError that says something."""

import tempfile
from pathlib import Path

from llmsnap.config import Config, compare, load
from llmsnap.config.schema import all_keys
from llmsnap.errors import ConfigError, Problem

CONF = Path(__file__).parents[2] / "conf"
ENVIRON = {"X": "value", "LLMSNAP_DEMO_SERVER": "llama-server", "LLMSNAP_DEMO_MODEL": "m.gguf"}
WORDS = [
    *(f"{path.rpartition('.')[2].rstrip('[]')}: ".encode() for path, _ in all_keys()),
    b"\n", b"\n  ", b"\n    ", b"- ", b": ", b"{", b"}", b"[", b"]", b"'", b'"', b"&a ", b"*a",
    b"|\n", b">-\n", b"? ", b"<<: ", b"!!str ", b"!!binary ", b"---\n", b"...\n", b"# ", b"~",
    b"%YAML 1.2\n", b"null", b"true", b"1e3", b"0x1f", b".inf", b"-1", b"2026-02-03", b"1:30",
    b"${PORT}", b"${a}", b"${env.X}", b"${env.NO}", b"${MODEL_ID}", b"${", b"\x00", b"\xff\xfe",
    b"\xef\xbb\xbf", b"\t",
]  # fmt: skip
SEEDS = [
    b"models:\n  m:\n    cmd: serve --port ${PORT}\n",
    b"macros: {a: '1', b: '${a}'}\nmodels: {m: {cmd: 's ${b} ${PORT}', ttl: 5, aliases: [x]}}\n",
    b"base: &b {cmd: 's ${PORT}'}\nmodels:\n  m: {<<: *b, env: ['A=${env.X}']}\n",
    *(path.read_bytes() for path in sorted(CONF.glob("*.yaml"))),
]


def check(data: bytes) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        path = f"/dev/fd/{file.fileno()}"
        found = outcome(path)
        if isinstance(found, Config):
            again = load(path, environ=ENVIRON, previous=found)
            assert not compare(found, again), "loading it once more changes something"
        else:
            assert found
            assert all(problem.what for problem in found)
            assert found == outcome(path)


def outcome(path: str) -> Config | tuple[Problem, ...]:
    try:
        return load(path, environ=ENVIRON)
    except ConfigError as error:
        return error.problems
