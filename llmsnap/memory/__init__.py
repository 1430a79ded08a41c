"""How much memory models need and hold: read from processes and devices, estimated from commands.

Read ``processes`` (what a process tree holds now), ``gpus`` and ``devices`` (what the machine has,
and who uses it), ``ledger`` (what each model and what others hold), ``estimate`` (what a command
will need), ``gguf`` (the metadata that the estimate uses), ``learned`` (what was measured before)
and ``placement`` (on which devices) in this order; ``pagecache`` reads files ahead. Nothing here
decides.
"""

from llmsnap.memory.devices import RAM, MachineDevices, find_devices
from llmsnap.memory.estimate import (
    WEIGHT_SUFFIXES,
    Estimate,
    ServerOptions,
    estimate,
    files_bytes,
    model_files,
    swa_full_bytes,
)
from llmsnap.memory.gguf import BadGguf
from llmsnap.memory.gpus import DeviceMemory, DeviceProvider
from llmsnap.memory.learned import LearnedNeeds
from llmsnap.memory.ledger import Occupant, Reading, Stage, UseLedger, take_reading
from llmsnap.memory.pagecache import lower_priority, mapped_bytes, read_into_cache
from llmsnap.memory.placement import VISIBLE, ServerFacts, device_variables, examine
from llmsnap.memory.processes import (
    TreeActivity,
    TreeMemory,
    children,
    program,
    tree,
    tree_activity,
    tree_memory,
)

__all__ = [
    "RAM",
    "VISIBLE",
    "WEIGHT_SUFFIXES",
    "BadGguf",
    "DeviceMemory",
    "DeviceProvider",
    "Estimate",
    "LearnedNeeds",
    "MachineDevices",
    "Occupant",
    "Reading",
    "ServerFacts",
    "ServerOptions",
    "Stage",
    "TreeActivity",
    "TreeMemory",
    "UseLedger",
    "children",
    "device_variables",
    "estimate",
    "examine",
    "files_bytes",
    "find_devices",
    "lower_priority",
    "mapped_bytes",
    "model_files",
    "program",
    "read_into_cache",
    "swa_full_bytes",
    "take_reading",
    "tree",
    "tree_activity",
    "tree_memory",
]
