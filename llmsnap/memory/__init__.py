"""How much memory models need and hold: read from processes, estimated from commands.

Read ``processes`` (what a process tree holds now), ``estimate`` (what a command will need) and
``gguf`` (the metadata that the estimate uses) in this order. Nothing here decides.
"""

from llmsnap.memory.estimate import Estimate, estimate, files_bytes, model_files
from llmsnap.memory.gguf import BadGguf
from llmsnap.memory.processes import (
    TreeActivity,
    TreeMemory,
    children,
    find_nvidia_processes,
    tree_activity,
    tree_memory,
)

__all__ = [
    "BadGguf",
    "Estimate",
    "TreeActivity",
    "TreeMemory",
    "children",
    "estimate",
    "files_bytes",
    "find_nvidia_processes",
    "model_files",
    "tree_activity",
    "tree_memory",
]
