"""``llmsnap check FILE``: all that is wrong or odd with a configuration, and what it means."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

from llmsnap.config import schema
from llmsnap.config.advice import advise, group_of
from llmsnap.config.diff import Diff, changed_settings, diff
from llmsnap.config.loader import Loaded, load_with_advice
from llmsnap.config.report import Report, in_file_order
from llmsnap.config.settings import Config
from llmsnap.config.urls import without_password
from llmsnap.errors import ConfigError, Problem

from . import machine

DESCRIPTION = "Check a configuration file: all problems at once, then advice, then a summary."
_KEYS = {
    "can_sleep": "sleepMode",
    "ignore_websockets": "compat.ignoreWebsockets",
    "ignore_streams": "compat.ignoreStreams",
}


def main(argv: Sequence[str]) -> int:
    """Run the command with its own arguments; return the exit code."""
    return run(build_parser().parse_args(argv))


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(prog="llmsnap check", description=DESCRIPTION)
    add = parser.add_argument
    add("file", nargs="?", default="config.yaml", metavar="FILE", help="default: config.yaml")
    add("--against", metavar="OLD", help="tell what a reload from OLD would do")
    add("--strict", action="store_true", help="exit with 1 on advice too")
    add("--json", action="store_true", help="write JSON, for editors")
    return parser


def run(
    args: argparse.Namespace,
    out: TextIO | None = None,
    environ: Mapping[str, str] | None = None,
) -> int:
    """Check ``args.file``; return 0, or 1 with errors (and with advice, if strict)."""
    result = _Result(args.file, os.environ if environ is None else environ)
    if args.against is None or result.read_old(args.against):
        result.read()
    write = _write_json if args.json else _write_text
    write(result, out or sys.stdout)
    return 1 if result.errors or (args.strict and result.advice) else 0


class _Result:
    """What is found; *source* is the file the errors are in."""

    def __init__(self, file: str, environ: Mapping[str, str]) -> None:
        self.source = file
        self.config: Config | None = None
        self.errors: Sequence[Problem] = ()
        self.advice: Sequence[Problem] = ()
        self.plan: Diff | None = None
        self.old: Config | None = None
        self._file = file
        self._environ = environ

    def read_old(self, file: str) -> bool:
        """Load the file to compare with; tell whether that went well."""
        try:
            self.old = load_with_advice(file, environ=self._environ).config
        except ConfigError as error:
            self.source, self.errors = file, error.problems
        return self.old is not None

    def read(self) -> None:
        """Load the file, and draw the advice and the plan from it."""
        try:
            loaded = load_with_advice(self._file, environ=self._environ, previous=self.old)
        except ConfigError as error:
            self.errors, self.advice = error.problems, error.advice
            return
        self.config = loaded.config
        self.advice = self._all_advice(loaded)
        if self.old is not None:
            self.plan = diff(self.old, loaded.config)

    def _all_advice(self, loaded: Loaded) -> Sequence[Problem]:
        report = Report()
        report.advice += loaded.advice
        advise(loaded.config, loaded.tree, report)
        machine.advise(loaded.config, loaded.tree, report, self._environ)
        schema.advise(loaded.tree, report)
        return in_file_order(report.advice)


def _write_text(result: _Result, out: TextIO) -> None:
    source = result.source
    out.writelines(f"{each.place(source)}: {each}\n" for each in result.errors)
    out.writelines(f"{each.place(source)}: advice: {each}\n" for each in result.advice)
    if result.config is not None:
        _write_summary(result.config, out)
    if result.plan is not None:
        _write_plan(result, result.plan, out)
    counted = f"{_count(result.errors, 'error')}, {_count(result.advice, 'piece')} of advice"
    out.write(f"{source}: {counted}\n")


def _count(found: Sequence[Problem], noun: str) -> str:
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
    names = changed_settings(result.old.models[model_id], result.config.models[model_id])
    return (_KEYS.get(name) or _camel_case(name.removesuffix("_s")) for name in names)


def _camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word.title() for word in others)


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
        for model in config.models.values()
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
    }
