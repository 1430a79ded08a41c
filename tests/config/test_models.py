"""A model: its command, ports, keys, sleep calls and names."""

import re

from llmsnap.config import EXTERNAL, Capabilities, Endpoint
from tests.config.reading import advice, config, model, problem, problems
from tests.parity import parity


def test_a_model_without_a_command_is_refused() -> None:
    for entry in ("m", "m: {}", "m: {cmd: ''}", "m: {cmd: ~}", "m: {cmd: '# x'}"):
        assert problem(f"models: {{{entry}}}").startswith("models.m.cmd: is missing or empty")
    assert problem("models: [a]").startswith("models: must be a mapping (found a list)")
    assert problems("models: {m: text}")[0].startswith("models.m: must be a mapping (found text)")


@parity(
    "Files and deployments",
    "a model with `proxy` and without `cmd`",
    "a server that something else runs: checked and used, never started, stopped or evicted",
)
def test_a_model_with_a_proxy_and_no_command_is_run_by_something_else() -> None:
    found = config("models: {m: {proxy: 'http://gpu:9000', cmd: ~}, n: {cmd: 's ${PORT}'}}")
    model = found.models["m"]
    assert (model.cmd, model.proxy, model.launcher) == ("", "http://gpu:9000", EXTERNAL)
    assert [(g.id, g.members, g.persistent) for g in found.groups.values()] == [
        ("(external)", ("m",), True),
        ("(default)", ("n",), False),
    ]
    placed = config("models: {m: {proxy: 'http://gpu:9000'}}\ngroups: {g: {members: [m]}}")
    assert [group.id for group in placed.groups.values()] == ["g", "(default)"]


PATHS = {r"C:\models\a.gguf": True, r"'C:\models\a.gguf'": False, "C:/models/a.gguf": False}


@parity(
    "Files and deployments",
    "Windows paths in commands",
    "advice where a backslash outside quotes disappears",
)
def test_backslashes_that_disappear_are_told() -> None:
    for path, told in PATHS.items():
        found = advice(f"models:\n  m:\n    cmd: srv.exe -m {path} --port ${{PORT}}\n")
        assert [r"so C:\models\a.gguf is not" in each for each in found] == [True] * told


def test_comments_are_gone_from_commands_before_macros_are_expanded() -> None:
    found = model("""
        macros: {two: "s ${PORT}\\n-x"}
        cmd: |
          # ${nope} ${two}
          ${two}
        cmdStop: |
          stop
            # now
          ${PID}
    """)
    assert (found.cmd, found.cmd_stop) == ("s 5800\n-x\n", "stop\n${PID}\n")


FAULTS = {
    'cmd: "a ${PORT}\\0"': "cmd: ",
    "cmd: '${a}'": "cmd: macros refer to each other in a circle",
    "proxy: 'http://gpu:${PORT}', cmd: ~": "proxy: ${PORT} should have been substituted",
    "proxy: gpu, cmd: ~": 'proxy: "gpu" must begin with http',
    "proxy: 'http://gpu', cmd: ''": "cmd: is missing or empty - write the command",
    "proxy: ''": "proxy: ",
    "launcher: slurm": 'launcher: there is no launcher "slurm"',
    "sleepMode: ''": "sleepMode: must be one of enable, disable",
    "ttl: -2": "ttl: must be at least -1 (found -2)",
    "checkEndpoint: ''": "checkEndpoint: is empty",
    'env: ["A=\\0"]': "env",
    "capabilities: {in: [video]}": "capabilities.in[0]: must be one of text, audio, image",
    "apiKey: a, headers: {Authorization: b}": "headers: Authorization is what apiKey sets",
    "headers: {'X Y': a}": 'headers: "X Y" is no header that can be set',
    "headers: {Host: a}": 'headers: "Host" is no header that can be set',
    "headers: {content-length: '1'}": 'headers: "content-length" is no header that can be',
    "headers: {X-A: 1}": "headers: the value of X-A is not a text of one line",
    'headers: {X-A: "s3cret\\r\\nX-B: b"}': "headers: the value of X-A is not a text of one",
    # endpoints, also while sleepMode is disabled
    "sleepEndpoints: [{method: GET}]": "sleepEndpoints[0].endpoint: endpoint is required",
    "wakeEndpoints: [{endpoint: ''}]": "wakeEndpoints[0].endpoint: endpoint is required",
    "sleepEndpoints: [{endpoint: /x, method: DELETE}]": "sleepEndpoints[0].method: must be",
    "wakeEndpoints: [text]": "wakeEndpoints[0]: must be a mapping",
}


@parity("Checks at load", "capabilities out of range: the file is refused")
@parity("Capabilities and model records", "a capability that is out of range: the file is refused")
@parity("Checks at load", "`ttl` below -1: the file is refused")
def test_a_fault_is_told_once() -> None:
    circle = "macros: {a: '${b}', b: '${a}'}\n"
    for entry, said in FAULTS.items():
        cmd = "" if "cmd:" in entry else "cmd: 's ${PORT}', "
        found = problems(f"{circle}models: {{m: {{{cmd}{entry}}}}}")
        key = re.match(r"\w+", said)[0]
        (about,) = (each for each in found if each.startswith(f"models.m.{key}"))
        assert about.startswith(f"models.m.{said}")
        assert "s3cret" not in about


@parity("TTL and unload", "`ttl: -1` inherits `globalTTL`; below -1 the file is refused")
def test_ttl_inherits_when_absent_or_minus_one() -> None:
    for entry, ttl_s in (("", 60), ("ttl: -1", 60), ("ttl: 0", 0), ("ttl: 5.5", 5)):
        found = config(f"globalTTL: 60\nmodels: {{m: {{cmd: 's ${{PORT}}', {entry}}}}}")
        assert found.models["m"].ttl_s == ttl_s


@parity("TTL and unload", "`unloadTimeout: 0` means the default, below 0 is refused")
def test_other_limits_inherit_or_stand_alone() -> None:
    found = config("""
        healthCheckTimeout: 60
        unloadTimeout: 20
        queueLimit: 5
        sendLoadingState: true
        keepaliveWhileLoading: false
        models:
          a: {cmd: "s ${PORT}"}
          b: {cmd: "s ${PORT}", healthCheckTimeout: 3, unloadTimeout: 30, queueLimit: 7,
              sendLoadingState: false}
          c: {cmd: "s ${PORT}", unloadTimeout: 0}
          comfyui_auto: {cmd: "s ${PORT}", concurrencyLimit: 9}
    """)
    a, b, c, comfyui = found.models.values()
    assert (a.health_check_timeout_s, a.unload_timeout_s, a.queue_limit) == (60, 20, 5)
    assert (b.health_check_timeout_s, b.unload_timeout_s, b.queue_limit) == (3, 30, 7)
    assert (a.send_loading_state, b.send_loading_state) == (True, False)
    assert (a.keepalive_while_loading, c.unload_timeout_s) == (False, 20)
    assert "unloadTimeout: must be at least 0" in problem("unloadTimeout: -1")
    limits = [model(f"concurrencyLimit: {limit}").concurrency_limit for limit in (0, -3, 4)]
    assert limits == [100, 100, 4]
    assert (comfyui.concurrency_limit, comfyui.ignore_websockets) == (50, True)


def test_further_keys() -> None:
    found = model("""
        timeouts: {connect: 1, responseHeader: 2, idle: 3}
        compat: {ignoreWebsockets: true, ignoreStreams: false}
        sandbox: false
        env: [A=1, s3cret, =2, B=]
        sleepAfter: 1.5
        checkEndpoint: ' none '
        unlisted: yes
        name: 5
    """)
    timeouts = found.timeouts
    assert (timeouts.connect_s, timeouts.response_header_s, timeouts.idle_s) == (1, 2, 3)
    assert (found.ignore_websockets, found.unlisted, found.name) == (True, True, "5")
    assert (found.ignore_streams, found.sandbox) == (False, False)
    assert (found.env, found.sleep_after_s, found.check_endpoint) == (("A=1", "B="), 1.5, None)
    assert model("checkEndpoint: http://h/x").check_endpoint == "http://h/x"
    assert (model("").ignore_streams, model("").sandbox) == (True, None)


WITHOUT_EFFECT = {
    "timeouts: {keepalive: 90}": "timeouts.keepalive: has no effect",
    "env: [A=1, s3cret, =2, B=]": "env: an entry has no name or no =",
    "sleepAfter: 1.5": "sleepAfter: has no effect",
    "proxy: 'http://localhost:9'": "proxy: has another port than ${PORT}, on which cmd says",
    "cmd: ~, proxy: 'http://gpu', env: [A=b]": "env: has no effect: there is no cmd",
    "cmd: ~, proxy: 'http://gpu', cmdStop: k": "cmdStop: has no effect: there is no cmd",
}


@parity(
    "Timeouts",
    "`connect`, `responseHeader`, `keepalive`, `tlsHandshake`, `expectContinue`, `idleConn`",
    "the first two, and `idle`; the others have no effect, with advice",
)
def test_what_has_no_effect_is_advised_about() -> None:
    for entry, said in WITHOUT_EFFECT.items():
        cmd = "" if "cmd:" in entry else "cmd: 's ${PORT}', "
        (found,) = advice(f"models: {{m: {{{cmd}{entry}}}}}")
        assert found.startswith(f"models.m.{said}")
        assert "s3cret" not in found


def test_metadata_becomes_json_and_ids_are_taken_literally() -> None:
    found = model("""
        metadata:
          1: {2: [yes, 'yes', true, 1_000, 1e3, 0o17, ~, 2026-02-03, 1:30]}
          big: .inf
    """)
    values = ["yes", "yes", True, 1000, 1000.0, 15, None, "2026-02-03T00:00:00Z", "1:30"]
    assert found.metadata == {"1": {"2": values}, "big": "+Inf"}
    found = config("models: {1.50: &m {cmd: 's ${PORT}'}, true: *m, 'a b/c:d': *m, 0x1F: *m}")
    assert list(found.models) == ["1.50", "true", "a b/c:d", "0x1F"]


@parity("Macros", "anchors and merge keys")
def test_models_may_share_by_anchors_and_merge_keys() -> None:
    found = config("""
        x-base: &base {cmd: "srv ${PORT} ${MODEL_ID}", ttl: 9}
        models: {a: {<<: *base}, b: {<<: *base, ttl: 1}, c: *base}
    """)
    shared = [(each.cmd, each.ttl_s) for each in found.models.values()]
    assert shared == [("srv 5800 a", 9), ("srv 5801 b", 1), ("srv 5802 c", 9)]


@parity("Capabilities and model records", "`capabilities` with typed macros")
def test_capabilities_take_macros_with_their_type() -> None:
    found = model("""
        macros: {window: 8192}
        capabilities: {in: [text, image, text], out: [text], tools: true, context: "${window}"}
    """).capabilities
    assert found == Capabilities(("text", "image"), ("text",), tools=True, context=8192)
    assert found
    assert not model("capabilities: {in: [], context: 0}").capabilities


def test_a_model_may_have_a_key_and_headers_of_its_own() -> None:
    found = model("apiKey: secret\nheaders: {X-Team: research}")
    assert (found.api_key, found.headers) == ("secret", (("X-Team", "research"),))
    assert not [each for each in ("secret", "research") if each in repr(found)]


def test_endpoints_are_read_with_their_timeouts() -> None:
    found = config("""
        sleepRequestTimeout: 15
        wakeRequestTimeout: -4
        models:
          m:
            cmd: s ${PORT}
            sleepMode: enable
            sleepEndpoints:
              - {endpoint: "/sleep?level=1", timeout: 30}
              - {endpoint: /more, method: put, body: '{"p": ${PORT}}'}
            wakeEndpoints: [{endpoint: /wake, method: GET, timeout: 0}]
    """).models["m"]
    assert found.can_sleep
    assert found.sleep_endpoints == (
        Endpoint("/sleep?level=1", "POST", "", 30),
        Endpoint("/more", "PUT", '{"p": 5800}', 15),
    )
    assert found.wake_endpoints == (Endpoint("/wake", "GET", "", 1),)
    for mode in ("disable", "~"):
        off = model(f"sleepMode: {mode}\nsleepEndpoints: [{{endpoint: /s}}]")
        assert (off.can_sleep, len(off.sleep_endpoints)) == (False, 1)
    for lacking, key in zip(
        problems("models: {m: {cmd: 's ${PORT}', sleepMode: enable}}"),
        ("sleepEndpoints", "wakeEndpoints"),
        strict=True,
    ):
        assert f"m.{key}: {key} is required when sleepMode is enable" in lacking


@parity("Checks at load", "an alias given twice: the file is refused")
def test_an_alias_stands_on_one_model_once() -> None:
    found = problem("models: {b: &m {cmd: 's ${PORT}', aliases: [m1]}, a: *m}")
    assert found.startswith('models.b.aliases: duplicate alias "m1": it is on "a" already')
    found = problem("models: {a: {cmd: 's ${PORT}', aliases: [m1, m1]}}")
    assert 'it is on "a" already' in found


def test_aliases_that_are_never_reached_are_left_out_with_advice() -> None:
    text = "models: {b: {cmd: 's ${PORT}'}, a: {cmd: 's ${PORT}', aliases: [b, '', ' ', a, ' x ']}}"
    found = config(text)
    assert list(found.models) == ["b", "a"]  # as in the file
    assert found.aliases == {" x ": "a"}
    assert [each.partition(" - ")[0] for each in advice(text)] == [
        'models.a.aliases: alias "b" is never reached: it is the id of a model',
        "models.a.aliases: an alias is empty",
    ]


@parity("Checks at load", "two keys of `setParamsByID` equal after macros: the file is refused")
@parity(
    "`setParamsByID`",
    "two keys equal after macros: the file is refused; a key without parameters is allowed",
)
def test_parameters_by_id_may_be_none_and_stand_once() -> None:
    found = model("filters: {setParamsByID: {variant: }}")
    assert found.filters.set_params_by_id == {"variant": {}}
    twice = "filters: {setParamsByID: {'${MODEL_ID}:x': {n: 1}, 'm:x': {n: 2}}}"
    assert problem(f"models: {{m: {{cmd: 's ${{PORT}}', {twice}}}}}") == (
        'models.m.filters.setParamsByID.m:x: "m:x" stands here twice once macros are expanded'
        " - keep one"
    )
