"""Keys at the top of the file."""

from typing import Any

import pytest

from llmsnap.config import (
    ApiKey,
    Config,
    ModelConfig,
    PeerConfig,
    PerformanceConfig,
    ReadAheadConfig,
    StoreConfig,
)
from llmsnap.config.keys import KIB, MIB
from tests.config.reading import advice, config, problem
from tests.parity import parity

CORS = "security: {{cors: {{allowedOrigins: ['{}']}}}}"
SESSIONS, SESSIONS_AT = "ui: {{activity: {{session_id: ['{}']}}}}", "ui.activity.session_id[0]"
VALUES: list[tuple[str, str, Any]] = [
    ("startPort: 1000", "start_port", 1000),
    ("healthCheckTimeout: 1", "health_check_timeout_s", 15),
    ("sleepRequestTimeout: -4", "sleep_request_timeout_s", 1),
    ("unloadTimeout: 0", "unload_timeout_s", 10),
    ("queueTimeout: 0", "queue_timeout_s", 0),
    ("readAhead: {maxRate: 500}", "read_ahead", ReadAheadConfig(500 * MIB)),
    ("readAhead: true", "read_ahead", ReadAheadConfig()),
    ("readAhead: 'off'", "read_ahead", None),
    ("logLevel: ' DEBUG '", "log_level", "debug"),
    ("logLevel: noisy", "log_level", "info"),
    ("logTimeFormat: RFC3339", "log_time_format", "rfc3339"),
    ("logTimeFormat: sundial", "log_time_format", ""),
    ("logToStdout: both", "log_to_stdout", ("proxy", "upstream")),
    ("logToStdout: ' Proxy , http,'", "log_to_stdout", ("http", "proxy")),
    ("logToStdout: [http, 'none, upstream', ~]", "log_to_stdout", ("http", "upstream")),
    ("logToStdout: ''", "log_to_stdout", ("proxy",)),
    ("logToStdout: [loud, http]", "log_to_stdout", ("http",)),
    ("metricsMaxInMemory: 0", "metrics_max_in_memory", 1000),
    ("ui: {activity: {session_id: []}}", "session_headers", ()),
    ("ui: {activity: {session_id: [' A ', B-c, '', a]}}", "session_headers", ("A", "B-c")),
    ("captureBuffer: -1", "capture_buffer_bytes", 0),
    ("captureMaxBody: 0.5", "capture_max_body_bytes", MIB // 2),
    ("logBufferSize: 10", "log_buffer_bytes", 10 * KIB),
    ("maxRequestBody: 1", "max_request_body_bytes", MIB),
    ("allowedHosts: ['Box.Example ', ~]", "allowed_hosts", ("box.example",)),
    ("allowedOrigins: ['https://Chat.example/']", "allowed_origins", ("https://chat.example",)),
    ("inferenceOrigins: ['*', ' null ']", "inference_origins", ("*", "null")),
    (CORS.format("https://A.example/"), "allowed_origins", ("https://a.example",)),
    (CORS.format("https://A.example/"), "inference_origins", ("https://a.example",)),
    (CORS.format("*"), "allowed_origins", ()),
    (CORS.format("*"), "inference_origins", ("*",)),
    ("upstream: {origin: 8081}", "pages_origin", ":8081"),
    ("upstream: {origin: ':8081'}", "pages_origin", ":8081"),
    ("upstream: {origin: https://P.example/}", "pages_origin", "https://p.example"),
    ("upstream: {observePaths: ~}", "observe_paths", Config().observe_paths),
    ("upstream: {observePaths: ['^/health$']}", "observe_paths", ("^/health$",)),
    ("captureMask: {/v1/x: none, /y: headers}", "capture_mask", {"/v1/x": "none", "/y": "headers"}),
    ("performance: {every: 1m30s}", "performance", PerformanceConfig(every_s=90.0)),
    ("performance: {every: 1.5m, disabled: on}", "performance", PerformanceConfig(True, 90.0)),
    (r"upstream: {ignorePaths: ['\.js\z', '\\z']}", "ignore_paths", (r"\.js\Z", r"\\z")),
    ("upstream: {ignorePaths: ['[[a]']}", "ignore_paths", ("[[a]",)),
    ("store: {path: ~/x.db, maxAgeDays: 0.5}", "store", StoreConfig("~/x.db", 0.5, 1_000_000)),
]


@parity(
    "`upstream.ignorePaths`", "expressions of Go", "Python's; `\\z` is taken, others are explained"
)
@parity("Performance", "`performance.every` and `performance.disabled`")
def test_values() -> None:
    found = [(text, field, getattr(config(text), field)) for text, field, _ in VALUES]
    assert found == VALUES


FAULTS = {
    "startPort: abcd": "startPort: must be a whole number (found abcd)",
    'startPort: "5800"': 'startPort: must be a whole number (found "5800") - write it',
    "startPort: 70000": "startPort: must be at least 1 and at most 65535",
    "startPort: .nan": "startPort: must be at least 1",
    'sendLoadingState: "true"': 'sendLoadingState: must be true or false (found "true")',
    "captureMask: {/x: some}": "captureMask./x: must be one of none, headers, full",
    "upstream: {ignorePaths: ['(']}": "upstream.ignorePaths[0]: is not a regular expression",
    "upstream: {ignorePaths: ['[[:alpha:]]']}": "upstream.ignorePaths[0]: [:alpha:] names a",
    "upstream: {ignorePaths: ['\\pN']}": "upstream.ignorePaths[0]: \\p names a Unicode cl",
    "upstream: {ignorePaths: ['a(?i)b']}": "upstream.ignorePaths[0]: (?i) sets flags amid",
    "upstream: {observePaths: ['(']}": "upstream.observePaths[0]: is not a regular",
    "performance: {every: 4s}": "performance.every: must be at least 5s (found 4s)",
    "performance: {every: 15}": "performance.every: must be a duration such as 15s or 1m30s",
    SESSIONS.format("Authorization"): f"{SESSIONS_AT}: Authorization holds credentials",
    SESSIONS.format("a b"): f"{SESSIONS_AT}: is no header name: 'a b'",
    "upstream: {origin: 70000}": "upstream.origin: must be a port from 1 to 65535",
    "upstream: {origin: pages}": 'upstream.origin: "pages" is neither a port nor an origin',
    "upstream: {origin: http://h/x}": 'upstream.origin: "http://h/x" is neither',
    "store: {path: ' '}": "store.path: is empty - name a file, or remove",
    "store: {path: /}": "store.path: / is a directory - name a file in it",
}


@parity("Checks at load", "`performance.every` below 5s: the file is refused")
@parity("Performance", "`performance.every` below 5s: the file is refused")
@parity("Requests in flight", "`ui.activity.session_id`")
@parity("Checks at load", "`store.path` that is empty or a directory: the file is refused")
def test_faults() -> None:
    assert {text: problem(text)[: len(words)] for text, words in FAULTS.items()} == FAULTS


ADVICE = {
    "healthCheckTimeout: 1": "healthCheckTimeout: is raised to 15",
    "logLevel: debg": 'logLevel: is not known (found debg); "info" is used - did',
    "logRequests: true": "logRequests: is deprecated",
    "store: {captureDir: /c}": "store.captureDir: has no effect without store.path",
    "logToStdout: http, prxy": "logToStdout: has a word that is not known (found http, prxy)",
    "logToStdout: loud": "logToStdout: has a word that is not known (found loud); proxy is",
    "logToStdout: [{}, http]": "logToStdout: is no word (found a mapping)",
    "profiles: {a: [b]}": "profiles: has no effect: lists of models were replaced by groups",
    "captureMask: {v1: none}": "captureMask.v1: is no path",
    "allowedOrigins: [chat.example]": 'allowedOrigins[0]: "chat.example" is no origin',
    "inferenceOrigins: ['http://a/b']": 'inferenceOrigins[0]: "http://a/b" is no origin',
    CORS.format("https://a.example"): "security.cors.allowedOrigins: is read as allowedO",
    CORS.format("*"): "security.cors.allowedOrigins: is read as inferenceOrigins: * lets no",
    "security: {cors: {maxAge: 5}}": "security.cors.maxAge: has no effect",
    "upstream: {origin: ':81'}": "upstream.origin: has no effect",
}


@parity(
    "Newer keys",
    "`security.cors.allowedOrigins`",
    "read as `allowedOrigins` and `inferenceOrigins`, with advice; `*` as the latter only",
)
def test_advice() -> None:
    said = {text: [each[: len(words)] for each in advice(text)] for text, words in ADVICE.items()}
    assert said == {text: [words] for text, words in ADVICE.items()}


HINTS = {
    "timeout": 'did you mean "healthCheckTimeout"?',
    "ttl": 'did you mean "globalTTL"?',
    "listen": "use the --listen option",
    "aliases": "write aliases below a model",
    "check_endpoint": "write checkEndpoint below a model",
    "colour": "remove it",
    "models.m.context": "write capabilities: {context: TOKENS}",
    "models.m.startPort": "write startPort at the top of the file",
    "models.m.aliasses": 'did you mean "aliases"?',
}


@parity(
    "Files and deployments",
    "unknown keys are ignored",
    "advice with the key that is meant, or where it belongs",
)
def test_an_unknown_key_has_a_hint() -> None:
    for key, hint in HINTS.items():
        name = key.rpartition(".")[2]
        below = f", {name}: 1}}}}" if key != name else f"}}}}\n{name}: 1"
        found = advice(f"models: {{m: {{cmd: 's ${{PORT}}'{below}")
        assert found == [f"{key}: unknown key - {hint}"]
    (found,) = advice("promptCache: {megabytes: 5}\nmodels: {}")
    assert found.startswith("promptCache.megabytes: unknown key - known are dir, maxSize, ")
    for fine in ("x-anything: {a: 1}", ".hidden: 1", "ui:", "profiles: {}"):
        assert not advice(fine)


@pytest.mark.parametrize("spelling", ["on_startup", "onStartup"])
def test_preload_takes_ids_and_aliases_once_each(spelling: str) -> None:
    text = f"""
        models: {{a: {{cmd: "s ${{PORT}}", aliases: [x]}}, b: {{cmd: "s ${{PORT}}"}}}}
        hooks: {{{spelling}: {{preload: [" b ", x, "", nope, a]}}}}
    """
    assert config(text).preload == ("b", "a")
    assert advice(text) == [
        f'hooks.{spelling}.preload: "nope" is no model - name a model id or an alias'
    ]


def test_a_repr_shows_no_secret() -> None:
    model = ModelConfig(id="m", cmd="srv --api-key s3cret", env=("TOKEN=s3cret",))
    peer = PeerConfig(id="p", proxy="http://h", api_key="s3cret")
    whole = Config(models={"m": model}, api_keys=(ApiKey("s3cret"),), peers={"p": peer})
    assert "s3cret" not in repr(whole)
