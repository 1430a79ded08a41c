"""The floors of the package: who may import whom, who owns which library, how long a unit may be.

Everything is read with ``ast``; the package is imported only in a child interpreter, to see that
importing does nothing.
"""

import ast
import functools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "llmsnap"

# A unit is a top-level module or folder. A new one is given its floor here, or the test fails.
FLOORS = {
    **dict.fromkeys(["__init__", "ansi", "errors", "tasks", "statedir", "limits", "options"], 0),
    **dict.fromkeys(["installation", "event_loop", "sockets", "deferred", "suggestions"], 0),
    "remembered": 0,
    **dict.fromkeys(["config", "http"], 1),
    **dict.fromkeys(["logs", "memory"], 2),
    **dict.fromkeys(["launchers", "models"], 3),
    **dict.fromkeys(["routing", "telemetry"], 4),
    "proxy": 5,
    **dict.fromkeys(["configfile", "keepwarm", "metering", "nodes", "runtime"], 6),
    **dict.fromkeys(["service", "reload"], 6),
    "web": 7,
    **dict.fromkeys(["cli", "commands", "server", "wsgi", "__main__", "_monkey"], 8),
}
SIMULATOR = "simulator"  # stands beside the floors: imports nothing of llmsnap, only cli imports it

# Units that may import another one of their own floor (never in a circle, see below).
SAME_FLOOR = {
    "models": {"launchers"},
    "statedir": {"errors"},
    "remembered": {"statedir"},
    "limits": {"errors"},
    "options": {"errors"},
    "service": {"runtime", "configfile", "keepwarm", "metering", "nodes"},
    "reload": {"service", "runtime", "configfile"},
    # None: any of them
    **dict.fromkeys(["cli", "commands", "server", "wsgi", "__main__"], None),
}

GEVENT = ["deferred", "sockets", "tasks", "event_loop", "logs", "launchers", "models", "proxy"]
GEVENT += [f"telemetry.{name}" for name in ("capture_files", "store", "telemetry", "workers")]
GEVENT += ["routing.barrier", "routing.driver", "remembered", "runtime", "configfile", "keepwarm"]
GEVENT += ["metering", "nodes", "service", "reload", "web", "cli", "commands", "server", "wsgi"]
GEVENT += ["_monkey"]

# Where a library is named. Longest prefix wins, so gevent.pywsgi is stricter than gevent.
LIBRARIES = {
    "gevent": [*GEVENT, SIMULATOR],
    "greenlet": [],
    "gevent.monkey": ["_monkey"],
    "gevent.monkey.get_original": GEVENT,
    "gevent.pywsgi": ["server", SIMULATOR],
    "gevent.subprocess": ["launchers.local"],
    "flask": ["web", "wsgi"],
    "flask_sock": ["web"],
    "simple_websocket": ["web"],
    "werkzeug": ["web", "proxy.multipart"],
    "jinja2": ["web"],
    "requests": ["models.control", "launchers.cluster.rest", "commands.client"],
    "urllib3": ["launchers.cluster.rest", "_monkey"],
    "httptools": ["proxy.parser", "server.http1"],
    "msgspec": ["telemetry", "proxy", "server.http1", "web", "http"],
    "inotify_simple": ["reload"],
    "yaml": ["config"],
    "jsonschema": ["config"],
    "psutil": ["telemetry.hardware", "telemetry.sampling"],
    "pynvml": ["memory.gpus", "telemetry.hardware", "telemetry.sampling"],
    "prometheus_client": ["telemetry.prometheus"],
    "gunicorn": [],
    # Standard library, but with one owner all the same.
    "sqlite3": ["telemetry.store"],
    "subprocess": ["launchers.local", "launchers.cluster.runner", SIMULATOR],
    "http.client": [],
    "urllib.request": [],
}

# These decide and compute; whatever waits, asks the clock or touches the system is passed in.
PURE = ["config", "http", "models.states", "proxy.jsonbody", "server.http1", "telemetry.usage"]
PURE += [f"routing.{name}" for name in ("explain", "messages", "names", "policies", "residency")]
PURE += [f"routing.{name}" for name in ("scheduler", "state", "swaps", "timing")]
IMPURE = {"gevent", "select", "selectors", "signal", "socket", "subprocess", "threading", "time"}
CONFIG_IO = {"config.loader", "config.sources"}  # they read the files

DOORS = {"__main__", "wsgi"}
MAX_MODULE_LINES = 900
MAX_FUNCTION_LINES = 60
MIN_MODULE_LINES = 40


@dataclass(frozen=True)
class Import:
    """One imported name: *target* is dotted and absolute, *line* where it stands."""

    target: str
    line: int


class Module:
    """A parsed module of the package, known by its name below ``llmsnap``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        self.is_package = parts[-1] == "__init__" and len(parts) > 1
        self.name = ".".join(parts[:-1] if self.is_package else parts)
        self.unit = self.name.partition(".")[0]
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text, str(path))

    def __repr__(self) -> str:
        return self.name

    @functools.cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @functools.cached_property
    def imports(self) -> list[Import]:
        return list(self._walk_imports())

    @functools.cached_property
    def own_imports(self) -> set[str]:
        """Modules of the package this one imports, by their name below ``llmsnap``."""
        found = (module_named(each.target) for each in self.imports)
        return {name for name in found if name and name != self.name}

    def _walk_imports(self) -> Iterator[Import]:
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(alias.name, node.lineno)
            elif isinstance(node, ast.ImportFrom):
                base = self._absolute(node)
                for alias in node.names:
                    yield Import(f"{base}.{alias.name}", node.lineno)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        here = ["llmsnap", *self.name.split(".")]
        up = node.level - 1 if self.is_package else node.level
        return ".".join([*here[: len(here) - up], *filter(None, [node.module])])


def load_modules() -> list[Module]:
    return [Module(path) for path in sorted(PACKAGE.rglob("*.py"))]


MODULES = load_modules()
BY_NAME = {module.name: module for module in MODULES}


def module_named(target: str) -> str | None:
    """The module a dotted import of ``llmsnap...`` reaches: ``llmsnap.a.b.Name`` -> ``a.b``."""
    head, _, rest = target.partition(".")
    if head != "llmsnap":
        return None
    parts = rest.split(".") if rest else []
    while parts and ".".join(parts) not in BY_NAME:
        parts.pop()
    return ".".join(parts) or "__init__"


def inside(name: str, places: list[str]) -> bool:
    return any(name == place or name.startswith(place + ".") for place in places)


def longest(name: str, table: dict[str, Any]) -> Any:
    """What *table* says of *name*, or of the nearest package around it."""
    parts = name.split(".")
    prefixes = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((table[prefix] for prefix in prefixes if prefix in table), None)


def test_every_unit_has_a_floor() -> None:
    units = {module.unit for module in MODULES}
    assert units <= {*FLOORS, SIMULATOR}, "give the new one its floor in this file"


def test_imports_point_down() -> None:
    assert not [
        f"{module} imports {name}"
        for module in MODULES
        for name in sorted(module.own_imports)
        if not may_import(module.unit, BY_NAME[name].unit)
    ]


def may_import(importer: str, imported: str) -> bool:
    if importer == imported:
        return True
    if importer == SIMULATOR:
        return False
    if imported == SIMULATOR:
        return importer == "cli"
    if imported == "_monkey":
        return importer in DOORS
    if FLOORS[importer] == FLOORS[imported]:
        allowed = SAME_FLOOR.get(importer, set())
        return imported == "__init__" or allowed is None or imported in allowed
    return FLOORS[importer] > FLOORS[imported]


def test_no_module_imports_itself_in_a_circle() -> None:
    """Within a folder too the lower floor comes first; TYPE_CHECKING imports count."""
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name in done:
            return
        for imported in sorted(BY_NAME[name].own_imports):
            if not name.startswith(imported + "."):  # a package is imported with its modules
                visit(imported, (*path, name))
        done.add(name)

    for name in BY_NAME:
        visit(name, ())


def test_a_library_is_named_where_it_belongs() -> None:
    assert not [
        f"{module.path}:{found.line}: {found.target}: {wrong}"
        for module in MODULES
        for found in module.imports
        if (wrong := misplaced(module.name, found.target))
    ]


def misplaced(importer: str, target: str) -> str:
    """What is wrong with *importer* importing *target*; empty when nothing is."""
    library = target.partition(".")[0]
    if library in {"llmsnap", "__future__", "_typeshed"}:
        return ""
    places = longest(target, LIBRARIES)
    if places is None:
        return "" if library in sys.stdlib_module_names else "has no owner in this file yet"
    return "" if inside(importer, places) else f"belongs to {', '.join(places)}"


def test_pure_modules_stay_pure() -> None:
    for module in MODULES:
        if inside(module.name, PURE):
            impure = IMPURE if module.name in CONFIG_IO else IMPURE | {"os", "io", "tempfile"}
            used = {found.target.partition(".")[0] for found in module.imports}
            assert not used & impure, module


# These decide by what the state says, and change it by its methods alone.
DECIDING = [
    f"routing.{name}"
    for name in (
        *("scheduler", "swaps", "policies", "residency", "matrix", "memory", "cover"),
        *("explain", "entries"),
    )
]
CHANGES = {"add", "append", "cancel", "clear", "discard", "extend", "fail", "insert", "pop"}
CHANGES |= {"pop_due", "popitem", "popleft", "push", "remove", "set", "setdefault", "update"}


@pytest.mark.parametrize("name", DECIDING)
def test_only_the_state_of_the_scheduler_changes_it(name: str) -> None:
    assert foreign_changes(BY_NAME[name].tree) == []


def foreign_changes(tree: ast.AST) -> list[str]:
    """Where the attribute of another object than ``self`` is set, or what it holds is changed.

    Effects are not state: they are what a decision is.
    """
    changed: list[ast.expr] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            changed.append(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            held = node.func.value
            is_effects = isinstance(held, ast.Attribute) and held.attr == "effects"
            if node.func.attr in CHANGES and not is_effects:
                changed.append(held)
    return [f"{each.lineno}: {ast.unparse(each)}" for each in changed if not is_own(each)]


def is_own(node: ast.expr) -> bool:
    """Whether what *node* names belongs to ``self``, or to the function it stands in."""
    while isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        return isinstance(node.value, ast.Name) and node.value.id == "self"
    return isinstance(node, ast.Name)


FOREIGN = """\
model.swap = swap
self._state.now = now
del state.models[1]
pending, model.pending_stop = None, None
self._state.timers.set(key, at)
target.durations(kind).append(1.0)
"""
OWN = "self.done = True\nself._unloads[1] = names\ntable[1] = names\nstate.effects.append(effect)"


def test_what_counts_as_a_change_of_the_state() -> None:
    assert foreign_changes(ast.parse(OWN)) == []
    assert {line[0] for line in foreign_changes(ast.parse(FOREIGN))} == {*"123456"}


def test_only_monkey_patches() -> None:
    for module in MODULES:
        if module.name != "_monkey":
            names = {each.attr for each in module.nodes if isinstance(each, ast.Attribute)}
            names |= {each.id for each in module.nodes if isinstance(each, ast.Name)}
            assert not [name for name in names if name.startswith("patch_")], module


# What a door may do before it patches: find out whether it has to. All standard library.
BEFORE_PATCHING = ["import sys", "from llmsnap.commands.catalog import is_light"]


@pytest.mark.parametrize("door", sorted(DOORS))
def test_a_door_patches_before_anything_else(door: str) -> None:
    statements = [
        ast.unparse(node)
        for node in BY_NAME[door].tree.body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        and not (isinstance(node, ast.ImportFrom) and node.module == "__future__")
    ]
    first = next(line for line in statements if line not in BEFORE_PATCHING)
    assert first.removeprefix("if not is_light(sys.argv[1:]):\n    ") == "import llmsnap._monkey"


def test_what_comes_before_patching_could_not_be_patched() -> None:
    assert BY_NAME["commands.catalog"].own_imports == set()
    targets = {found.target.partition(".")[0] for found in BY_NAME["commands.catalog"].imports}
    allowed = {"__future__", "argparse", "collections", "dataclasses", "enum", "importlib"}
    assert targets <= allowed | {"typing"}


def test_a_package_is_imported_by_its_face() -> None:
    """What a package's ``__init__`` lists in ``__all__`` is all that others may import of it."""
    faces = {module.name for module in MODULES if module.is_package and "__all__" in module.text}
    assert not [
        f"{module.path}:{found.line}: {found.target}: import it from the face of its package"
        for module in MODULES
        for found in module.imports
        if (name := module_named(found.target))
        and (name.partition(".")[0] in faces)
        and name != name.partition(".")[0]
        and module.unit != name.partition(".")[0]
    ]


def test_a_class_name_has_one_meaning() -> None:
    homes: dict[str, list[str]] = {}
    for module in MODULES:
        for node in module.nodes:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(module.name)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


def test_no_module_is_too_long_or_a_splinter() -> None:
    """A module under 40 lines belongs to a neighbour; faces and entry points may be short."""
    lengths = {module.name: len(module.text.splitlines()) for module in MODULES}
    assert {name: n for name, n in lengths.items() if n > MAX_MODULE_LINES} == {}
    short = {m.name for m in MODULES if not m.is_package and lengths[m.name] < MIN_MODULE_LINES}
    assert short <= {"__init__", "__main__", "_monkey", "wsgi", "simulator.__main__"}


def test_no_function_is_too_long() -> None:
    assert not [
        f"{module.path}:{node.lineno} {node.name}: {code_lines(node)}"
        for module in MODULES
        for node in module.nodes
        if isinstance(node, ast.FunctionDef) and code_lines(node) > MAX_FUNCTION_LINES
    ]


def code_lines(node: ast.FunctionDef) -> int:
    """Lines from ``def`` to the end, without the docstring."""
    assert node.end_lineno is not None
    lines = node.end_lineno - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is None:
        return lines
    assert first.end_lineno is not None
    return lines - (first.end_lineno - first.lineno + 1)


# Imports every module and reports what happened meanwhile outside of the import system: an audited
# call counts when one of our modules is nearer on the stack than the machinery that imports.
PROBE = """
import gc, importlib, json, sys
package, names = sys.argv[1], sys.argv[2:]
watched = {"open", "socket.bind", "socket.connect", "subprocess.Popen", "os.fork", "os.mkdir"}
watched.add("_thread.start_new_thread")
seen = []

def audit(event, args):
    frame = sys._getframe(1) if event in watched else None
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith("<frozen importlib") or file.endswith("_monkey.py"):
            return  # patching asks installed packages whether they want to hear of it
        if file.startswith(package):
            seen.append(f"{file}:{frame.f_lineno}: {event} {args[:1]}")
            return
        frame = frame.f_back

sys.addaudithook(audit)
for name in names:
    importlib.import_module(name)
if "gevent" in sys.modules:
    import gevent
    seen += [repr(o) for o in gc.get_objects() if isinstance(o, gevent.Greenlet)]
print(json.dumps(seen))
"""


@pytest.mark.e2e  # its own interpreter imports everything, which takes seconds
def test_importing_starts_nothing_and_opens_nothing() -> None:
    names = [f"llmsnap.{name}" for name in BY_NAME if name not in {"__init__", "_monkey"}]
    doors_last = sorted(names, key=lambda name: (name.rpartition(".")[2] in DOORS, name))
    command = [sys.executable, "-c", PROBE, f"{PACKAGE}/", *doors_last]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == []


def test_no_view_reaches_deep_into_the_service() -> None:
    """``service.models_now()``, not ``service.driver.scheduler.snapshot(...)``."""
    assert not [
        f"{module.path}:{node.lineno}: {ast.unparse(node)}"
        for module in MODULES
        if module.unit == "web"
        for node in module.nodes
        if isinstance(node, ast.Attribute) and dots_behind_service(node) > 2
    ]


def dots_behind_service(node: ast.expr) -> int:
    """How many attributes *node* takes of the service, one of the other; 0 where it takes none."""
    dots = 0
    while isinstance(node, ast.Attribute) and node.attr != "_service":
        node, dots = node.value, dots + 1
    root = ast.unparse(node).removesuffix("()").rpartition(".")[2]
    return dots if root in {"service", "_service", "current_service"} else 0
