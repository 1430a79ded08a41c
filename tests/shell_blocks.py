"""The shell commands of the documentation: fenced blocks marked ``sh`` or ``console``.

Every block is run (``tests/e2e/test_docs_commands.py``), or an HTML comment on the line before it
says why not: ``<!-- not run: needs Docker -->``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- not run: (?P<why>.+) -->\n)?```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fenced block: where it stands, its language, its text, and why it is not run."""

    place: str
    kind: str
    text: str
    why_not: str

    @property
    def script(self) -> str:
        """What a reader types: the block, or the lines of a transcript after ``$ ``."""
        if self.kind == "sh":
            return self.text
        return "".join(f"{line}\n" for line in re.findall(r"^\$ (.*)$", self.text, re.MULTILINE))


def blocks() -> Iterator[Block]:
    """Yield every fenced block of the pages that users read."""
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in FENCE.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            place = f"{page.relative_to(ROOT)}:{line}"
            yield Block(place, found["kind"], found["text"], found["why"] or "")


def commands() -> list[Block]:
    """Return the blocks that are shell commands."""
    return [block for block in blocks() if block.kind in ("sh", "console")]
