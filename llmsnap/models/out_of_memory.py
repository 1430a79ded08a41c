"""Recognises that a server ended because memory ran out: by its last lines, or by who killed it.

What is recognised is a fixed table of signs. Sources: llama.cpp's ``ggml-cuda``, ``ggml-vulkan``,
``ggml-sycl`` and ``ggml`` allocators; PyTorch's ``OutOfMemoryError``; vLLM's worker and KV cache
checks; strerror(3); the counter ``oom_kill`` of /proc/vmstat (since Linux 4.13), which counts kills
for a full cgroup as well as for a full machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from llmsnap.launchers import ExitStatus

TAIL_LINES = 200
"""Lines of output that are searched: a traceback may follow the sign."""
KILLED = "killed by the system, which ran out of memory"
_HARMLESS = re.compile(r"\bm(un)?lock")
"""llama.cpp warns that it cannot lock memory with the text of ENOMEM, and goes on."""

SIGNS: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (sign, re.compile(pattern))
    for sign, pattern in (
        # vLLM, before and after it has loaded the weights
        ("No available memory for the cache blocks", r"No available memory for the cache blocks"),
        (
            "Free memory on device is less than desired GPU memory utilization",
            r"Free memory on device .*less than desired GPU memory utilization",
        ),
        # llama.cpp with CUDA or HIP (the text is the same); PyTorch
        ("cudaMalloc failed", r"cudaMalloc failed: out of memory"),
        ("HIP out of memory", r"HIP out of memory|hipErrorOutOfMemory"),
        ("CUDA out of memory", r"CUDA out of memory|CUDA error: out of memory"),
        ("CUDA out of memory", r"CUDA_ERROR_OUT_OF_MEMORY|cudaErrorMemoryAllocation"),
        ("XPU out of memory", r"XPU out of memory|OUT_OF_DEVICE_MEMORY"),
        # llama.cpp with Vulkan, SYCL, Metal, and in RAM
        ("Vulkan out of memory", r"ErrorOutOfDeviceMemory|ErrorOutOfHostMemory"),
        ("Vulkan out of memory", r"ggml_vulkan: Device memory allocation of size \d+ failed"),
        ("Metal out of memory", r"kIOGPUCommandBufferCallbackErrorOutOfMemory"),
        ("insufficient memory", r"ggml_aligned_malloc: insufficient memory"),
        # the C library, Python
        ("Cannot allocate memory", r"Cannot allocate memory"),
        ("MemoryError", r"^MemoryError\b"),
    )
)


def sign_of(lines: Iterable[str], status: ExitStatus | None, kills: int) -> str:
    """Return the sign that a server which ended by itself ran out of memory; "" for none.

    *lines* are the last ones of its output, *kills* is by how much ``limits.oom_kills`` has grown
    since its start. The last sign in the output counts.
    """
    for line in reversed(list(lines)):
        if not _HARMLESS.search(line):
            for sign, pattern in SIGNS:
                if pattern.search(line):
                    return sign
    was_killed = status is not None and status.signal == "SIGKILL"
    return KILLED if was_killed and kills > 0 else ""
