from llmsnap.config import loads
from llmsnap.runtime import Runtime
from tests.parity import parity

TEXT = """
apiKeys: [secret]
models:
  a:
    cmd: serve
    proxy: http://localhost:1
    useModelName: real
    timeouts: {connect: 1, responseHeader: 2, idle: 3}
    filters: {stripParams: temperature}
peers:
  box: {proxy: "http://box.lan:99/base", apiKey: theirs, models: [far]}
"""


def test_how_a_model_is_asked_is_compiled_once() -> None:
    runtime = Runtime(loads(TEXT))
    model = runtime.config.models["a"]
    target = runtime.upstream_settings(model)
    assert runtime.upstream_settings(model) is target
    assert target.model_name == "real"
    assert target.filter
    assert (target.timeouts.connect_s, target.timeouts.head_s, target.timeouts.idle_s) == (1, 2, 3)
    assert not target.rule.pass_credentials, "with keys of our own, theirs never pass"


def test_how_a_peer_is_asked() -> None:
    runtime = Runtime(loads(TEXT))
    peer = runtime.config.peers["box"]
    target, address = runtime.peer(peer)
    assert runtime.peer(peer)[0] is target
    assert (address.netloc, address.base_path) == ("box.lan:99", "/base")
    assert (target.rule.host, target.rule.api_key) == ("box.lan:99", "theirs")
    assert "theirs" not in repr(target)


@parity(
    "Peers",
    "`setParamsByID` by the name the client used, bare or qualified; no alias, no macros in names",
    "also by the other name of the model",
)
def test_parameters_of_a_peer_go_by_the_requested_name_then_by_the_other() -> None:
    names = "{box/far: {a: 1}, near: {a: 2}, box/both: {a: 3}, both: {a: 4}}"
    text = TEXT.replace("models: [far]", "models: [far, near, both, none]")
    text = text.replace("apiKey: theirs", f"filters: {{setParamsByID: {names}}}")
    runtime = Runtime(loads(text))
    compiled = runtime.peer(runtime.config.peers["box"])[0].filter
    assert compiled is not None
    found = {
        name: [setting.plain for setting in compiled.settings_for(name)]
        for name in ("far", "box/far", "near", "box/near", "both", "box/both", "none")
    }
    assert found == {
        "far": ["1"],
        "box/far": ["1"],
        "near": ["2"],
        "box/near": ["2"],
        "both": ["4"],
        "box/both": ["3"],
        "none": [],
    }


@parity(
    "Errors and keys",
    "the client's key is passed on to models and peers without `apiKey`",
    "only while there are no keys here",
)
def test_without_keys_credentials_pass_and_hosts_are_checked() -> None:
    runtime = Runtime(loads("{}"), "my-listen-name.example")
    assert runtime.keyring.open
    assert runtime.hosts.allows("my-listen-name.example:8080")
    assert not runtime.hosts.allows("evil.example")
    assert runtime.ignores("/favicon.ico")
    assert not runtime.ignores("/v1/chat/completions")
    assert not Runtime(loads("upstream: {ignorePaths: []}")).ignores("/favicon.ico")
