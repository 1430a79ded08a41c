"""What a server will need, from its command and its model files."""

from pathlib import Path
from random import Random

import pytest

from llmsnap.memory import gguf
from llmsnap.memory.estimate import LEAST_BUFFERS, Estimate, estimate, model_files
from tests.memory import ggufs

KIB, MIB = 1024, 1024**2
LLAMA = {
    "general.architecture": "llama",
    "llama.block_count": 4,
    "llama.context_length": 8192,
    "llama.embedding_length": 512,
    "llama.attention.head_count": 8,
    "llama.attention.head_count_kv": 2,
    "tokenizer.ggml.tokens": ["a", "bc", ""],
    "tokenizer.ggml.scores": list(range(5000)),
    "general.quality": 0.5,
}
PART = 32 * KIB
EXPERTS = {f"blk.{layer}.ffn_up_exps.weight": PART for layer in range(4)}
TENSORS = {"token_embd.weight": 2 * PART, **EXPERTS}
WEIGHTS = len(ggufs.gguf(LLAMA, TENSORS))
VALUES = 4 * 2 * 64 * 2
"""Per token: layers x heads x width x keys and values."""
ALL = WEIGHTS + 1024 * VALUES * 2
BESIDE = max(LEAST_BUFFERS, int(WEIGHTS * 0.03))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("model") / "model.gguf"
    path.write_bytes(ggufs.gguf(LLAMA, TENSORS))
    return path


def test_metadata_and_tensors_are_read(model: Path) -> None:
    found = gguf.read(model)
    assert found.architecture == "llama"
    assert found.number("block_count") == 4
    assert found.metadata["general.quality"] == 0.5
    assert found.sizes == TENSORS
    assert found.data_bytes == 6 * PART
    assert not any(key.startswith("tokenizer") for key in found.metadata), "long, and not needed"


SHORT = ggufs.gguf({**LLAMA, "tokenizer.ggml.scores": [1, 2]}, {"output.weight": 32})


def data_bytes(folder: Path, data: bytes) -> int | None:
    """The size of the tensors of a file with *data*; None where it is refused."""
    (folder / "x.gguf").write_bytes(data)
    try:
        return gguf.read(folder / "x.gguf").data_bytes
    except gguf.BadGguf:
        return None


def test_a_file_that_ends_in_its_metadata_is_incomplete(tmp_path: Path) -> None:
    head = len(SHORT) - 32 - 31
    found = {cut: data_bytes(tmp_path, SHORT[:cut]) for cut in range(0, head, 2)}
    assert found == dict.fromkeys(found)


def test_a_damaged_file_is_read_or_refused(tmp_path: Path) -> None:
    chance = Random(1)
    for at in range(len(SHORT)):
        data = bytearray(SHORT)
        data[at] = chance.randrange(256)
        assert (data_bytes(tmp_path, data) or 0) <= len(data), f"byte {at} is {data[at]}"


def estimated(command: str, *, has_gpu: bool = True) -> Estimate:
    found = estimate(command, has_gpu=has_gpu)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("options", "gpu", "ram"),
    [
        ("-c 1024", ALL + BESIDE, 0),
        ("--ctx-size=1024 -ngl 99", ALL + BESIDE, 0),
        ("", WEIGHTS + 8192 * VALUES * 2 + BESIDE, 0),
        ("-c 1024 -ngl 0", 0, ALL + BESIDE),
        ("-c 1024 --device none", 0, ALL + BESIDE),
        ("-c 1024 -ngl 2", ALL * 2 // 5 + BESIDE, ALL - ALL * 2 // 5),
        ("-c 1024 -ctk q8_0 -ctv q8_0", WEIGHTS + 1024 * VALUES * 34 // 32 + BESIDE, 0),
        ("-c 1024 --n-cpu-moe 3", ALL - 3 * PART + BESIDE, 3 * PART),
        ("-c 1024 --cpu-moe", ALL - 4 * PART + BESIDE, 4 * PART),
    ],
)
def test_a_llama_server_with_a_gpu(model: Path, options: str, gpu: int, ram: int) -> None:
    found = estimated(f"llama-server -m {model} {options}")
    assert (found.gpu, found.ram) == (gpu, ram)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ("-c 128 -np 1 -ub 64", 4 * 128),
        ("-c 8192 -np 1 -ub 64", 2 * 8192 + 2 * (256 + 64)),
        ("-c 8192", 2 * 8192 + 2 * (4 * 256 + 512)),
        ("-c 8192 --swa-full", 4 * 8192),
    ],
)
def test_layers_with_a_sliding_window_keep_the_window(
    tmp_path: Path, options: str, tokens: int
) -> None:
    metadata = {name.replace("llama", "gemma2"): value for name, value in LLAMA.items()}
    metadata |= {"general.architecture": "gemma2", "gemma2.attention.sliding_window": 256}
    data = ggufs.gguf(metadata, TENSORS)  # type: ignore[arg-type]
    (tmp_path / "model.gguf").write_bytes(data)
    found = estimated(f"llama-server -m {tmp_path}/model.gguf {options}", has_gpu=False)
    around = max(LEAST_BUFFERS, int(len(data) * 0.03))
    assert found.ram == len(data) + tokens * VALUES // 4 * 2 + around


@pytest.mark.parametrize(
    ("options", "has_gpu", "is_fixed"),
    [
        ("", True, False),
        ("-ngl auto", True, False),
        ("-ngl 99", True, True),
        ("-ngl 99 --fit on", True, False),
        ("-ngl 99", False, True),
    ],
)
def test_servers_that_fit_themselves_to_free_memory_are_recognised(
    model: Path, options: str, has_gpu: bool, is_fixed: bool
) -> None:
    found = estimated(f"llama-server -m {model} -c 1024 {options}", has_gpu=has_gpu)
    assert found.is_fixed is is_fixed
    assert has_gpu or (found.gpu, found.ram) == (0, ALL + BESIDE)


def test_projectors_and_adapters_count(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mmproj.gguf").write_bytes(b"x" * MIB)
    alone = estimated(f"llama-server -m {model} -c 64")
    both = estimated(f"llama-server -m {model} -c 64 --mmproj {tmp_path}/mmproj.gguf")
    assert both.gpu - alone.gpu == MIB


def test_a_file_without_metadata_counts_with_its_size(tmp_path: Path) -> None:
    (tmp_path / "torn.gguf").write_bytes(b"x" * MIB)
    (tmp_path / "whisper.bin").write_bytes(b"x" * MIB)
    for name in ("torn.gguf", "whisper.bin"):
        found = estimate(f"whisper-server -m {tmp_path}/{name}", has_gpu=True)
        assert found == Estimate(int(MIB * 1.15), 0, "1.15 x the size of its files")


def test_parts_of_a_split_model_and_folders_are_found(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / f"big-0000{number}-of-00002.gguf").write_bytes(b"x" * number)
    (tmp_path / "config.json").write_text("{}")
    split = [(f"{tmp_path}/big-0000{number}-of-00002.gguf", number) for number in (1, 2)]
    assert list(model_files([f"{tmp_path}/big-00002-of-00002.gguf"])) == split
    assert list(model_files([str(tmp_path), "/missing/file.gguf"])) == split


@pytest.mark.parametrize(
    ("cmd", "share"),
    [
        ("vllm serve org/model --gpu-memory-utilization 0.4", 0.4),
        ("python -m vllm.entrypoints.openai.api_server --model org/m", 0.9),
    ],
)
def test_vllm_takes_a_share_of_the_card(cmd: str, share: float) -> None:
    assert estimated(cmd).gpu_share == share


@pytest.mark.parametrize(
    "cmd",
    ["sd-server --port 1", "docker run image", "llama-server -m /missing.gguf", "x 'unclosed"],
)
def test_a_command_that_says_nothing_has_no_estimate(cmd: str) -> None:
    assert estimate(cmd, has_gpu=True) is None
