from llmsnap.config import loads
from llmsnap.http.secrets import REDACTED as MASK
from llmsnap.web.configuration import is_only_simulated, mask

FILE = """\
# a comment
apiKeys:
  - sk-plain-key-one
  - key: hunter2hunter2
    name: laptop
    models: [llama]
    admin: false
  - "${env.LLMSNAP_KEY}"
startPort: 5800
models:
  llama:
    cmd: llama-server --api-key abcdefg --port ${PORT} --max-tokens 12
    env: [HF_TOKEN=hf_abcdefgh, THREADS=4]
    ttl: 60
peers:
  office:
    proxy: http://10.0.0.2
    apiKey: topsecret
"""

SHOWN = FILE
for _secret in ("sk-plain-key-one", "hunter2hunter2", "abcdefg", "hf_abcdefgh", "topsecret"):
    SHOWN = SHOWN.replace(f" {_secret}", f" {MASK}").replace(f"={_secret}", f"={MASK}")


def test_a_configuration_of_simulated_models_only_is_recognised() -> None:
    simulated = {
        "a: {cmd: llmsnap sim --port ${PORT}}": True,
        "a: {cmd: /opt/bin/llmsnap sim --port ${PORT}}": True,
        "a: {cmd: llmsnap sim --port ${PORT}}, b: {cmd: 'server ${PORT}'}": False,
        "a: {cmd: my-llmsnap sim --port ${PORT}}": False,
        "": False,
    }
    configs = {models: loads(f"models: {{{models}}}", environ={}) for models in simulated}
    assert {models: is_only_simulated(one) for models, one in configs.items()} == simulated


def test_a_whole_file() -> None:
    assert mask(FILE) == SHOWN


def test_no_way_of_writing_shows_it() -> None:
    for text in (
        "apiKeys: [verysecret]",
        "apiKeys: [\n  verysecret,\n]\nttl: 1",
        "apiKeys:\n  - |\n    verysecret\nttl: 1",
        "apiKeys:\n  # verysecret\nttl: 1",
        "apikeys: [verysecret]",
        "api_keys:\n  - key: verysecret",
        "API-Keys:\n  - {key: verysecret}",
        "  apiKey: 'verysecret'",
        "#  apiKey: verysecret",
        "macros:\n  token: >-\n    verysecret\n    verysecret\n",
        "env:\n  - OPENAI_API_KEY=verysecret",
        "cmd: x --hf-token=verysecret",
        'cmd: x --password "very secret verysecret"',
        "Authorization: Bearer verysecret",
    ):
        shown = mask(text)
        assert "secret" not in shown
        assert shown.count("\n") == text.count("\n"), text


def test_known_secrets_are_masked_wherever_they_stand() -> None:
    assert mask("proxy: http://me:hunter2@host", ["hunter2"]) == f"proxy: http://{MASK}@host"
    assert mask("ttl: 123", ["123", ""]) == "ttl: 123", "trivial ones are not"
    assert mask("apiKeys:\n  - verysecret\nttl: 12").endswith("\nttl: 12")
