from __future__ import annotations

import pytest

from llmsnap.wire.secrets import masked

GONE = "[REDACTED]"


@pytest.mark.parametrize(
    ("command", "seen"),
    [
        ("server --api-key s3cret --port 1", f"server --api-key {GONE} --port 1"),
        ("server --api-key=s3cret", f"server --api-key={GONE}"),
        ("server --api_key 'a b' -x", f"server --api_key {GONE} -x"),
        ('server --hf-token "a \\" b" -x', f"server --hf-token {GONE} -x"),
        ("docker run -e HF_TOKEN=abc img", f"docker run -e HF_TOKEN={GONE} img"),
        ("env OPENAI_API_KEY='x y' prog", f"env OPENAI_API_KEY={GONE} prog"),
        ("DB_PASSWORD_2=hunter2 prog", f"DB_PASSWORD_2={GONE} prog"),
        ("prog --token \\\n  abc -x", f"prog --token \\\n  {GONE} -x"),
        ("curl -H 'Authorization: Bearer abc.def' x", f"curl -H 'Authorization: Bearer {GONE}' x"),
        ("prog sk-abcdef123456", f"prog {GONE}"),
        ("prog --base https://me:pw@host/x", f"prog --base https://{GONE}@host/x"),
        ("prog -key abc", f"prog -key {GONE}"),
    ],
)
def test_keys_and_tokens_are_blotted_out(command: str, seen: str) -> None:
    assert masked(command) == seen


@pytest.mark.parametrize(
    "command",
    [
        "llama-server --port 5800 -m /models/key.gguf --keep 5 --max-tokens 100",
        "server --cache-type-k q8_0 --tokens-per-second 200 --tokenizer x --monkey 1",
        "server --api-key-file /run/secrets/key --ssl-key-file k.pem",
        "server --api-key --verbose",
        "server --no-auth",
        "say the key is under the mat",
    ],
)
def test_everything_else_stays_readable(command: str) -> None:
    assert masked(command) == command


def test_a_long_command_takes_no_longer_than_it_must() -> None:
    assert masked("a_" * 20000 + "x") == "a_" * 20000 + "x"
