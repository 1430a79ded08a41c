"""The tables of docs/configuration.md, drawn from the schema.

python -m tests.config.reference        writes them into the document
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmsnap.config.keys import all_paths
from llmsnap.config.schema import described_keys, resolved

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"
BEGIN = "<!-- Tables drawn from conf/config-schema.json: `python -m tests.config.reference` -->\n"
END = "<!-- End of the tables. -->\n"

TITLES = {
    "": "Top level",
    "models.*": "A model: `models.<id>`",
    "groups.*": "A group: `groups.<id>`",
    "peers.*": "A peer: `peers.<id>`",
    "apiKeys[]": "A key with limits: `apiKeys[]`",
}
# Said once: the other place has the same keys.
SAME = ("wakeEndpoints[]", "onStartup.", "routing.router.settings.groups.")
TYPES = {
    "string": "text",
    "number": "number",
    "integer": "whole number",
    "boolean": "true, false",
    "array": "list",
    "object": "mapping",
}


def tables() -> str:
    """Return every table, by the section its keys stand in."""
    restarts = {path for path, key in all_paths() if key.restarts}
    rows: dict[str, list[str]] = {title: [] for title in TITLES}
    for path, below in described_keys():
        if not any(part in path for part in SAME):
            section = _section(path)
            rows[section].append(
                _row(path, path.removeprefix(section).lstrip("."), below, restarts)
            )
    return "\n".join("\n".join(_table(section, rows[section])) for section in TITLES)


def _section(path: str) -> str:
    return next((name for name in TITLES if name and path.startswith(f"{name}.")), "")


def _table(section: str, rows: list[str]) -> Iterator[str]:
    yield f"### {TITLES[section]}\n"
    yield "| Key | Value | Default | Meaning |"
    yield "|---|---|---|---|"
    yield from rows
    yield ""


def _row(path: str, name: str, below: Any, restarts: set[str]) -> str:
    meaning = below["description"]
    if path in restarts:
        meaning += " Changing it replaces the process."
    cells = (f"`{name}`", _type(below), _default(below), meaning)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(below: Any) -> str:
    if "enum" in below:
        return ", ".join(f"`{word}`" if word else "empty" for word in below["enum"])
    if "anyOf" in below:
        kinds = (resolved(alternative) for alternative in below["anyOf"])
        named = [_type(kind) for kind in kinds if "title" not in kind]
        return named[0] if named else "text"
    types = below.get("type", "")
    return "text" if isinstance(types, list) else TYPES.get(types, types)


def _default(below: Any) -> str:
    default = below.get("default")
    return "" if default in (None, "", [], {}) else f"`{json.dumps(default).strip(chr(34))}`"


def document() -> str:
    """Return the document with its tables as they should be."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
