from itertools import product

from llmsnap.config import ModelConfig
from llmsnap.config.advice import advise, local_port
from llmsnap.config.loader import loads_with_advice
from llmsnap.config.nodes import Report
from tests.parity import parity

MODELS = """
models:
  a: {cmd: s, proxy: "http://localhost:9000"}
  b: {cmd: s, proxy: "http://127.0.0.1:9000/v1"}
  c: {cmd: "s ${PORT}"}
"""
SLEEPS = "sleepMode: enable, sleepEndpoints: [{endpoint: /s}], wakeEndpoints: [{endpoint: /w}]"


def advice(text: str) -> list[str]:
    loaded = loads_with_advice(text, environ={})
    report = Report()
    advise(loaded.config, loaded.tree, report)
    return [str(each) for each in report.advice]


MAY_RUN_TOGETHER = {
    "{}": False,
    "{g: {members: [a]}, h: {members: [b]}}": False,
    "{g: {swap: false, members: [a, b]}}": True,
    "{g: {exclusive: false, members: [a]}}": True,
    "{g: {persistent: true, members: [a]}}": True,
}


def test_models_that_may_run_together_should_not_share_a_port() -> None:
    said = 'models.b.cmd: listens on port 9000 like model "a", and both may run'
    for groups, may in MAY_RUN_TOGETHER.items():
        found = advice(f"{MODELS}groups: {groups}")
        assert [each.startswith(said) for each in found] == [True] * may, groups
    assert advice(MODELS.replace("cmd: s, proxy", f"cmd: s, {SLEEPS}, proxy"))
    assert advice(f"{MODELS}startPort: 9000\ngroups: {{g: {{swap: false, members: [a, c]}}}}")


COMMANDS = {
    "/opt/llama-server -m m.gguf": False,
    "python3.12 /x/xllama_server.py -m m.gguf": False,
    "docker run server -m m.gguf --slot-save-path /kv": False,
    "sh -c 'exec llama-server -m m.gguf --slot-save-path /kv'": False,
    "vllm serve x": True,
}


def test_prompts_are_kept_by_llama_server_only() -> None:
    models = 'models: {{m: {{cmd: "{} ${{PORT}}", promptCache: true}}}}'
    found = {
        cmd: [each.partition(":")[0] for each in advice(models.format(cmd))] for cmd in COMMANDS
    }
    assert found == {cmd: ["models.m.promptCache"] * said for cmd, said in COMMANDS.items()}


def test_preloads_that_cannot_all_stay_are_told() -> None:
    preload = "hooks: {on_startup: {preload: [a, c]}}\n"
    (found,) = advice(MODELS + preload)
    assert 'hooks.on_startup.preload: loading "c" makes "a" leave again' in found
    assert not advice(MODELS + preload + "groups: {g: {swap: false, members: [a, c]}}")


def test_ports_are_known_where_they_are_local() -> None:
    urls = ("http://localhost", "https://[::1]", "http://127.0.0.1:8", "http://far:8")
    ports = [local_port(ModelConfig(id="m", cmd="c", proxy=url)) for url in urls]
    assert ports == [80, 443, 8, None]


def test_a_server_with_a_key_needs_it_from_us() -> None:
    own = ("", ", apiKey: k", ", headers: {authorization: Bearer k}")
    for option, more in product(("--api-key k", "--api-key=k"), own):
        models = f"models: {{m: {{cmd: 's {option} ${{PORT}}'{more}}}}}\n"
        assert not advice(models), "without keys of ours the client's own passes"
        found = advice(f"{models}apiKeys: [a-key-of-more-than-16-characters]\n")
        assert any("asks for an API key" in each for each in found) == (not more)


@parity(
    "vllm-wrapper",
    "`cmd: vllm-wrapper serve ... -- CMD`",
    "it runs; advice shows the same with `sleepMode`, where llmsnap stops the server itself",
)
def test_a_wrapper_is_told_what_replaces_it() -> None:
    wrapped = "/opt/vllm-wrapper serve --vllm-url http://h:1 --listen :${PORT} -- vllm serve x"
    (found,) = advice(f"models: {{v: {{cmd: '{wrapped}', cmdStop: vllm-wrapper sleep}}}}")
    assert found.startswith("models.v.cmd: the server that vllm-wrapper starts outlives llmsnap")
    for part in ("sleepMode: enable", "/sleep?level=1", "/wake_up", "VLLM_SERVER_DEV_MODE=1"):
        assert part in found


def test_a_budget_that_one_model_turns_on_is_advised_about() -> None:
    models = "models: {a: {cmd: 's ${PORT}', memory: 1GiB}, b: {cmd: 's ${PORT}'}}\n"
    assert advice(models) == [
        "models.a.memory: switches the memory budget on, also for models without it: b; one that "
        "is not estimated from its command gets the first device alone until it is measured - give "
        "them theirs, or confirm it: routing.router.use: memory"
    ]
    for fine in (
        "models: {a: {cmd: 's ${PORT}', memory: auto}}",
        "memory: {ram: 1GiB}\nmodels: {b: {cmd: 's ${PORT}'}}",
        "routing: {router: {use: memory}}\nmodels: {b: {cmd: 's ${PORT}'}}",
    ):
        assert advice(fine) == []


VARYING = {
    ("", "gpu0"): True,
    ("-ngl 99 --fit on", "gpu0"): True,
    ("-ngl 99", "gpu0"): False,
    ("--n-gpu-layers=40", "gpu0"): False,
    ("-ngl 0", "gpu0"): False,
    ("--device none", "gpu0"): False,
    ("", "ram"): False,
}


def test_a_server_that_takes_what_is_free_is_advised_about() -> None:
    found = {}
    for options, devices in VARYING:
        command = f"/opt/llama-server --port ${{PORT}} {options}"
        said = advice(f"memory: {{{devices}: 9GiB}}\nmodels: {{m: {{cmd: '{command}'}}}}\n")
        found[options, devices] = [each.partition(":")[0] for each in said]
    assert found == {case: ["models.m.cmd"] * varies for case, varies in VARYING.items()}
