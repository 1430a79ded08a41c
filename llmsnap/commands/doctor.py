"""``llmsnap doctor``: the machine, and what on it or in the configuration is likely to fail.

Nothing is started or changed. Peers and, for the load times, a running server are asked.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from importlib import metadata
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TextIO

from llmsnap.ansi import strip_controls
from llmsnap.commands.check import advise_of_machine
from llmsnap.commands.client import ServerClient, add_server, connect, new_parser
from llmsnap.config import (
    Config,
    Loaded,
    ModelConfig,
    PeerConfig,
    Report,
    Sources,
    advise,
    advise_by_schema,
    in_file_order,
    load_with_advice,
    split_command,
    without_password,
)
from llmsnap.errors import CommandFailed, ConfigError, KeyRefused, Problem
from llmsnap.installation import identify
from llmsnap.memory import model_files
from llmsnap.telemetry import Hardware, HardwareProbe

SCHEMA_VERSION = 1
NOTE, WARNING, ERROR = "note", "warning", "error"
LEVELS = (NOTE, WARNING, ERROR)
EXIT_CODES = {NOTE: 0, WARNING: 6, ERROR: 1}
LIBRARIES = ("gevent", "flask", "msgspec", "requests", "psutil", "nvidia-ml-py")
MOST_SKEW_S = 30.0
PEER_LIMIT_S = 5.0
EARLIEST_S = 1_700_000_000
"""A clock before this Unix time (2023) is wrong."""
GIB = 1024**3

_WEIGHTS = re.compile(r".*\.(?:gguf|safetensors|bin|onnx)", re.IGNORECASE)
DESCRIPTION = (
    "Report the hardware, and what is likely to fail on this machine with this configuration. "
    "Starts nothing."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding: its *subject*, what is the matter, and what to do about it."""

    level: str
    subject: str
    what: str
    fix: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        place = f" (line {self.line}, column {self.column})" if self.line else ""
        fix = f" - {self.fix}" if self.fix else ""
        return strip_controls(f"{self.level}: {self.subject}{place}: {self.what}{fix}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = new_parser("doctor", DESCRIPTION, "[FILE]")
    parser.add_argument("file", nargs="?", metavar="FILE", help="configuration (config.yaml)")
    parser.add_argument("--listen", metavar="ADDR", help="address that the server uses (:8080)")
    parser.add_argument("--json", action="store_true", help="write JSON")
    return add_server(parser)


def main(argv: Sequence[str]) -> int:
    """Run the command with its own arguments; return the exit code of the worst finding."""
    return run(build_parser().parse_args(argv))


def run(
    args: argparse.Namespace,
    out: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
    probe: HardwareProbe | None = None,
) -> int:
    """Examine machine and configuration; return 0, 1 with an error, 6 with a warning."""
    out, environ = out or sys.stdout, os.environ if environ is None else environ
    probe = probe or HardwareProbe()
    probe.run()
    folder = "" if args.file else environ.get("LLMSNAP_CONFIG_DIR", "")
    first = args.file or environ.get("LLMSNAP_CONFIG") or ("" if folder else "config.yaml")
    sources = Sources(first, folder)
    file = str(sources)
    findings = list(_of_machine(probe.found))
    config, found = _of_file(sources, environ)
    findings += found
    if config is not None:
        listen = args.listen or environ.get("LLMSNAP_LISTEN") or ":8080"
        findings += _of_access(config, listen, environ)
        findings += _of_memory(config, probe.found)
        findings += _of_loads(config, args, environ)
        for peer in config.peers.values():
            findings += _of_peer(peer)
    (_write_json if args.json else _write_text)(out, file, probe.found, config, findings)
    return EXIT_CODES[_worst(findings)]


def _worst(findings: Iterable[Finding]) -> str:
    return LEVELS[max((LEVELS.index(one.level) for one in findings), default=0)]


# --- findings -------------------------------------------------------------------------------------


def _of_machine(hardware: Hardware | None) -> Iterator[Finding]:
    if hardware is None:
        yield Finding(WARNING, "hardware", "could not be detected", "see the line above")
        return
    if time.time() < EARLIEST_S:
        fix = "set it: certificates, records and peers depend on it"
        yield Finding(WARNING, "clock", "the clock of this machine is years behind", fix)
    if any(one.vendor == "nvidia" and one.driver.version is None for one in hardware.accelerators):
        fix = "install the driver, and llmsnap with the extra gpu"
        yield Finding(NOTE, "hardware", "there is an NVIDIA GPU, but NVML does not answer", fix)


def _of_file(sources: Sources, environ: Mapping[str, str]) -> tuple[Config | None, list[Finding]]:
    """Return the configuration, None if it has errors, and what ``llmsnap check`` reports of it."""
    file = str(sources)
    try:
        loaded = load_with_advice(sources, environ=environ)
    except ConfigError as error:
        return None, [
            *(_of_problem(ERROR, file, one) for one in error.problems),
            *(_of_problem(WARNING, file, one) for one in error.advice),
        ]
    return loaded.config, [_of_problem(WARNING, file, one) for one in _advice(loaded, environ)]


def _advice(loaded: Loaded, environ: Mapping[str, str]) -> Sequence[Problem]:
    report = Report()
    report.advice += loaded.advice
    advise(loaded.config, loaded.tree, report)
    advise_of_machine(loaded.config, loaded.tree, report, environ)
    advise_by_schema(loaded.tree, report)
    return in_file_order(report.advice)


def _of_problem(level: str, file: str, problem: Problem) -> Finding:
    subject = f"{problem.where}" if problem.where else file
    return Finding(level, subject, problem.what, problem.fix, problem.line, problem.column)


def _of_access(config: Config, listen: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    exposed, keys = _is_exposed(listen), config.api_keys
    if exposed and not keys:
        what = f"every client that reaches {listen} may use, load and unload all models"
        yield Finding(WARNING, "apiKeys", what, "set apiKeys, or listen on 127.0.0.1")
    if exposed and keys and not environ.get("LLMSNAP_TLS_CERT_FILE"):
        what = f"without TLS, keys and conversations cross the network unencrypted ({listen})"
        yield Finding(NOTE, "TLS", what, "give --tls-cert-file, or use a proxy in front with TLS")
    if keys and not any(key.admin for key in keys):
        fix = "set admin: true on one"
        yield Finding(WARNING, "apiKeys", "no key may load, unload, or read logs", fix)
    for path, text in config.texts:
        mode = Path(path).stat().st_mode if Path(path).exists() else 0
        if mode & stat.S_IROTH and any(key.key in text for key in keys):
            what = "holds API keys and can be read by every user of this machine"
            yield Finding(WARNING, path, what, "chmod o-r, or take the keys from ${file.PATH}")


def _is_exposed(listen: str) -> bool:
    """Return whether the address *listen* accepts connections of other machines."""
    if listen.startswith("unix:"):
        return False
    host = listen.rpartition(":")[0].strip("[]")
    try:
        return not ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def _of_memory(config: Config, hardware: Hardware | None) -> Iterator[Finding]:
    """Find models, and groups that stay loaded together, whose files exceed all memory."""
    if hardware is None or hardware.memory_bytes is None:
        return
    extra = [one.memory for one in hardware.accelerators if one.memory.kind == "dedicated"]
    room = hardware.memory_bytes + sum(one.capacity_bytes or 0 for one in extra)
    sizes = {model.id: _weights(model) for model in config.models.values()}
    for name, size in sizes.items():
        if size > room:
            what = f"its files have {_gib(size)}, and all memory of this machine {_gib(room)}"
            fix = "choose a smaller model or quantization"
            yield Finding(WARNING, f"models.{name}", what, fix)
    for group in config.groups.values():
        members = [sizes.get(name, 0) for name in group.members]
        if not group.swap and sum(members) > room >= max(members, default=0):
            what = f"its members stay loaded together and have {_gib(sum(members))}, and all "
            what += f"memory of this machine {_gib(room)}"
            fix = "set swap: true, or move one of them"
            yield Finding(WARNING, f"groups.{group.id}", what, fix)


def _weights(model: ModelConfig) -> int:
    """Return the bytes of the model files in the command, the further parts of a file included."""
    if not model.cmd:
        return 0
    words = [word.rpartition("=")[2] for word in split_command(model.cmd)]
    files = dict(model_files(word for word in words if _WEIGHTS.fullmatch(word)))
    return sum(files.values())


def _of_loads(
    config: Config, args: argparse.Namespace, environ: Mapping[str, str]
) -> Iterator[Finding]:
    """Compare idle timeouts with the load times that a running server has measured."""
    try:
        models = connect(args, environ).get("/api/overview")["models"]
        loads = {one["model_id"]: one["durations"]["start"]["p50_s"] for one in models}
    except (CommandFailed, LookupError, TypeError) as error:
        what = f"load times are not known, no server was asked: {_beginning(error)}"
        yield Finding(NOTE, "server", what)
        return
    for name, load_s in loads.items():
        model = config.models.get(name)
        if model is not None and load_s and 0 < model.ttl_s < load_s:
            what = f"it is unloaded after {model.ttl_s:g} s, and loads in {load_s:.1f} s"
            yield Finding(WARNING, f"models.{name}.ttl", what, "raise it, or use sleepMode")


def _of_peer(peer: PeerConfig) -> Iterator[Finding]:
    subject = f"peers.{peer.id}"
    try:
        client = ServerClient(peer.proxy.rstrip("/"), peer.api_key)
        with client.send("GET", "/v1/models", limit_s=PEER_LIMIT_S) as answer:
            date, document = answer.headers.get("Date", ""), answer.json()
        listed = {str(one["id"]) for one in document["data"]}
    except KeyRefused:
        yield Finding(WARNING, subject, "refuses the key that it gets", "correct its apiKey")
        return
    except CommandFailed as error:
        what = f"cannot be used: {_beginning(error)}"
        yield Finding(WARNING, subject, what, "check its proxy, and that it runs")
        return
    except (ValueError, LookupError, TypeError):
        what = f"{without_password(peer.proxy)} lists no models at /v1/models"
        yield Finding(NOTE, subject, what)
        return
    for name in peer.models:
        if name not in listed:
            yield Finding(WARNING, subject, f"it does not list the model {name}", "correct models")
    if (skew_s := _skew_s(date)) is not None and abs(skew_s) > MOST_SKEW_S:
        what = f"its clock is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}"
        yield Finding(WARNING, subject, what, "synchronize the clocks of both machines")


def _skew_s(date: str) -> float | None:
    """Return how far the clock with the HTTP *date* is ahead, None without a date."""
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return None


def _beginning(error: Exception) -> str:
    """Return the statement of an error without its advice, which is for other commands."""
    return str(error).partition(";")[0]


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


# --- output ---------------------------------------------------------------------------------------


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {
        "llmsnap": identify().version,
        "python": platform.python_version(),
    }
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def _write_json(
    out: TextIO,
    file: str,
    hardware: Hardware | None,
    config: Config | None,
    findings: Sequence[Finding],
) -> None:
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "worst": _worst(findings) if findings else None,
        "versions": _versions(),
        "hardware": hardware.document() if hardware is not None else None,
        "configuration": {"file": file, **_counts(config)} if config is not None else None,
        "findings": [asdict(one) for one in findings],
    }
    json.dump(document, out, indent=2, default=asdict)
    out.write("\n")


def _write_text(
    out: TextIO,
    file: str,
    hardware: Hardware | None,
    config: Config | None,
    findings: Sequence[Finding],
) -> None:
    rows = [("versions", ", ".join(f"{name} {one}" for name, one in _versions().items() if one))]
    rows += _rows(hardware) if hardware is not None else []
    if config is not None:
        counts = _counts(config).items()
        texts = [f"{n} {name if n > 1 else name[:-1]}" for name, n in counts if n]
        rows.append((file, ", ".join(texts) or "empty"))
    width = max(len(name) for name, _ in rows)
    out.writelines(strip_controls(f"{name.ljust(width)}  {text}") + "\n" for name, text in rows)
    ordered = sorted(findings, key=lambda one: -LEVELS.index(one.level))
    out.writelines(f"{one}\n" for one in ordered)
    if _worst(findings) == NOTE:
        out.write("nothing is wrong\n")


def _counts(config: Config) -> dict[str, int]:
    return {
        "models": len(config.models),
        "groups": len(config.groups),
        "peers": len(config.peers),
        "profiles": len(config.profiles),
        "keys": len(config.api_keys),
    }


def _rows(hardware: Hardware) -> Iterator[tuple[str, str]]:
    system, cpu, where = hardware.operating_system, hardware.cpu, hardware.environment
    names = (system.name, system.version, f"kernel {system.kernel}", where.kind, where.name)
    yield "system", _joined(" ", names)
    threads = f"{cpu.logical_thread_count} threads" if cpu.logical_thread_count else None
    yield "processor", _joined(", ", (cpu.model or hardware.architecture.raw_name, threads))
    memory = hardware.memory_bytes
    yield "memory", _gib(memory) if memory is not None else "unknown"
    for one in hardware.accelerators:
        size = one.memory.capacity_bytes
        driver = _joined(" ", ("driver", one.driver.name, one.driver.version))
        facts = (one.model or one.vendor, _gib(size) if size else None, driver)
        yield f"accelerator {one.index}", _joined(", ", facts)


def _joined(separator: str, parts: Iterable[str | None]) -> str:
    return separator.join(part for part in parts if part)
