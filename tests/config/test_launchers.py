"""Launchers: engines on other machines, and what a model asks of one."""

from dataclasses import replace

from llmsnap.config import compare, loads
from llmsnap.config.router import Together
from llmsnap.routing.messages import residency_of
from tests.config.reading import advice, config, problems

FARM = "launchers: {farm: {type: ray, address: 'http://head:8265', token: t0ken}}\n"
GPU = "resources: {gpus: 1}"


def on_farm(entry: str, cmd: str = "srv ${PORT}") -> str:
    return f"{FARM}models:\n  m: {{cmd: '{cmd}', launcher: farm, {entry}}}\n"


def test_a_model_gets_the_settings_of_its_launcher_and_the_macros_that_go_with_it() -> None:
    found = config(
        FARM.replace("}}", ", bind: 10.0.0.7, env: {HF_HOME: /hf, N: 1}, onExit: keep}}")
        + "models:\n"
        + "  far: {cmd: 's -h ${HOST} -k ${UPSTREAM_KEY} ${PORT}', launcher: farm,"
        + " resources: {gpus: 0.5, ram: 2GiB, labels: {zone: 1}, custom: {ssd: 2}}}\n"
        + "  near: {cmd: 's -h ${HOST} ${PORT}'}\n"
    )
    far, near = found.models["far"], found.models["near"]
    assert (far.cmd, near.cmd) == ("s -h 10.0.0.7 -k ${UPSTREAM_KEY} 5800", "s -h 127.0.0.1 5801")
    farm = found.launchers["farm"]
    assert far.runs_on == replace(farm, token="")  # a new token restarts no server
    assert (far.runs_on.env, far.runs_on.keeps) == (("HF_HOME=/hf", "N=1"), True)
    assert not near.runs_on.is_remote
    wants = far.resources
    assert (wants.gpus, wants.ram_bytes) == (0.5, 2 * 1024**3)
    assert (dict(wants.labels), dict(wants.custom)) == ({"zone": "1"}, {"ssd": 2})
    own = config("macros: {HOST: gpu.lan}\nmodels: {m: {cmd: 's ${HOST} ${PORT}'}}")
    assert own.models["m"].cmd == "s gpu.lan 5800", "a macro of that name in the file wins"


MISTAKES = {
    on_farm(GPU).replace("r: farm", "r: frrm"): 'there is no launcher "frrm" - did you',
    on_farm(f"cmdStop: 'kill ${{PID}}', {GPU}"): "models.m.cmdStop: runs on this machine",
    on_farm(GPU, "s --host 127.0.0.1 ${PORT}"): "--host 127.0.0.1 is reached from its own",
    on_farm("resources: {gpus: 1.5}"): "models.m.resources.gpus: must be a whole number",
    "models: {m: {cmd: 's ${PORT} ${UPSTREAM_KEY}'}}": "${UPSTREAM_KEY} is there with",
    FARM.replace(", token: t0ken", ""): "launchers.farm.token: is missing",
    FARM.replace("type: ray, ", ""): "launchers.farm.type: is missing",
    FARM.replace("http://head:8265", "head"): 'launchers.farm.address: "head" must begin',
    FARM.replace("farm", "local"): '"local" is always there',
    FARM.replace("farm", "a b"): "is no name of a launcher",
    FARM.replace("}}", ", env: {A-B: 1}}}"): '"A-B" is no name of a variable',
}


def test_mistakes_are_told_with_what_to_do() -> None:
    for text, words in MISTAKES.items():
        found = problems(text)
        assert any(words in each and " - " in each for each in found), found


def test_a_token_is_shown_nowhere_and_kept_from_servers_and_its_lack_has_to_be_wanted() -> None:
    text = FARM.replace("t0ken", "${env.RAY_AUTH_TOKEN}")
    found = config(text, RAY_AUTH_TOKEN="s3cret")
    assert found.launchers["farm"].token == "s3cret"
    assert "s3cret" not in repr(found)
    assert found.key_variables == {"RAY_AUTH_TOKEN"}
    assert config(FARM.replace("token: t0ken", "insecure: true")).launchers["farm"].insecure


ODD = {
    on_farm("ttl: 1"): "models.m.resources.gpus: is absent",
    "models: {m: {cmd: 's ${PORT}', resources: {gpus: 1}}}": "models.m.resources: has no",
    "models: {m: {cmd: 's ${PORT}', engineEnv: keep}}": "models.m.engineEnv: has no effect",
}


def test_what_is_odd_is_told() -> None:
    for text, words in ODD.items():
        assert [each for each in advice(text) if words in each]


def test_a_changed_launcher_restarts_its_models_alone() -> None:
    text = on_farm(GPU) + "  n: {cmd: 's ${PORT}'}\n"
    old = loads(text, environ={})
    found = compare(old, loads(text.replace("head", "other"), environ={}, previous=old))
    assert (found.restart, found.unchanged, found.parts) == (("m",), ("n",), ("launchers",))
    home = loads(text.replace("launcher: farm, ", ""), environ={}, previous=old)
    assert compare(old, home).restart == ("m",)


def test_models_of_different_launchers_do_not_evict_each_other() -> None:
    names = ("farm1", "farm2", "farm3", "local1", "local2", "local3")
    models = (f"  {name}: {{cmd: 's ${{PORT}}', launcher: {name[:-1]}, {GPU}}}\n" for name in names)
    groups = "{g: {members: [farm2]}, h: {members: [local2]}, i: {members: [farm3, local3]}}"
    found = config(f"{FARM}models:\n{''.join(models)}groups: {groups}\n")
    evicted = {
        "farm1": [],  # in no group: the engine's capacity decides
        "farm2": ["farm3", "local3"],
        "farm3": ["farm2", "local1", "local2", "local3"],
        "local1": ["farm3", "local2", "local3"],
        "local2": ["farm3", "local1", "local3"],
        "local3": ["farm2", "farm3", "local1", "local2"],
    }
    together, residency = Together(found.groups, None, "group"), residency_of(found)
    for one in names:
        others = [name for name in names if name != one]
        assert [two for two in others if together.evicts(one, two)] == evicted[one]
        assert list(residency.plan(one, others, {}).victims) == evicted[one]
