"""How much memory models need and hold: read from processes and devices, estimated from commands.

Read ``processes`` (what a process tree holds now), ``gpus`` and ``devices`` (what the machine has,
and who uses it), ``estimate`` (what a command will need) and ``gguf`` (the metadata that the
estimate uses) in this order. Nothing here decides.
"""

from llmsnap.memory.devices import find_devices
from llmsnap.memory.estimate import Estimate, estimate, files_bytes, model_files
from llmsnap.memory.gguf import BadGguf
from llmsnap.memory.gpus import DeviceMemory, DeviceProvider
from llmsnap.memory.processes import (
    TreeActivity,
    TreeMemory,
    children,
    tree,
    tree_activity,
    tree_memory,
)

__all__ = [
    "BadGguf",
    "DeviceMemory",
    "DeviceProvider",
    "Estimate",
    "TreeActivity",
    "TreeMemory",
    "children",
    "estimate",
    "files_bytes",
    "find_devices",
    "model_files",
    "tree",
    "tree_activity",
    "tree_memory",
]
