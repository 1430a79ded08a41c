"""What a server needs and on which devices, by its command, its files and its environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from llmsnap.memory.devices import RAM
from llmsnap.memory.estimate import CPU, Estimate, ServerOptions, estimate, model_files
from llmsnap.memory.gpus import DeviceMemory
from llmsnap.memory.learned import digest_of

VISIBLE = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")
CONTAINER_PROGRAMS = frozenset({"docker", "podman", "nerdctl"})
_NUMBER = re.compile(r"(\d+)$")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What is known of the server of one definition without running it.

    *digest* names the definition with its model files, empty while they are not known.
    *is_container*: its processes are not children of the command.
    """

    digest: str = ""
    files: tuple[str, ...] = ()
    estimate: Estimate | None = None
    options: ServerOptions = field(default_factory=lambda: ServerOptions(""))
    is_container: bool = False

    def split(self, env: Iterable[str], gpus: Mapping[str, str]) -> dict[str, float]:
        """Return the relative load of each device; empty where nothing is known.

        *gpus* are their UUIDs by name, in order. Several GPUs that the command does not mention
        share a model evenly.
        """
        options = self.options
        visible = _visible(env, gpus)
        named = options.text("devices")
        if named in CPU or options.number("layers") == 0:
            return {RAM: 1.0}
        if named:
            numbers = [int(end[1]) for part in named.split(",") if (end := _NUMBER.search(part))]
            visible = [visible[number] for number in numbers if number < len(visible)]
        parts = options.split()
        if parts:
            return {name: part for name, part in zip(visible, parts, strict=False) if part > 0}
        if options.is_vllm:
            visible = visible[: int(options.number("parallel") or 1)]
        return dict.fromkeys(visible, 1.0)

    def placed(self, split: Mapping[str, float], totals: Mapping[str, int]) -> dict[str, int]:
        """Return the estimate in bytes by device. *totals* is what each device has."""
        found = self.estimate
        if found is None:
            return {}
        gpus = {name: part for name, part in split.items() if name != RAM}
        whole = sum(gpus.values())
        if found.gpu_share is not None:
            sizes = {name: int(totals.get(name, 0) * found.gpu_share) for name in gpus}
        else:
            sizes = {name: int(found.gpu * part / whole) for name, part in gpus.items()}
        sizes[RAM] = found.ram + (0 if gpus else found.gpu)
        return {name: size for name, size in sizes.items() if size}

    def least(self, totals: Mapping[str, int]) -> tuple[int, int]:
        """Return what must be free on GPUs and in RAM before a load that is to be measured."""
        found = self.estimate
        if found is None:
            return 0, 0
        share = found.gpu_share or 0.0
        largest = max((size for name, size in totals.items() if name != RAM), default=0)
        return found.gpu + int(share * largest), found.ram


def examine(cmd: str, definition: Iterable[str], has_gpu: bool) -> ServerFacts:
    """Return what command and files say about a server. Blocks on the file system."""
    options = ServerOptions(cmd)
    files = tuple(name for name, _ in model_files(options.files))
    return ServerFacts(
        digest_of(definition, files),
        files,
        estimate(cmd, has_gpu=has_gpu),
        options,
        runs_container(options.words),
    )


def device_variables(name: str, found: DeviceMemory | None = None) -> tuple[str, ...]:
    """Return the variables that let a server see one GPU such as ``gpu1`` alone; none for "".

    CUDA counts by speed unless told otherwise, so the UUID of *found* is used where it is known.
    A server for AMD's ROCm obeys CUDA's variable as well, within what ROCm lets it see: only the
    variables of the card's own vendor are set.
    """
    number = name.removeprefix("gpu")
    if not number.isdecimal():
        return ()
    vendor = found.vendor if found is not None else ""
    own = str(found.index) if found is not None and vendor else number
    cuda = found.uuid if found is not None and vendor != "amd" and found.uuid else own
    variables = {
        "nvidia": ("CUDA_DEVICE_ORDER=PCI_BUS_ID", f"CUDA_VISIBLE_DEVICES={cuda}"),
        "amd": (f"ROCR_VISIBLE_DEVICES={own}",),
        "intel": (f"ONEAPI_DEVICE_SELECTOR=level_zero:{own}",),
    }
    of_vendor = variables.get(vendor, (*variables["nvidia"], *variables["amd"]))
    return (*of_vendor, f"GGML_VK_VISIBLE_DEVICES={number}")


def runs_container(words: Sequence[str]) -> bool:
    """Whether a command starts a container: then the server is no child process of it."""
    if not words:
        return False
    return words[0].rpartition("/")[2] in CONTAINER_PROGRAMS and "run" in words[1:4]


def _visible(env: Iterable[str], gpus: Mapping[str, str]) -> list[str]:
    """Return the GPUs that the environment lets the server see, in its order."""
    names = list(gpus)
    given = dict(setting.partition("=")[::2] for setting in env)
    wanted = next((given[name] for name in VISIBLE if name in given), None)
    if wanted is None:
        return names
    found = []
    for part in wanted.split(","):
        one = part.strip()
        if one.isdecimal():
            found += names[int(one) : int(one) + 1]
        else:
            found += [name for name, uuid in gpus.items() if one and uuid.startswith(one)]
    return found
