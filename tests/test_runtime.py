from llmsnap.config import loads
from llmsnap.runtime import Runtime
from tests.parity import parity

TEXT = """
apiKeys: [secret]
peers:
  box: {proxy: "http://box.lan:99/base", apiKey: theirs, models: [far]}
"""


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
    assert not Runtime(loads(TEXT)).keyring.open
