"""Facts about llmsnap.http.secrets."""

from llmsnap.http import secrets
from llmsnap.http.secrets import (
    REDACTED,
    is_secret_name,
    masked,
    redact_output,
    redact_text,
    secret_values,
    secret_variables,
)

GONE = REDACTED

MASKED = {
    "server --api-key s3cret --port 1": f"server --api-key {GONE} --port 1",
    "server --api-key=s3cret": f"server --api-key={GONE}",
    "server --api_key 'a b' -x": f"server --api_key {GONE} -x",
    'server --hf-token "a \\" b" -x': f"server --hf-token {GONE} -x",
    "docker run -e HF_TOKEN=abc img": f"docker run -e HF_TOKEN={GONE} img",
    "env OPENAI_API_KEY='x y' prog": f"env OPENAI_API_KEY={GONE} prog",
    "DB_PASSWORD_2=hunter2 prog": f"DB_PASSWORD_2={GONE} prog",
    "prog --token \\\n  abc -x": f"prog --token \\\n  {GONE} -x",
    "curl -H 'Authorization: Bearer abc.def' x": f"curl -H 'Authorization: Bearer {GONE}' x",
    "prog sk-abcdef123456 https://me:pw@host/x": f"prog {GONE} https://{GONE}@host/x",
    "prog -key abc": f"prog -key {GONE}",
    "HF_TOKEN=abc, THREADS=4": f"HF_TOKEN={GONE}, THREADS=4",
    "prog --access-key a,b": f"prog --access-key {GONE}",
}


def test_keys_and_tokens_are_blotted_out() -> None:
    assert {command: masked(command) for command in MASKED} == MASKED


READABLE = """
    llama-server --port 5800 -m /models/key.gguf --keep 5 --max-tokens 100
    server --cache-type-k q8_0 --tokens-per-second 200 --tokenizer x --monkey 1
    server --api-key-file /run/secrets/key --ssl-key-file k.pem
    server --api-key --verbose
    say the key is under the mat
    server --api-key ${env.LLAMA_KEY} -x
    HF_TOKEN='${env.HF_TOKEN}' prog
"""


def test_everything_else_stays_readable_and_a_long_command_takes_no_longer_than_it_must() -> None:
    for command in [*READABLE.splitlines(), "a_" * 20000 + "x"]:
        assert masked(command) == command


def test_what_is_known_to_be_a_secret_is_blotted_out_wherever_it_stands() -> None:
    said = "prog {0} http://x/{0}/1 --port 12"
    assert masked(said.format("hunter2"), ["hunter2", "12", ""]) == said.format(GONE)


SECRETS = """
    Authorization proxy-authorization Cookie Set-Cookie X-API-Key x-goog-api-key X-Auth-Token apikey
    api_key access_token client-secret X-Amz-Signature X-Amz-Security-Token password key
    Sec-WebSocket-Key x-session Ocp-Apim-Subscription-Key HF_TOKEN apiKey
"""
OTHERS = """
    Content-Type User-Agent Www-Authenticate X-Request-Id max_tokens x-ratelimit-remaining-tokens
    monkey Authority model keyboard api-key-file
"""


def test_names_of_secrets_and_of_other_things() -> None:
    assert [name for name in SECRETS.split() if not is_secret_name(name)] == []
    assert [name for name in OTHERS.split() if is_secret_name(name)] == []


def test_secrets_in_messages() -> None:
    text = "at http://me:{}@box: Bearer {}, key: {}, out of memory at sk-"
    shown = redact_text(text.format("pw", "abc.def", "sk-abcdef123456"))
    assert shown == f"at http://{GONE}@box: Bearer {GONE} key: {GONE}, out of memory at sk-"


def test_long_names_are_judged_and_not_remembered() -> None:
    secrets._is_secret.cache_clear()
    for name in ("x-" * 31 + "ab", "x-" * 400 + "ab"):
        assert not is_secret_name(name)
        assert is_secret_name(name + "-key")
    assert secrets._is_secret.cache_info().currsize == 1


PRINTED = {
    "password: hunter2": f"password: {GONE}",
    '{"api_key": "abc", "n": 1}': f'{{"api_key": {GONE}, "n": 1}}',
    "hf_token = abc": f"hf_token = {GONE}",
    "Authorization: Bearer abc.def": f"Authorization: Bearer {GONE}",
    "AKIAABCDEFGHIJKLMNOP in use": f"{GONE} in use",
    "ghp_abcdefgh glpat-abcdefgh xoxb-abcdefgh": f"{GONE} {GONE} {GONE}",
    "jwt eyJhbGciOi.eyJzdWIiOi.c2lnbmF0dXJl": f"jwt {GONE}",
    "known-1234 leaks": f"{GONE} leaks",
    "BOS token = 1 '<s>'": "BOS token = 1 '<s>'",
    "print_info: n_vocab = 32000, max token length = 48": None,
    "error: CUDA out of memory, session 3 of 4": None,
    "load_model: key general.name not found": None,
}


def test_what_a_program_printed() -> None:
    for text, shown in PRINTED.items():
        assert redact_output(text, ["known-1234"]) == (text if shown is None else shown)


def test_what_a_server_was_given_in_confidence_is_known() -> None:
    assert secret_values("srv --api-key 'a b' --port 1 HF_TOKEN=x-1 --keep 5") == ["a b", "x-1"]
    environ = {"APP_TOKEN": "12345678", "XDG_SESSION_CLASS": "user", "HOME": "/home/somebody"}
    assert secret_variables(environ) == ["12345678"]
