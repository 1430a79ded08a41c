"""On which devices a server's memory will be, by its command."""

import os
from pathlib import Path

import pytest

from llmsnap.memory import (
    DeviceMemory,
    Estimate,
    ServerFacts,
    ServerOptions,
    device_variables,
    examine,
)

PCI = "CUDA_DEVICE_ORDER=PCI_BUS_ID"
GPUS = {"gpu0": "GPU-aa", "gpu1": "GPU-bb", "gpu2": ""}


@pytest.mark.parametrize(
    ("cmd", "env", "split"),
    [
        ("llama-server -m a.gguf", "", {"gpu0": 1, "gpu1": 1, "gpu2": 1}),
        ("llama-server -m a.gguf", "CUDA_VISIBLE_DEVICES=2,0", {"gpu2": 1, "gpu0": 1}),
        ("llama-server -m a.gguf", "CUDA_VISIBLE_DEVICES=GPU-bb", {"gpu1": 1}),
        ("llama-server -m a.gguf", "CUDA_VISIBLE_DEVICES=", {}),
        ("llama-server -m a.gguf", "ROCR_VISIBLE_DEVICES=1", {"gpu1": 1}),
        ("llama-server -ts 3,1", "CUDA_VISIBLE_DEVICES=1,2", {"gpu1": 3, "gpu2": 1}),
        ("llama-server --tensor-split=0/1", "", {"gpu1": 1}),
        ("llama-server -ts x", "", {"gpu0": 1, "gpu1": 1, "gpu2": 1}),
        ("llama-server -sm none -mg 1", "", {"gpu1": 1}),
        ("llama-server -dev CUDA1,CUDA2", "", {"gpu1": 1, "gpu2": 1}),
        ("llama-server -dev none", "", {"ram": 1}),
        ("llama-server -ngl 0", "", {"ram": 1}),
        ("vllm serve a", "", {"gpu0": 1}),
        ("vllm serve a -tp 2", "", {"gpu0": 1, "gpu1": 1}),
    ],
)
def test_the_command_says_which_gpus_share_a_model(
    cmd: str, env: str, split: dict[str, float]
) -> None:
    facts = ServerFacts(options=ServerOptions(cmd))
    assert facts.split([env] if env else [], GPUS) == split


@pytest.mark.parametrize(
    ("estimate", "split", "sizes", "least"),
    [
        (Estimate(90, 10, ""), {"gpu0": 2.0, "gpu1": 1.0}, {"gpu0": 60, "gpu1": 30, "ram": 10}, 90),
        (Estimate(90, 10, ""), {}, {"ram": 100}, 90),
        (Estimate(0, 0, "", 0.5), {"gpu0": 1.0, "gpu1": 1.0}, {"gpu0": 50, "gpu1": 40}, 50),
        (None, {"gpu0": 1.0}, {}, 0),
    ],
)
def test_an_estimate_is_divided_among_the_devices(
    estimate: Estimate | None, split: dict[str, float], sizes: dict[str, int], least: int
) -> None:
    totals = {"gpu0": 100, "gpu1": 80, "ram": 999}
    facts = ServerFacts(estimate=estimate)
    assert facts.placed(split, totals) == sizes
    assert facts.least(totals)[0] == least


@pytest.mark.parametrize(
    ("name", "vendor", "index", "variables"),
    [
        ("ram", "", 0, ()),
        ("gpu1", "nvidia", 1, (PCI, "CUDA_VISIBLE_DEVICES=GPU-x", "GGML_VK_VISIBLE_DEVICES=1")),
        ("gpu1", "amd", 0, ("ROCR_VISIBLE_DEVICES=0", "GGML_VK_VISIBLE_DEVICES=1")),
        ("gpu1", "intel", 0, ("ONEAPI_DEVICE_SELECTOR=level_zero:0", "GGML_VK_VISIBLE_DEVICES=1")),
    ],
)
def test_a_server_sees_the_gpu_it_was_placed_on(
    name: str, vendor: str, index: int, variables: tuple[str, ...]
) -> None:
    found = DeviceMemory(name, 1, 0, uuid="GPU-x", vendor=vendor, index=index)
    assert device_variables(name, found) == variables


def test_a_gpu_that_was_not_found_goes_by_its_number() -> None:
    assert device_variables("gpu2") == (
        PCI,
        "CUDA_VISIBLE_DEVICES=2",
        "ROCR_VISIBLE_DEVICES=2",
        "GGML_VK_VISIBLE_DEVICES=2",
    )


def test_another_file_by_the_same_name_is_another_model(tmp_path: Path) -> None:
    file = tmp_path / "a.gguf"
    file.write_bytes(b"weights")
    cmd = f"docker run --rm image -m {file}"
    before = examine(cmd, (cmd,), has_gpu=True)
    assert before.digest == examine(cmd, (cmd,), has_gpu=True).digest
    assert (before.files, before.is_container) == ((str(file),), True)
    os.utime(file, (1, 1))
    assert examine(cmd, (cmd,), has_gpu=True).digest != before.digest
    assert not examine("llama-server run", ("x",), has_gpu=False).is_container
