"""Sizes of memory: what devices have, and what models need on them."""

from __future__ import annotations

import re
from typing import Any

from .keys import stored_values
from .kinds import WANTED_SIZE, Kind, ValueReader, size_bytes
from .nodes import Mapping, Node, Path, describe, is_null
from .parts import MEMORY_RULES, DeviceConfig, MemoryNeed, MemoryRules, MemorySize

_DEVICE = re.compile(r"gpu(0|[1-9][0-9]?)|ram")
SIZE_SCHEMA: list[dict[str, Any]] = [
    {"type": "string", "pattern": "^[0-9.]+ *[KMGTkmgt]i?[Bb]$"},
    {"$ref": "#/$defs/macro"},
]
SIZES_SCHEMA = {"anyOf": [{"const": "auto"}, *SIZE_SCHEMA, {"type": "object"}]}
DEVICES_SCHEMA = {
    f"^({_DEVICE.pattern})$": {"anyOf": [*SIZE_SCHEMA, {"type": "object"}]},
}
DEVICE_SCHEMA = {
    "anyOf": [{"type": "string", "pattern": f"^({_DEVICE.pattern})?$"}, SIZE_SCHEMA[-1]]
}
WANTED_DEVICE = "a device: gpu0, gpu1, ... or ram"
ANY = "any"
AUTO = "auto"


def read_capacities(text: str) -> dict[str, int]:
    """Return the sizes in *text*, such as ``gpu0:20GiB,ram:8GiB``, in bytes by device.

    Raises: ValueError, which says what is wrong.
    """
    found: dict[str, int] = {}
    for part in text.split(","):
        name, _, value = (each.strip() for each in part.partition(":"))
        size = size_bytes(value)
        if not _DEVICE.fullmatch(name) or not size:
            raise ValueError(f"memory must be like gpu0:24GiB,ram:64GiB, not {part.strip()!r}")
        found[name] = size
    return found


def device_order(name: str) -> tuple[bool, int, str]:
    """Return the sort key of a device: GPUs by number, then RAM."""
    return name == "ram", len(name), name


def read_memory_rules(node: Node | None, reader: ValueReader) -> MemoryRules:
    """Return what the top-level ``memory`` says beside the devices."""
    keys = MEMORY_RULES.keys
    values = dict(MEMORY_RULES.default)
    for name, below in node.entries.items() if isinstance(node, Mapping) else ():
        if name in keys:
            values[name] = keys[name].kind.read(below, ("memory", name), reader)
    return MemoryRules(**stored_values(MemoryRules, values))


def read_devices(node: Node | None, reader: ValueReader) -> tuple[DeviceConfig, ...]:
    """Return the devices below the top-level ``memory``: GPUs in order, then RAM."""
    path: Path = ("memory",)
    if node is None:
        return ()
    if not isinstance(node, Mapping):
        reader.mismatch(node, path, "a mapping", "write a line such as gpu0: 24GiB")
        return ()
    found = []
    for name, below in node.entries.items():
        here = (*path, name)
        if name in MEMORY_RULES.keys:
            continue
        if not _DEVICE.fullmatch(name):
            fix = reader.report.nearest(name, MEMORY_RULES.keys) or "write gpu0, gpu1, ... or ram"
            reader.report.error(here, f'"{name}" is no device', fix, node.keys[name])
        elif isinstance(below, Mapping):
            found.append(_device(name, below, here, reader))
        else:
            found.append(DeviceConfig(name, _capacity(below, here, reader)))
    return tuple(sorted(found, key=lambda each: device_order(each.name)))


def _device(name: str, node: Mapping, path: Path, reader: ValueReader) -> DeviceConfig:
    sizes = {"capacity": 0, "reserve": 0}
    for key, below in node.entries.items():
        if key in sizes:
            read = _capacity if key == "capacity" else _size
            sizes[key] = read(below, (*path, key), reader)
        else:
            fix = reader.report.nearest(key, sizes) or "write capacity and reserve"
            reader.report.advise((*path, key), "unknown key", fix, node.keys[key])
    if 0 < sizes["capacity"] <= sizes["reserve"] and not reader.report.already_reported(path):
        what = "the reserve leaves nothing of its capacity"
        reader.report.error((*path, "reserve"), what, "make it smaller", node)
    return DeviceConfig(name, sizes["capacity"], sizes["reserve"])


def _capacity(node: Node, path: Path, reader: ValueReader) -> int:
    """Return the size in *node*, which must not be 0: that stands for all of a device."""
    size = _size(node, path, reader)
    if not size and not reader.report.already_reported(path) and not is_null(node):
        fix = "write what models may use, or leave it out: then that is all of the device"
        reader.report.error(path, "a device of 0 bytes holds no model", fix, node)
    return size


def _size(node: Node, path: Path, reader: ValueReader) -> int:
    """Return the size in *node*; report another value, and return 0."""
    text = reader.text(node, path, WANTED_SIZE, strict=True)
    size = None if text is None else size_bytes(text)
    if size is None and not reader.report.already_reported(path):
        what = f"must be {WANTED_SIZE} (found {describe(node)})"
        reader.report.error(path, what, "write the number with its unit", node)
    return size or 0


class Sizes(Kind):
    """What a model needs: a size, sizes by device, or ``auto`` (None)."""

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return a MemoryNeed, None for ``auto``."""
        if is_null(node):
            return None
        if not isinstance(node, Mapping):
            if reader.text(node, path, WANTED_SIZE, strict=True) == AUTO:
                return None
            return MemoryNeed(total_bytes=_size(node, path, reader))
        sizes = []
        anywhere = 0
        for name, below in node.entries.items():
            here = (*path, name)
            if name == ANY:
                anywhere = _size(below, here, reader)
            elif _DEVICE.fullmatch(name):
                sizes.append(MemorySize(name, _size(below, here, reader)))
            else:
                fix = "write gpu0, gpu1, ..., ram, or any for any one GPU"
                reader.report.error(here, f'"{name}" is no device', fix, node.keys[name])
        return MemoryNeed(tuple(sizes), anywhere)


class DeviceName(Kind):
    """The name of a device, ``gpu0``, ``gpu1``, ... or ``ram``; empty: none."""

    def read(self, node: Node, path: Path, reader: ValueReader) -> Any:
        """Return the name."""
        name = reader.text(node, path, WANTED_DEVICE, strict=True)
        if not name or _DEVICE.fullmatch(name):
            return name or self.default
        reader.mismatch(node, path, WANTED_DEVICE, "count GPUs from 0, by their PCI addresses")
        return self.default


def need_on(device: str, need: MemoryNeed | None) -> MemoryNeed | None:
    """Return *need* with its total, if it is one, on *device*, if there is one."""
    if need is None or not need.total_bytes or not device:
        return need
    return MemoryNeed((MemorySize(device, need.total_bytes),))


def elsewhere(device: str, need: MemoryNeed | None) -> str:
    """Return the first GPU on which *need* has a size, but which *device* excludes; else ""."""
    if need is None or not device:
        return ""
    if need.anywhere_bytes:
        return ANY
    names = (each.device for each in need.sizes)
    return next((name for name in names if name not in (device, "ram")), "")
