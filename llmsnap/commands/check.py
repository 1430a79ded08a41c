"""``llmsnap check FILE``: reports errors in a configuration, advice, and a summary."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, TextIO

from llmsnap.config import (
    Config,
    Diff,
    Loaded,
    ModelConfig,
    Node,
    Report,
    Sources,
    advise,
    advise_by_schema,
    changed_settings,
    compare,
    find_node,
    group_of,
    in_file_order,
    load_with_advice,
    local_port,
    split_command,
    without_password,
)
from llmsnap.errors import ConfigError, Problem, StoreUnavailable

DESCRIPTION = "Check a configuration file: all problems at once, then advice, then a summary."


def main(argv: Sequence[str]) -> int:
    """Run the command with its own arguments; return the exit code."""
    return run(build_parser().parse_args(argv))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="llmsnap check", description=DESCRIPTION, allow_abbrev=False
    )
    add = parser.add_argument
    add("file", nargs="?", metavar="FILE", help="default: config.yaml, unless there is a directory")
    add("--config-dir", metavar="DIR", default="", help="read its *.yml and *.yaml files, too")
    add("--against", metavar="OLD", help="show what a reload from OLD would do")
    add("--launcher", metavar="NAME", help="try the cluster of this launcher, too")
    add("--strict", action="store_true", help="exit with 1 on advice too")
    add("--json", action="store_true", help="write JSON, for editors")
    return parser


def run(
    args: argparse.Namespace,
    out: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Check the file or files; return 0, or 1 with errors (and with advice, if strict)."""
    file = args.file or ("" if args.config_dir else "config.yaml")
    sources = Sources(file, args.config_dir)
    result = _Result(sources, os.environ if environ is None else environ)
    if args.against is None or result.read_old(args.against):
        result.read()
    write = _write_json if args.json else _write_text
    write(result, out or sys.stdout)
    failed = bool(result.errors or (args.strict and result.advice))
    if args.launcher and result.config is not None:
        from llmsnap.commands.cluster import check_launcher  # noqa: PLC0415 - starts a job

        failed = not check_launcher(result.config, args.launcher, out or sys.stdout) or failed
    return 1 if failed else 0


def validate(sources: Sources, out: TextIO | None = None) -> int:
    """Check *sources* as far as they do not depend on this machine; return 0, or 1 with errors.

    This is ``llmsnap -validate``, as llama-swap has it: one line for a configuration that loads.
    """
    result = _Result(sources, os.environ, asks_machine=False)
    result.read()
    out = out or sys.stdout
    _write_findings(result, out)
    if result.config is not None:
        models, peers = result.config.models, result.config.peers
        counted = f"{_count(models, 'model')} and {_count(peers, 'peer')}"
        out.write(f"{result.source}: valid, with {counted}\n")
    return 1 if result.errors else 0


class _Result:
    """The findings; *source* is the file that contains the errors."""

    def __init__(
        self, sources: Sources, environ: Mapping[str, str], *, asks_machine: bool = True
    ) -> None:
        self.source = str(sources)
        self.config: Config | None = None
        self.errors: Sequence[Problem] = ()
        self.advice: Sequence[Problem] = ()
        self.plan: Diff | None = None
        self.fits: dict[str, Any] | None = None
        self.sets: list[dict[str, Any]] | None = None
        self.said_of_fits: Sequence[str] = ()
        self._crowded: Sequence[str] = ()
        self._unknown: Mapping[str, str] = {}
        self.old: Config | None = None
        self._sources = sources
        self._environ = environ
        self._asks_machine = asks_machine

    def read_old(self, file: str) -> bool:
        """Load the file to compare with; return whether that succeeded."""
        try:
            self.old = load_with_advice(file, environ=self._environ).config
        except ConfigError as error:
            self.source, self.errors = file, error.problems
        return self.old is not None

    def read(self) -> None:
        """Load the file, and derive its advice and reload plan."""
        try:
            loaded = load_with_advice(self._sources, environ=self._environ, previous=self.old)
        except ConfigError as error:
            self.errors, self.advice = error.problems, error.advice
            return
        self.config = loaded.config
        if self._asks_machine and loaded.config.residency == "memory":
            self._look_at_memory(loaded.config)
        elif loaded.config.residency == "matrix" and loaded.config.matrix is not None:
            from llmsnap.routing import Matrix, said_of_sets, sets_document  # noqa: PLC0415

            self.sets = sets_document(Matrix(loaded.config.matrix))
            self.said_of_fits = list(said_of_sets(self.sets))
        self.advice = self._all_advice(loaded)
        if self.old is not None:
            self.plan = compare(self.old, loaded.config)

    def _look_at_memory(self, config: Config) -> None:
        """Find out what fits together, by the devices and model files of this machine."""
        # Few files have a budget, and these imports take long.
        from llmsnap.metering import figures_of  # noqa: PLC0415
        from llmsnap.routing import budget_of, fits_document, said_of_fits  # noqa: PLC0415
        from llmsnap.statedir import look  # noqa: PLC0415

        state = look([self._sources.file, self._sources.folder], self._environ)
        memory = budget_of(config, figures_of(config, state))
        self._crowded = [
            each.id
            for each in config.selectors.values()
            if each.strategy == "spillover"
            and not memory.fits_together([config.aliases.get(one, one) for one in each.targets])
        ]
        self._unknown = memory.unknown if len(memory.needs) > 1 else {}
        self.fits = fits_document(memory)
        self.said_of_fits = list(said_of_fits(self.fits))

    def _all_advice(self, loaded: Loaded) -> Sequence[Problem]:
        report = Report()
        report.advice += loaded.advice
        advise(loaded.config, loaded.tree, report)
        if self._asks_machine:
            advise_of_machine(loaded.config, loaded.tree, report, self._environ)
        advise_by_schema(loaded.tree, report)
        for name in self._crowded:
            path = ("selectors", name, "targets")
            what = "its targets do not all fit in memory together"
            report.advise(path, what, "list fewer, or smaller ones", find_node(loaded.tree, path))
        for name, device in self._unknown.items():
            model = ("models", name)
            what = f"nothing is known of what it needs: it gets {device} alone until it is measured"
            report.advise(model, what, "give it a memory", find_node(loaded.tree, model))
        return in_file_order(report.advice)


def _write_text(result: _Result, out: TextIO) -> None:
    _write_findings(result, out)
    if result.config is not None:
        _write_summary(result.config, out)
    out.writelines(f"{line}\n" for line in result.said_of_fits)
    if result.plan is not None:
        _write_plan(result, result.plan, out)
    counted = f"{_count(result.errors, 'error')}, {_count(result.advice, 'piece')} of advice"
    out.write(f"{result.source}: {counted}\n")


def _write_findings(result: _Result, out: TextIO) -> None:
    source = result.source
    out.writelines(f"{each.place(source)}: {each}\n" for each in result.errors)
    out.writelines(f"{each.place(source)}: advice: {each}\n" for each in result.advice)


def _count(found: Sized, noun: str) -> str:
    return f"{len(found) or 'no'} {noun}{'' if len(found) == 1 else 's'}"


def _write_summary(config: Config, out: TextIO) -> None:
    rows = [("MODEL", "PORT", "GROUP", "ALIASES")]
    rows += [
        (
            model["id"],
            str(model["port"] or model["proxy"]),
            model["group"],
            " ".join(model["aliases"]),
        )
        for model in _models(config)
    ]
    _write_table(rows, out)


def _write_table(rows: Sequence[Sequence[str]], out: TextIO) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        out.write("  ".join(cells).rstrip() + "\n")


def _write_plan(result: _Result, plan: Diff, out: TextIO) -> None:
    out.write("a reload would do this:\n")
    texts = _plan(result, plan)
    rows = [(f"  {name}", ", ".join(texts[name])) for name in texts if texts[name]]
    _write_table(rows or [("  nothing", "")], out)


def _plan(result: _Result, plan: Diff) -> dict[str, list[str]]:
    """Return the plan by kind of change, with the keys that changed for hot models."""
    hot = [f"{model_id} ({', '.join(_changed(result, model_id))})" for model_id in plan.hot]
    return {
        "unchanged": list(plan.unchanged),
        "hot": hot,
        "restart": list(plan.restart),
        "added": list(plan.added),
        "removed": list(plan.removed),
        "at once": list(plan.parts),
    }


def _changed(result: _Result, model_id: str) -> Iterable[str]:
    assert result.old is not None  # noqa: S101 - there is no plan without
    assert result.config is not None  # noqa: S101
    return changed_settings(result.old.models[model_id], result.config.models[model_id])


def _models(config: Config) -> list[dict[str, Any]]:
    groups = group_of(config)
    return [
        {
            "id": model.id,
            "port": model.port,
            "proxy": without_password(model.proxy),
            "group": groups[model.id],
            "aliases": list(model.aliases),
        }
        for _, model in sorted(config.models.items())
    ]


def _write_json(result: _Result, out: TextIO) -> None:
    found: dict[str, Any] = {
        "file": result.source,
        "ok": not result.errors,
        "errors": [_as_json(problem) for problem in result.errors],
        "advice": [_as_json(problem) for problem in result.advice],
    }
    if result.config is not None:
        found["models"] = _models(result.config)
        found["groups"] = [
            {
                "id": group.id,
                "swap": group.swap,
                "exclusive": group.exclusive,
                "persistent": group.persistent,
                "members": list(group.members),
            }
            for group in result.config.groups.values()
        ]
    if result.fits is not None:
        found["memory"] = result.fits
    if result.sets is not None:
        found["sets"] = result.sets
    if result.plan is not None:
        found["plan"] = _plan(result, result.plan)
    json.dump(found, out, indent=2)
    out.write("\n")


def _as_json(problem: Problem) -> dict[str, Any]:
    return {
        "where": problem.where,
        "what": problem.what,
        "fix": problem.fix,
        "line": problem.line,
        "column": problem.column,
        **({"file": problem.file} if problem.file else {}),
    }


_SHELL_SIGNS = frozenset({"|", "||", "&&", ";", "&", ">", ">>", "<", "2>&1"})
_SECRET = re.compile(r"key|token|secret|passw|auth", re.IGNORECASE)
_FILE = re.compile(r"(?:\.{0,2}/)[^:=]*\.[A-Za-z0-9]{1,12}")
# These programs run their arguments elsewhere, where other files exist.
_ELSEWHERE = ("docker", "podman", "nerdctl", "ssh", "kubectl", "wsl")


def advise_of_machine(
    config: Config, tree: Node | None, report: Report, environ: Mapping[str, str]
) -> None:
    """Report what *config* needs and this machine lacks, or has already in use."""
    for what, fix in _about_store(config.store.path):
        report.advise(("store", "path"), what, fix, find_node(tree, ("store", "path")))
    in_use = _ports_in_use(
        {port for model in config.models.values() if (port := local_port(model))}
    )
    for model in config.models.values():
        if model.is_elsewhere or not model.cmd:
            continue
        path = ("models", model.id, "cmd")
        at = find_node(tree, path)
        for what, fix in _about_command(model, environ):
            report.advise(path, what, fix, at)
        port = local_port(model)
        if port in in_use:
            what = f"port {port} is in use at the moment"
            report.advise(path, what, "stop what listens there, or choose another port", at)


def _about_store(path: str | None) -> Iterator[tuple[str, str]]:
    if path is None:
        return
    from llmsnap.telemetry import store_file  # noqa: PLC0415 - few files have a store

    file = Path(path).expanduser()
    place = file if file.exists() else file.parent
    if not os.access(place, os.W_OK):
        what = "cannot be written" if place.exists() else "does not exist"
        yield f"{place} {what}, so history would stay in memory", "name a file in another directory"
        return
    try:
        own = store_file(path)
    except StoreUnavailable as error:
        yield str(error), "name another file"
        return
    if own != str(file):
        yield f"{path} belongs to llama-swap: history is kept in {own}", f"write path: {own}"


def _about_command(model: ModelConfig, environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    program, *words = split_command(model.cmd)
    found = shutil.which(program, path=environ.get("PATH", os.defpath))
    if found is None:
        where = "is no executable file" if "/" in program else "is not on PATH"
        yield f"{program} {where}", "install it, or write its whole path"
    if _SHELL_SIGNS.intersection(words):
        yield "no shell runs the command, so | > && and the like are plain words", "use sh -c '...'"
    if Path(program).name in _ELSEWHERE:
        return
    for word in _shown_words(words):
        if word.startswith("~/"):
            yield f"{word} stays as it is: no shell replaces ~", "write the whole path"
        elif _FILE.fullmatch(word) and not os.access(word, os.F_OK):
            yield f"{word} does not exist", "correct the path, or create the file"


def _shown_words(words: list[str]) -> Iterator[str]:
    """Yield the words without secrets: not those after ``--api-key`` and similar options."""
    option = ""
    for word in words:
        name, equals, value = word.partition("=")
        if word.startswith("-"):
            option = name
        if not _SECRET.search(option):
            yield value if equals and word.startswith("-") else word


def _ports_in_use(ports: set[int]) -> set[int]:
    return {port for port in ports if not _is_free(port)}


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return True  # ports below 1024: may need rights that only the server has
        except OSError:
            return False
    return True
