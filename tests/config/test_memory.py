"""The memory budget in a configuration."""

import pytest

from llmsnap.config import DeviceConfig, MemoryNeed, MemoryRules, MemorySize, read_capacities
from llmsnap.config.memory import size_bytes
from tests.config.reading import advice, config, excerpt, problem

GIB = 1024**3
MODEL = "models: {m: {cmd: 's ${PORT}', memory: 1GiB}}\n"
ON_GPU1 = "models: {m: {cmd: 's ${PORT}', device: gpu1, "
BY_MEMORY = "routing: {router: {use: memory}}\n"


def test_sizes() -> None:
    sizes = {"18GiB": 18 * GIB, "1.5 GiB": 3 * GIB // 2, "512mib": 512 * 1024**2, "2GB": 2 * 10**9}
    sizes |= {"0GiB": 0, "1048576TiB": 1 << 60}
    wrong = ("18", "GiB", "-1GiB", "18Gi", "1048577TiB", f"{10**400}GiB")
    sizes |= dict.fromkeys(wrong)
    assert {text: size_bytes(text) for text in sizes} == sizes


def test_capacities_of_a_question() -> None:
    assert read_capacities("gpu0:20GiB, ram:1.5GiB") == {"gpu0": 20 * GIB, "ram": 3 * GIB // 2}
    huge, arabic = f"gpu0:{10**400}GiB", "gpu1\u0663:1GiB"
    for wrong in ("", "gpu0", "gpu0:20", "gpu:1GiB", "gpu0:0GiB", "gpu0:1GiB,", huge, arabic):
        with pytest.raises(ValueError, match="memory must be like gpu0:24GiB,ram:64GiB, not"):
            read_capacities(wrong)


def test_devices_are_gpus_in_order_then_ram() -> None:
    text = "memory: {ram: 64GiB, gpu10: 1GiB, gpu2: {capacity: 24GiB, reserve: 1GiB}}\n" + MODEL
    assert config(text).memory == (
        DeviceConfig("gpu2", 24 * GIB, GIB),
        DeviceConfig("gpu10", GIB),
        DeviceConfig("ram", 64 * GIB),
    )


def test_rules_stand_beside_the_devices() -> None:
    assert config(MODEL).memory_rules == MemoryRules(10.0, "load")
    found = config("memory: {gpu0: 24GiB, releaseTimeout: 3, onStuck: wait}\n" + MODEL)
    assert found.memory_rules == MemoryRules(3.0, "wait")
    assert found.memory == (DeviceConfig("gpu0", 24 * GIB),)


def on(*sizes: tuple[str, int]) -> MemoryNeed:
    return MemoryNeed(tuple(MemorySize(device, size * GIB) for device, size in sizes))


NEEDS = {
    "memory: auto": None,
    "memory: 18GiB": MemoryNeed(total_bytes=18 * GIB),
    "memory: {gpu0: 2GiB, ram: 1GiB}": on(("gpu0", 2), ("ram", 1)),
    "memory: {any: 6GiB}": MemoryNeed(anywhere_bytes=6 * GIB),
    "device: gpu1": None,
    "device: gpu1, memory: auto": None,
    "device: gpu1, memory: 18GiB": on(("gpu1", 18)),
    "device: ram, memory: 18GiB": on(("ram", 18)),
    "device: gpu1, memory: {ram: 18GiB}": on(("ram", 18)),
}


def test_a_size_is_on_the_device_of_its_model_if_it_names_none() -> None:
    model = "models: {m: {cmd: 's ${PORT}', %s}}\n"
    found = {}
    for text in NEEDS:
        awake = config(model % text).models["m"]
        asleep = config(model % text.replace("memory", "asleepMemory")).models["m"]
        found[text] = (awake.memory, asleep.asleep_memory)
    assert found == {text: (need, need) for text, need in NEEDS.items()}


def test_memory_decides_where_neither_groups_nor_a_matrix_do() -> None:
    groups = MODEL + "groups: {g: {members: [m]}}\n"
    decides = {
        MODEL: "memory",
        "memory: {ram: 4GiB}\nmodels: {m: {cmd: 's ${PORT}'}}\n": "memory",
        MODEL.replace("1GiB", "auto"): "memory",
        MODEL.replace("1GiB", "null"): "group",
        MODEL.replace("memory: 1GiB", "device: gpu0"): "group",
        groups: "group",
        groups + BY_MEMORY: "memory",
        MODEL + "matrix: {sets: {s: m}}\n": "matrix",
        MODEL + "routing: {router: {use: group}}\n": "group",
    }
    assert {text: config(text).residency for text in decides} == decides


def test_what_has_no_effect_is_advised_about() -> None:
    assert advice(MODEL + "groups: {g: {members: [m]}}\n") == [
        "memory: is not enforced: groups decide - set routing.router.use: memory"
    ]
    for text, key in (("memory: {gpu1: 1GiB}", "memory"), ("device: gpu1", "device")):
        models = f"models: {{m: {{cmd: 's ${{PORT}}', {text}}}}}\n"
        assert advice(f"memory: {{gpu0: 9GiB}}\n{models}") == [
            f"models.m.{key}: gpu1 is not among the devices of memory: gpu0 - add gpu1, unless "
            "this machine has it"
        ]


MISTAKES = {
    "memory: [1]": "memory: must be a mapping",
    "memory: {gpu: 1GiB}": 'memory.gpu: "gpu" is no device - write gpu0, gpu1, ... or ram',
    "memory: {gpu0: 24}": "memory.gpu0: must be a size such as 18GiB or 512MiB (found 24)",
    "memory: {gpu0: {capacity: 1GiB, reserve: 1GiB}}": "the reserve leaves nothing",
    "memory: {gpu0: 0GiB}": "memory.gpu0: a device of 0 bytes holds no model",
    "memory: {gpu0: {capacity: 0MiB}}": "memory.gpu0.capacity: a device of 0 bytes",
    "memory: {gpu0: 24GiB, releaseTimout: 3}": 'did you mean "releaseTimeout"?',
    "memory: {onStuck: explode}": "onStuck",
    "models: {m: {cmd: 's ${PORT} -mg ${DEVICE}', memory: 1GiB}}": "${DEVICE} is known only",
    "models: {m: {cmd: 's ${PORT} ${DEVICE}', device: ram}}": "${DEVICE} is known only",
    "models: {m: {cmd: 's ${PORT}', device: card1}}": "a device: gpu0, gpu1, ... or ram (f",
    ON_GPU1 + "memory: {gpu0: 1GiB}}}": "models.m.memory: is on gpu0, and device is gpu1 - wr",
    ON_GPU1 + "memory: {any: 1GiB}}}": "models.m.memory: is on any GPU, and device is gpu1",
    "models: {m: {cmd: s, proxy: 'http://a:${DEVICE}'}}": "${DEVICE} is known in cmd only",
    "models: {m: {cmd: 's ${PORT}', memory: lots}}": "models.m.memory: must be a size",
    "models: {m: {cmd: 's ${PORT}', memory: {cpu: 1GiB}}}": '"cpu" is no device',
    MODEL + "matrix: {sets: {s: m}}\n" + BY_MEMORY: "matrix: a matrix beside use: memory",
}


def test_mistakes() -> None:
    said = {text: excerpt(problem(f"{text}\n"), words) for text, words in MISTAKES.items()}
    assert said == MISTAKES
