"""Loads a Config from files: environment, YAML, macros, ports and checks, in this order.

All problems are reported together; this module raises only ConfigError.
"""

from __future__ import annotations

import gc
import hashlib
import os
import stat
from collections.abc import Mapping as Values
from dataclasses import replace
from functools import partial
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import Any, NamedTuple

from llmsnap.errors import ConfigError, Problem

from .access import check_proxies, key_variables, read_api_keys, read_capture_mask, read_origins
from .groups import preload, read_scheduler
from .keys import stored_values
from .kinds import ValueReader
from .launchers import LauncherConfig, read_launchers
from .macros import Macros, define
from .models import (
    LAST_PORT,
    ModelNames,
    PartialModel,
    assign_ports,
    collect,
    finish,
    partial_model,
)
from .nodes import (
    Mapping,
    Node,
    Report,
    Sequence,
    find_node,
    in_file_order,
    is_null,
)
from .parts import StoreConfig
from .peers import check_qualified_names, read_peers
from .profiles import read_profiles, startup_profile
from .router import Together, read_router
from .schedule import read_on_idle, read_schedule
from .selectors import TargetNames, read_selectors
from .settings import TOP, Config
from .sources import MAX_FILE_BYTES, Contents, Sources, mark, merge, read_contents, unreadable
from .yaml import compose

MAX_VALUE_BYTES = 64 * 1024


Texts = tuple[tuple[str, str], ...]
"""The path and the text of each file."""


class Loaded(NamedTuple):
    """A configuration with the advice and the tree of its file."""

    config: Config
    advice: tuple[Problem, ...]
    tree: Node | None
    """Source positions of values: ``nodes.find_node(tree, path)``."""


Source = str | os.PathLike[str] | Sources


def load(
    source: Source,
    *,
    environ: Values[str, str] | None = None,
    previous: Config | None = None,
) -> Config:
    """Return the configuration in the file at *source*, or in several files.

    With *previous*, models whose process need not be restarted keep their port, and a file that
    looks truncated is an error. Raises: ConfigError with every problem found.
    """
    return load_with_advice(source, environ=environ, previous=previous).config


def loads(
    text: str,
    *,
    source: str = "",
    environ: Values[str, str] | None = None,
    previous: Config | None = None,
) -> Config:
    """Return the configuration in *text*, as load() does."""
    return loads_with_advice(text, source=source, environ=environ, previous=previous).config


def load_with_advice(
    source: Source,
    *,
    environ: Values[str, str] | None = None,
    previous: Config | None = None,
) -> Loaded:
    """Return the configuration as load() does, with advice."""
    sources = Sources.of(source)
    return load_contents(read_contents(sources), sources, environ=environ, previous=previous)


def load_contents(
    contents: Contents,
    sources: Sources,
    *,
    environ: Values[str, str] | None = None,
    previous: Config | None = None,
) -> Loaded:
    """Return the configuration in *contents*, read from *sources*, with advice."""
    texts = []
    for path, content in contents:
        try:
            texts.append((path, _decode(content)))
        except ValueError as error:
            raise unreadable(path, error) from error
    return _build(tuple(texts), sources, hash_of(contents), environ, previous)


def hash_of(contents: Contents) -> str:
    """Return the hash of the only content, or of all with their paths, in hexadecimal."""
    if len(contents) == 1:
        return hashlib.sha256(contents[0][1]).hexdigest()
    whole = hashlib.sha256()
    for path, content in contents:
        whole.update(path.encode("utf-8", "surrogateescape") + b"\0")
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()


def loads_with_advice(
    text: str,
    *,
    source: str = "",
    environ: Values[str, str] | None = None,
    previous: Config | None = None,
) -> Loaded:
    """Return the configuration in *text*, with advice."""
    content = text.encode("utf-8", "surrogatepass")
    hashed = hashlib.sha256(content).hexdigest()
    return _build(((source, text),), Sources(source), hashed, environ, previous)


def _build(
    texts: Texts,
    sources: Sources,
    content_hash: str,
    environ: Values[str, str] | None,
    previous: Config | None,
) -> Loaded:
    # Nothing read here becomes garbage, and collection would take a fifth of the time.
    collects = gc.isenabled()
    gc.disable()
    try:
        return _Build(texts, environ, previous).loaded(sources, content_hash)
    finally:
        if collects:
            gc.enable()


def _decode(content: bytes) -> str:
    if len(content) > MAX_FILE_BYTES:
        raise ValueError("it is larger than 64 MB")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} is not UTF-8 text") from error


def _read_value(source: str, path: str) -> str:
    """Return the text of a file named by ``${file.PATH}`` in *source*. Raises: as ReadFile.

    A pipe or a device, which might not end, is refused.
    """
    fd = os.open(FilePath(source).parent / path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("is not a regular file")
        content = os.read(fd, MAX_VALUE_BYTES + 1)
    finally:
        os.close(fd)
    if len(content) > MAX_VALUE_BYTES:
        raise ValueError("is larger than 64 kB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8 text") from error


class _Build:
    """The loading of one text."""

    def __init__(
        self, texts: Texts, environ: Values[str, str] | None, previous: Config | None
    ) -> None:
        self._report = Report()
        self._texts = texts
        self._previous = previous
        environ = os.environ if environ is None else environ
        trees = [self._composed(path, text, environ) for path, text in texts]
        whole = [tree for tree in trees if isinstance(tree, Mapping)]
        self._tree: Node | None = trees[0] if len(trees) == 1 else merge(whole, self._report)
        self._root = self._tree if isinstance(self._tree, Mapping) else Mapping(1, 1)

    def _composed(self, path: str, text: str, environ: Values[str, str]) -> Node | None:
        """Return the tree of one file; in several files, problems and nodes name theirs."""
        found = Report()
        tree = compose(text, environ, found, partial(_read_value, path))
        file = path if len(self._texts) > 1 else ""
        if file:
            mark(tree, file)
        if not is_null(tree) and not isinstance(tree, Mapping):
            fix = "write KEY: value lines, models: first of all"
            found.error((), "the file must be a mapping of keys", fix, tree)
        self._report.problems += [replace(each, file=file) for each in found.problems]
        self._report.advice += [replace(each, file=file) for each in found.advice]
        return tree

    def loaded(self, sources: Sources, content_hash: str) -> Loaded:
        """Return the result. Raises: ConfigError."""
        config = Config(
            source=str(sources),
            sources=sources,
            texts=self._texts,
            content_hash=content_hash,
            **self._settings(),
        )
        report = self._report
        if self._previous is not None and not report.problems:
            check_complete(config, self._tree, self._previous, report)
        if report.problems:
            problems = in_file_order(report.problems)
            raise ConfigError(problems, str(sources), in_file_order(report.advice))
        return Loaded(config, in_file_order(report.advice), self._tree)

    def _settings(self) -> dict[str, Any]:
        root, report = self._root, self._report
        macros = Macros(define(root.entries.get("macros"), ("macros",), report))
        reader = ValueReader(report, macros)
        values = TOP.read(root, (), reader)
        plain = stored_values(Config, values)
        launchers = read_launchers(values["launchers"], reader)
        names = self._models(values["models"], plain, macros, launchers)
        check_proxies(values["trustedProxies"], find_node(root, ("trustedProxies",)), report)
        _report_deprecated(values, root, report)
        _check_store(plain["store"], root, report)
        peers = read_peers(values["peers"], reader)
        check_qualified_names(peers, names, values["peers"], report)
        router = read_router(values, names, root, reader)
        together = Together(router["groups"], router["matrix"], router["residency"])
        targets = TargetNames.of(names, peers, together)
        selectors = read_selectors(values["selectors"], targets, plain["session_headers"], reader)
        profiles = read_profiles(values["profiles"], names, peers, selectors, reader)
        return {
            **plain,
            **read_origins(values, root, report),
            "models": names.models,
            "aliases": names.aliases,
            **router,
            "peers": peers,
            "launchers": launchers,
            "selectors": selectors,
            "profiles": profiles,
            "startup_profile": startup_profile(values, profiles, root, report),
            "api_keys": read_api_keys(values["apiKeys"], report),
            "key_variables": key_variables(root),
            "preload": preload(values, names, root, report),
            "on_idle": read_on_idle(values, names, root, reader),
            "schedule": read_schedule(values, names, root, reader),
            "scheduler": read_scheduler(values, names, root, reader),
            "capture_mask": read_capture_mask(values["captureMask"], reader),
        }

    def _models(
        self,
        node: Node | None,
        inherits: Values[str, Any],
        macros: Macros,
        launchers: Values[str, LauncherConfig],
    ) -> ModelNames:
        entries: dict[str, Node] = {}
        if isinstance(node, Mapping):
            entries = node.entries
        elif node is not None:
            fix = "write a line ID: for each model"
            ValueReader(self._report).mismatch(node, ("models",), "a mapping", fix)
        partials = [
            partial_model(model_id, entries[model_id], macros, self._report)
            for model_id in sorted(entries)
        ]
        numbers = self._ports(partials, inherits["start_port"])
        models = [
            finish(model, numbers.get(model.id), inherits, launchers, self._report)
            for model in partials
        ]
        names = collect(models, node, self._report)
        in_file_order = {model_id: names.models[model_id] for model_id in entries}
        return names._replace(models=MappingProxyType(in_file_order))

    def _ports(self, partials: list[PartialModel], start_port: int) -> dict[str, int]:
        wanting = [model for model in partials if model.wants_port]
        numbers = assign_ports(
            [model.id for model in wanting], start_port, self._kept_ports(wanting)
        )
        for model in wanting:
            if model.id not in numbers:
                what = f"no port is left for this model: {LAST_PORT} is the last"
                path = ("models", model.id)
                self._report.error(path, what, "choose a lower startPort", model.node)
                numbers[model.id] = LAST_PORT
        return numbers

    def _kept_ports(self, wanting: list[PartialModel]) -> dict[str, int]:
        models = self._previous.models if self._previous else {}
        return {
            model.id: old.port
            for model in wanting
            if (old := models.get(model.id)) is not None
            and old.port is not None
            and old.blueprint == model.blueprint
        }


def _report_deprecated(values: Values[str, Any], root: Node, report: Report) -> None:
    if values["logRequests"]:
        at = find_node(root, ("logRequests",))
        report.advise(("logRequests",), "is deprecated and has no effect", "remove it", at)


def _check_store(store: StoreConfig, root: Node, report: Report) -> None:
    """Report a ``store.path`` that can be no file, and a folder for captures without one."""
    path = store.path
    if path is None and store.capture_dir is not None:
        what = "has no effect without store.path: captures are found by the ids of stored requests"
        at = find_node(root, ("store", "captureDir"))
        report.advise(("store", "captureDir"), what, "set store.path, or remove it", at)
    at = find_node(root, ("store", "path"))
    if path is not None and not path.strip():
        fix = "name a file, or remove the key to keep history in memory"
        report.error(("store", "path"), "is empty", fix, at)
    elif path is not None and FilePath(path).expanduser().is_dir():
        fix = f"name a file in it, such as {path.rstrip('/')}/llmsnap.db"
        report.error(("store", "path"), f"{path} is a directory", fix, at)


# --- files that look truncated --------------------------------------------------------------------


def check_complete(new: Config, tree: Node | None, previous: Config, report: Report) -> None:
    """Report if *new* looks like an incompletely written file, compared with *previous*."""
    before = dict(previous.texts)
    for path, text in new.texts:
        if _ends_within_a_line(before.get(path, ""), text):
            at = Node(text.count("\n") + 1, 1)
            at.file = path if len(new.texts) > 1 else ""
            what = "the file ends in the middle of a line of the configuration in force"
            fix = "write it again; if it is complete, end it with a line break"
            report.error((), f"{what}, as if cut off", fix, at)
    if _has_lost_folder(new, previous):
        what = f"{new.sources.folder} has no files, and the configuration in force has some of it"
        report.error((), what, "restore the directory, or restart without --config-dir")
    if previous.models and not new.models and not isinstance(_value(tree, "models"), Mapping):
        what = f"there are none, and the configuration in force has {len(previous.models)}"
        fix = "write the file again, or models: {} to remove them all"
        report.error(("models",), what, fix, tree)
    if previous.api_keys and not new.api_keys and not isinstance(_value(tree, "apiKeys"), Sequence):
        what = f"there are none, and the configuration in force has {len(previous.api_keys)}"
        fix = "write the file again, or apiKeys: [] to answer every client"
        report.error(("apiKeys",), what, fix, tree)


def _has_lost_folder(new: Config, previous: Config) -> bool:
    own = {new.sources.file}
    has_some, had_some = (any(path not in own for path, _ in c.texts) for c in (new, previous))
    return bool(new.sources.folder) and had_some and not has_some


def _value(tree: Node | None, key: str) -> Node | None:
    found = tree.entries.get(key) if isinstance(tree, Mapping) else None
    return None if is_null(found) else found


def _ends_within_a_line(old: str, new: str) -> bool:
    """Whether *new* is a prefix of *old* that ends within a line and lacks further lines.

    A file that was shortened by hand ends at the end of a line.
    """
    if not new or new.endswith(("\n", "\r")) or not old.startswith(new):
        return False
    rest = old[len(new) :]
    return "\n" in rest and not rest.startswith(("\n", "\r"))
