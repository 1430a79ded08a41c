"""Whether a file that is read again is complete: a truncated file is not an order to stop models.

A file that parses may still be empty because its writer has just opened it, or end after three of
five models because its writer died. Three signs of that are errors of a reload; a file that means
what it says can say so.
"""

from __future__ import annotations

from .nodes import Mapping, Node, Sequence, is_null
from .report import Report
from .settings import Config


def check_complete(new: Config, tree: Node | None, previous: Config, report: Report) -> None:
    """Report what makes *new* look like a part of what was written, beside *previous*."""
    if _ends_within_a_line(previous.text, new.text):
        line = new.text.count("\n") + 1
        what = "the file ends in the middle of a line of the configuration in force, as if cut off"
        fix = "write it again; if it is complete, end it with a line break"
        report.error((), what, fix, Node(line, 1))
    if previous.models and not new.models and not isinstance(_value(tree, "models"), Mapping):
        what = f"there are none, and the configuration in force has {len(previous.models)}"
        fix = "write the file again, or models: {} to remove them all"
        report.error(("models",), what, fix, tree)
    if previous.api_keys and not new.api_keys and not isinstance(_value(tree, "apiKeys"), Sequence):
        what = f"there are none, and the configuration in force has {len(previous.api_keys)}"
        fix = "write the file again, or apiKeys: [] to answer everybody"
        report.error(("apiKeys",), what, fix, tree)


def _value(tree: Node | None, key: str) -> Node | None:
    found = tree.entries.get(key) if isinstance(tree, Mapping) else None
    return None if is_null(found) else found


def _ends_within_a_line(old: str, new: str) -> bool:
    """Whether *new* is *old* up to the middle of a line, and lacks more than the rest of a line.

    Whoever shortens a file by hand ends it at the end of a line.
    """
    if not new or new.endswith(("\n", "\r")) or not old.startswith(new):
        return False
    rest = old[len(new) :]
    return "\n" in rest and not rest.startswith(("\n", "\r"))
