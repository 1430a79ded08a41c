"""How much memory models need and hold: read from processes, estimated from commands.

Read ``processes`` (what a process tree holds now), ``estimate`` (what a command will need) and
``gguf`` (the metadata that the estimate uses) in this order. Nothing here decides.
"""

from llmsnap.memory.estimate import Estimate, estimate, model_files
from llmsnap.memory.gguf import BadGguf
from llmsnap.memory.processes import (
    TreeMemory,
    children,
    find_nvidia_processes,
    tree_memory,
)

__all__ = [
    "BadGguf",
    "Estimate",
    "TreeMemory",
    "children",
    "estimate",
    "find_nvidia_processes",
    "model_files",
    "tree_memory",
]
