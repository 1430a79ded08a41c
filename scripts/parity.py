"""Generates the compatibility table of docs/migrating.md from the marks of the tests.

python -m scripts.parity        writes the table between its two comments
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.parity import SECTIONS

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "migrating.md"
BEGIN = "<!-- Table drawn from the marks of the tests: `make docs` -->\n"
END = "<!-- End of the table. -->\n"

# section, feature, what llmsnap does
Row = tuple[str, str, str]


def main() -> None:
    """Write the table anew."""
    DOCUMENT.write_text(document(), encoding="utf-8")


def document() -> str:
    """Return docs/migrating.md with the table of the marks as they are now."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + table(ROOT / "tests") + "\n" + END + rest.partition(END)[2]


def table(folder: Path) -> str:
    """Return the table of all marks in the test files below *folder*, in the order of sections."""
    lines = ["| part | in llama-swap | here | proved by |", "|---|---|---|---|"]
    proofs: dict[Row, list[str]] = {}
    for file in sorted(folder.rglob("test_*.py")):
        for row, test in marks(file):
            proofs.setdefault(row, []).append(f"`{file.relative_to(folder.parent)}::{test}`")
    for row in sorted(proofs, key=lambda row: (SECTIONS.index(row[0]), row[1:])):
        cells = [text.replace("|", r"\|") for text in (*row, ", ".join(proofs[row]))]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def marks(file: Path) -> Iterator[tuple[Row, str]]:
    """Return the rows that the tests of *file* prove, each with the name of its test.

    A mark with an unknown section, with texts that are no literals, or on anything but a test
    function is a ``ValueError`` with its line.
    """
    text = file.read_text(encoding="utf-8")
    if "parity(" not in text:  # as in most, and parsing takes its time
        return
    tree = ast.parse(text)
    seen = []
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            for call in calls(*function.decorator_list):
                seen.append(call)
                yield row_of(call, file), function.name
    for call in calls(tree):
        if call not in seen:
            raise ValueError(f"{file}:{call.lineno}: the mark belongs in the decorators of a test")


def calls(*nodes: ast.AST) -> list[ast.Call]:
    """Return the calls of ``parity`` at or below *nodes*."""
    return [
        node
        for top in nodes
        for node in ast.walk(top)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "parity"
    ]


def row_of(call: ast.Call, file: Path) -> Row:
    """Return the row that one mark describes."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    texts = [node.value for node in given if isinstance(node, ast.Constant)]
    match texts:
        case [str(section), str(feature)] if section in SECTIONS:
            return section, feature, "the same"
        case [str(section), str(feature), str(here)] if section in SECTIONS:
            return section, feature, here
    raise ValueError(
        f"{file}:{call.lineno}: parity(section, feature[, here]) with literal texts, "
        "section one of SECTIONS in tests/parity.py"
    )


if __name__ == "__main__":
    main()
