"""Launchers: engines that run servers on other machines, and what models ask of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from collections.abc import Mapping as Values
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from .keys import Section, section_of, setting, stored_values
from .kinds import Choice, Flag, Json, Number, Size, Text, ValueReader, size_bytes
from .nodes import Mapping, Node, Path, find_node
from .scalars import url_fault, without_password

LOCAL = "local"
RESERVED = (LOCAL, "external")
"""Names that a launcher in the file cannot have."""
TYPES = (LOCAL, "ray", "slurm")
LOOPBACK = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HOST_OPTIONS = ("--host", "--hostname", "--listen", "--bind", "--bind-host", "--address", "--ip")
_LOG_FOLDER = re.compile(r"file:/\S.*")
_LOG_ADDRESS = re.compile(r"(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}")
_TEXTS = {"additionalProperties": {"type": ["string", "number", "boolean"]}}


@dataclass(frozen=True, slots=True)
class Resources:
    """What the server of a model needs on the machine that a launcher finds for it."""

    gpus: float | None = setting(
        "gpus",
        Number(None, least=0),
        "GPUs on one machine. Up to 1 a fraction: a share of one GPU, which the engine counts but "
        "does not enforce. 0: none, for a server that asks the engine for its GPUs itself.",
        example=2,
    )
    """None: not given, which counts as 0."""
    cpus: float = setting("cpus", Number(0.0, least=0), "CPU cores; 0: not counted.", example=8)
    ram_bytes: int = setting(
        "ram",
        Size(),
        "RAM, such as `64GiB`. Default: not counted.",
        to=lambda text: size_bytes(text or "") or 0,
        example="64GiB",
        schema={"type": "string"},
    )
    labels: Values[str, str] = setting(
        "labels",
        Json(),
        "Labels that the machine must have.",
        initial=MappingProxyType({}),
        to=lambda given: MappingProxyType({name: str(value) for name, value in given.items()}),
        example={"accelerator": "h100"},
        schema=_TEXTS,
    )
    custom: Values[str, float] = setting(
        "custom",
        Json(),
        "Amounts of further resources that the engine counts, by name.",
        initial=MappingProxyType({}),
        to=lambda given: MappingProxyType(dict(given)),
        example={"cache_qwen": 1},
        schema={"additionalProperties": {"type": "number", "exclusiveMinimum": 0}},
    )

    def __bool__(self) -> bool:
        return self.gpus is not None or bool(
            self.cpus or self.ram_bytes or self.labels or self.custom
        )


RESOURCES = section_of(Resources)
NO_RESOURCES = Resources()


@dataclass(frozen=True, slots=True)
class LauncherConfig:
    """A launcher: the engine that runs servers, how to reach it, and what they all get."""

    id: str
    type: str = setting(
        "type",
        Choice("", words=TYPES),
        "`ray`: jobs on a Ray cluster, over its Jobs API. `slurm`: jobs of Slurm, over slurmrestd. "
        "`local`: processes on this machine.",
        required=True,
        initial=LOCAL,
        example="ray",
    )
    address: str = setting(
        "address",
        Text(strict=True),
        "URL of the engine: for Ray that of the dashboard, for Slurm that of slurmrestd.",
        example="http://ray-head:8265",
    )
    token: str = setting(
        "token",
        Text(strict=True),
        "Token that the engine asks for. It permits commands on every machine of the cluster. Take "
        "it from a file or the environment: `${file.PATH}`, `${env.NAME}`.",
        guards=True,
        secret=True,
        example="${env.RAY_AUTH_TOKEN}",
    )
    insecure: bool = setting(
        "insecure",
        Flag(),
        "Use an engine that asks for no token: any program that reaches it can run commands there.",
        guards=True,
    )
    user: str = setting("user", Text(strict=True), "Slurm: the user of the token.", example="llm")
    partition: str = setting(
        "partition",
        Text(strict=True),
        "Slurm: the partition of the jobs. Default: that of the cluster.",
        example="gpu",
    )
    account: str = setting(
        "account", Text(strict=True), "Slurm: the account that is charged.", example="llm"
    )
    logs: str = setting(
        "logs",
        Text("push", strict=True),
        "Slurm: how the output of servers gets here. `push`: their machines connect to "
        "`logAddress`. `file:/DIR`: by files in a folder that all machines and this one share.",
        example="file:/shared/llmsnap-logs",
    )
    log_address_given: str = setting(
        "logAddress",
        Text(strict=True),
        "Slurm: this machine's address, as the others reach it, and a port that is listened on, "
        "for `logs: push`.",
        example="10.0.0.1:6819",
    )
    placement_timeout_s: float = setting(
        "placementTimeout",
        Number(20.0, least=1),
        "Seconds that a start waits for a machine; then it fails with 503. It waits less where the "
        "engine has nothing free, and only another model of ours could leave. The load time-outs "
        "begin after that.",
        unit="seconds",
    )
    lost_after_s: float = setting(
        "lostAfter",
        Number(30.0, least=1),
        "Seconds without a word from the engine and without a connection to the server after "
        "which the server counts as lost, and for which no start uses a machine that was lost.",
        unit="seconds",
    )
    bind: str = setting(
        "bind",
        Text("0.0.0.0", strict=True),  # noqa: S104 - a server has to be reached from here
        "Address that servers listen on: the value of `${HOST}` in `cmd`.",
    )
    env: tuple[str, ...] = setting(
        "env",
        Json(),
        "Environment variables of all servers. Those of a model win.",
        initial=(),
        to=lambda given: tuple(f"{name}={value}" for name, value in given.items()),
        secret=True,
        example={"HF_HOME": "/models/hf"},
        schema=_TEXTS,
    )
    """``NAME=value``."""
    keeps: bool = setting(
        "onExit",
        Choice("stop", words=("stop", "keep")),
        "What happens to the servers when llmsnap ends. `keep`: they go on running, and the next "
        "start takes them over if their commands are still the same.",
        to=lambda word: word == "keep",
    )

    @property
    def is_remote(self) -> bool:
        """Whether servers run on other machines."""
        return self.type != LOCAL

    @property
    def log_folder(self) -> str:
        """The folder of ``logs: file:/DIR``; empty with ``push``."""
        return self.logs.partition("file:")[2].rstrip("/")

    @property
    def log_address(self) -> str:
        """``HOST:PORT`` that machines of the cluster connect to with their output, or empty."""
        return "" if self.log_folder else self.log_address_given

    @property
    def host(self) -> str:
        """The value of ``${HOST}``."""
        return self.bind if self.is_remote else LOOPBACK[1]


LAUNCHER: Section = section_of(LauncherConfig)
HERE = LauncherConfig(LOCAL)
"""The launcher of models that name none."""


def read_launchers(node: Node | None, reader: ValueReader) -> Values[str, LauncherConfig]:
    """Return the launchers, sorted by name."""
    if node is not None and not isinstance(node, Mapping):
        reader.mismatch(node, ("launchers",), "a mapping", "write a line NAME: for each launcher")
    if not isinstance(node, Mapping):
        return MappingProxyType({})
    return MappingProxyType({name: _read(name, node, reader) for name in sorted(node.entries)})


def _read(name: str, parent: Mapping, reader: ValueReader) -> LauncherConfig:
    node, path, report = parent.entries[name], ("launchers", name), reader.report
    if name in RESERVED:
        report.error(path, f'"{name}" is always there', "choose another name", parent.keys[name])
    elif not _NAME.fullmatch(name):
        fix = "use up to 63 letters, digits, - _ and ."
        report.error(path, "is no name of a launcher", fix, parent.keys[name])
    values: Values[str, Any] = LAUNCHER.read(node, path, reader)

    found = LauncherConfig(id=name, **stored_values(LauncherConfig, values))
    for key, what, fix in _faults(found, values):
        if not report.already_reported((*path, key)):
            report.error((*path, key), what, fix, find_node(node, (key,)))
    return found


def _faults(found: LauncherConfig, values: Values[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the key, the mistake and the remedy of each mistake in *found*."""
    if not values["type"]:
        yield "type", "is missing: it names the engine", f"write one of {', '.join(TYPES)}"
    for variable in values["env"]:
        if not _VARIABLE.fullmatch(variable):
            yield "env", f'"{variable}" is no name of a variable', "write letters, digits and _"
    if not values["type"] or not found.is_remote:
        return
    fault = url_fault(found.address) if found.address else "is missing"
    if fault:
        shown = f'"{without_password(found.address)}" ' if found.address else ""
        yield "address", f"{shown}{fault}", "write it like http://ray-head:8265"
    if found.type == "slurm":
        yield from _slurm_faults(found)
    if not found.token and not found.insecure:
        what = "is missing: without one, any program that reaches the engine can run commands"
        yield "token", what, "set it, or, in a network you trust, insecure: true"


def _slurm_faults(found: LauncherConfig) -> Iterator[tuple[str, str, str]]:
    if not found.user:
        yield "user", "is missing", "write the name of the user of the token"
    if found.logs != "push" and not _LOG_FOLDER.fullmatch(found.logs):
        yield "logs", "is neither push nor file:/DIR", "write push, or file: and a path"
    elif not found.log_folder and not _LOG_ADDRESS.fullmatch(found.log_address_given):
        what = "must be HOST:PORT, where the machines of the cluster reach this one"
        yield "logAddress", what, "write it like 10.0.0.1:6819, or use logs: file:/DIR"


class Placement:
    """The checks of what one model asks of its launcher."""

    def __init__(
        self,
        launcher: LauncherConfig,
        values: Values[str, Any],
        node: Node,
        path: Path,
        reader: ValueReader,
    ) -> None:
        self._launcher = launcher
        self._values = values
        self._node = node
        self._path = path
        self._report = reader.report

    def resources(self, words: Iterable[str]) -> Resources:
        """Return the resources of a model with the command *words*, and report mistakes."""
        found = Resources(**stored_values(Resources, self._values["resources"]))
        if not self._launcher.is_remote:
            self._check_local(found, words)
            return found
        if self._values["cmdStop"]:
            what = "runs on this machine, and the server on another: there is no ${PID} here"
            self._error("cmdStop", what, "remove it; the server is sent SIGTERM")
        self._check_gpus(found)
        if pinned := _pinned(list(words)):
            what = f"{pinned} is reached from its own machine only"
            self._error("cmd", what, "write ${HOST}")
        return found

    def _check_local(self, found: Resources, words: Iterable[str]) -> None:
        for key, given in (
            ("resources", found),
            ("engineEnv", self._values["engineEnv"] == "keep"),
        ):
            if given:
                what = f"has no effect with launcher: {self._launcher.id}"
                self._report.advise((*self._path, key), what, "remove it", self._at(key))
        if any("${UPSTREAM_KEY}" in word for word in words):
            what = "${UPSTREAM_KEY} is there with a launcher on other machines only"
            self._error("cmd", what, "set apiKey, and write the same key here")

    def _check_gpus(self, found: Resources) -> None:
        gpus, path = found.gpus, (*self._path, "resources", "gpus")
        at = find_node(self._node, path[2:])
        if gpus is None:
            what = "is absent: the engine reserves no GPU, and may start more than fit"
            self._report.advise(path, what, "write resources: {gpus: 1}, or 0", at)
        elif gpus > 1 and gpus != int(gpus):
            what = f"must be a whole number above 1 (found {gpus:g})"
            self._report.error(path, what, "a share is possible of a single GPU only", at)

    def _at(self, key: str) -> Node:
        return find_node(self._node, (key,)) or self._node

    def _error(self, key: str, what: str, fix: str) -> None:
        self._report.error((*self._path, key), what, fix, self._at(key))


def _pinned(words: list[str]) -> str:
    """Return the option by which a command binds to its own machine's address; empty: none."""
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option, equals, value = word.partition("=")
        value = value if equals else following
        if option in _HOST_OPTIONS and value.strip("[]") in LOOPBACK:
            return f"{option} {value}"
    return ""


def launcher_of(
    wanted: str,
    launchers: Values[str, LauncherConfig],
    node: Node,
    path: Path,
    reader: ValueReader,
) -> LauncherConfig:
    """Return the launcher named *wanted* by the model at *path*; report an unknown one."""
    found = HERE if wanted == LOCAL else launchers.get(wanted)
    if found is None:
        known = (LOCAL, *launchers)
        fix = reader.report.nearest(wanted, known) or f"known are {', '.join(known)}"
        what = f'there is no launcher "{wanted}"'
        reader.report.error((*path, "launcher"), what, fix, find_node(node, ("launcher",)))
    return found or HERE
