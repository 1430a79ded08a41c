"""Facts about llmsnap.proxy.request, and that a Runtime is the RequestConfig it asks for."""

from llmsnap.proxy.request import RequestConfig
from tests.fakes.calls import runtime

TEXT = """\
models:
  a: {cmd: x, proxy: "http://localhost:1", useModelName: up, timeouts: {connect: 3, idle: 7}}
  plain: {cmd: x, proxy: "http://localhost:1", filters: {stripParams: temperature}}
peers:
  p: {proxy: "https://box.example/base/", models: [r], apiKey: secret}
"""


def test_a_model_is_sent_to_under_its_own_rules() -> None:
    snapshot: RequestConfig = runtime(TEXT)
    a, plain = (snapshot.upstream_settings(snapshot.config.models[name]) for name in ("a", "plain"))
    assert (a.model_name, plain.model_name) == ("up", "")
    assert (a.timeouts.connect_s, a.timeouts.idle_s) == (3, 7)
    assert not a.filter
    assert plain.filter
    assert a.rule.pass_credentials, "there are no keys of ours they could be"


def test_a_target_is_compiled_once() -> None:
    snapshot = runtime(TEXT)
    model, peer = snapshot.config.models["a"], snapshot.config.peers["p"]
    assert snapshot.upstream_settings(model) is snapshot.upstream_settings(model)
    assert snapshot.peer(peer) is snapshot.peer(peer)


def test_a_peer_is_sent_to_as_itself_with_its_own_key() -> None:
    snapshot = runtime(TEXT)
    target, address = snapshot.peer(snapshot.config.peers["p"])
    assert (target.rule.host, target.rule.api_key) == ("box.example", "secret")
    assert (address.scheme, address.port, address.base_path) == ("https", 443, "/base")
    assert "secret" not in repr(target)


def test_with_keys_credentials_stay_here() -> None:
    snapshot = runtime(TEXT + "apiKeys: [k]\n")
    assert not snapshot.upstream_settings(snapshot.config.models["a"]).rule.pass_credentials


def test_what_an_open_tab_asks_for_is_ignored_unless_configured_otherwise() -> None:
    assert runtime(TEXT).ignores("/static/app.js")
    assert runtime(TEXT).ignores("/favicon.ico")
    assert not runtime(TEXT).ignores("/v1/chat/completions")
    assert not runtime(TEXT + "upstream: {ignorePaths: []}\n").ignores("/favicon.ico")
    assert runtime(TEXT + "upstream: {ignorePaths: ['^/x']}\n").ignores("/xy")
