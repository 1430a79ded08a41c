"""Configuration: text in, frozen and checked settings out.

``settings`` and ``model_settings``, with their ``parts``, declare every key once: its name, kind of
value, default, unit, what a change needs, and its text. ``keys`` derives from that what the loader
reads and what the diff compares, ``schema`` the JSON schema. ``loader`` is the way through:
``yaml`` makes a tree of ``nodes`` with positions, ``macros`` fills in references, ``kinds`` reads
values by their declaration, and ``models``, ``groups``, ``matrix`` (in the language of
``expressions``), ``memory``, ``router``, ``peers``, ``launchers``, ``selectors``, ``profiles``,
``filters`` and ``access`` check what concerns more than one key. ``diff`` says what a reload
changes, ``advice`` what is odd about a file that loads.
"""

from __future__ import annotations

from .advice import advice_on, advise, group_of, local_port
from .diff import Diff, changed_settings, compare
from .expressions import Expression
from .filters import is_soft
from .launchers import NO_RESOURCES, LauncherConfig, Resources
from .loader import (
    Loaded,
    hash_of,
    load,
    load_contents,
    load_with_advice,
    loads,
    loads_with_advice,
)
from .matrix import partners
from .memory import device_order, read_capacities
from .model_settings import EXTERNAL, ModelConfig
from .nodes import Node, Report, find_node, in_file_order
from .parts import (
    DEFAULT_GROUP,
    EXTERNAL_GROUP,
    ApiKey,
    Capabilities,
    DeviceConfig,
    Endpoint,
    EvictCost,
    Filters,
    GroupConfig,
    HookCall,
    Hooks,
    MatrixConfig,
    MatrixSet,
    MemoryNeed,
    MemoryRules,
    MemorySize,
    PeerConfig,
    PerformanceConfig,
    ProfileConfig,
    PromptCacheConfig,
    ReadAheadConfig,
    SchedulerConfig,
    SelectorConfig,
    StoreConfig,
    Timeouts,
)
from .scalars import WrittenFloat, split_command, without_password
from .schedule import IdleHook, ScheduleEntry
from .schema import advise_by_schema
from .settings import Config
from .slots import SLOT_OPTION, command_words, is_llama_server, slot_folder
from .sources import SUFFIXES, Contents, Sources, read_contents

__all__ = [
    "DEFAULT_GROUP",
    "EXTERNAL",
    "EXTERNAL_GROUP",
    "NO_RESOURCES",
    "SLOT_OPTION",
    "SUFFIXES",
    "ApiKey",
    "Capabilities",
    "Config",
    "Contents",
    "DeviceConfig",
    "Diff",
    "Endpoint",
    "EvictCost",
    "Expression",
    "Filters",
    "GroupConfig",
    "HookCall",
    "Hooks",
    "IdleHook",
    "LauncherConfig",
    "Loaded",
    "MatrixConfig",
    "MatrixSet",
    "MemoryNeed",
    "MemoryRules",
    "MemorySize",
    "ModelConfig",
    "Node",
    "PeerConfig",
    "PerformanceConfig",
    "ProfileConfig",
    "PromptCacheConfig",
    "ReadAheadConfig",
    "Report",
    "Resources",
    "ScheduleEntry",
    "SchedulerConfig",
    "SelectorConfig",
    "Sources",
    "StoreConfig",
    "Timeouts",
    "WrittenFloat",
    "advice_on",
    "advise",
    "advise_by_schema",
    "changed_settings",
    "command_words",
    "compare",
    "device_order",
    "find_node",
    "group_of",
    "hash_of",
    "in_file_order",
    "is_llama_server",
    "is_soft",
    "load",
    "load_contents",
    "load_with_advice",
    "loads",
    "loads_with_advice",
    "local_port",
    "partners",
    "read_capacities",
    "read_contents",
    "slot_folder",
    "split_command",
    "without_password",
]
