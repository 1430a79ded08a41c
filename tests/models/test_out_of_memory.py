"""Which ends of a server mean that memory ran out."""

import pytest

from llmsnap.launchers import ExitStatus
from llmsnap.models.out_of_memory import KILLED, sign_of

FAILED, SIGKILL = ExitStatus(1), ExitStatus(137, "SIGKILL")
CUDA = "E ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9 MiB on device 0: "
VULKAN = "ggml_vulkan: vk::Device::allocateMemory: ErrorOutOfDeviceMemory"
VLLM = (
    "ValueError: No available memory for the cache blocks. Try",
    "ValueError: Free memory on device cuda:0 (3.2/23.4 GiB) on startup is less than desired GPU "
    "memory utilization (0.9, 21.1 GiB). Decrease",
)
LOCKED = "warning: failed to mlock 4096-byte buffer: Cannot allocate memory"


@pytest.mark.parametrize(
    ("lines", "status", "kills", "sign"),
    [
        ([CUDA + "cudaMalloc failed: out of memory"], FAILED, 0, "cudaMalloc failed"),
        (["CUDA error: out of memory", "  current device: 0"], FAILED, 0, "CUDA out of memory"),
        (["torch.OutOfMemoryError: HIP out of memory. Tried"], FAILED, 0, "HIP out of memory"),
        ([VULKAN], FAILED, 0, "Vulkan out of memory"),
        ([VLLM[0], "Traceback", "  x"], FAILED, 0, "No available memory for the cache blocks"),
        (
            *([VLLM[1]], FAILED, 0),
            "Free memory on device is less than desired GPU memory utilization",
        ),
        (["mmap: Cannot allocate memory"], FAILED, 0, "Cannot allocate memory"),
        (["Traceback", "MemoryError"], FAILED, 0, "MemoryError"),
        ([LOCKED, "unknown argument: --x"], FAILED, 0, ""),
        (["unknown argument: --x"], FAILED, 3, ""),
        (["loading"], SIGKILL, 1, KILLED),
        (["loading"], SIGKILL, 0, ""),
        ([], None, 0, ""),
    ],
)
def test_the_last_lines_or_a_kill_by_the_system_say_so(
    lines: list[str], status: ExitStatus | None, kills: int, sign: str
) -> None:
    assert sign_of(lines, status, kills) == sign
