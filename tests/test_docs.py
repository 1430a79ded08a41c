"""The documents say what the program does."""

import functools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmsnap.config import load_with_advice
from llmsnap.errors import ConfigError
from llmsnap.models import states
from scripts import parity
from tests.shell_blocks import blocks, commands

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
# A block marked as YAML and nothing else is a configuration of ours.
CONFIGURATION = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WHOLE_FILES = ["README", "docs/deployment", "docs/migrating", "docs/quickstart", "docs/recipes"]
WHOLE_FILES += ["docs/security", "docs/troubleshooting"]
KEY_FILE = re.compile(r"\$\{file\.(?:\$\{[^}]*\}|[^}])*\}")
# Read by lines, as parsing the modules takes ten times as long.
NAMED = re.compile(r"^(    )?(?:(?:class|def) (\w+)|(\w+)(?:: .*)? = )", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def test_the_state_table_is_the_programs_own() -> None:
    text = (ROOT / "docs/swaps.md").read_text()
    shown = text.partition("<!-- states -->\n")[2].partition("\n<!-- /states -->")[0]
    assert shown == states.table()


@functools.cache
def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    plain = (re.sub(r"[^\w -]", "", title).strip().lower() for title in titles)
    return {title.replace(" ", "-") for title in plain}


def test_links_lead_somewhere() -> None:
    missing = []
    for page in PAGES:
        for target in LINK.findall(page.read_text()):
            if target.startswith(("http://", "https://", "mailto:")):
                continue
            name, _, anchor = target.partition("#")
            path = page.parent / name if name else page
            if not path.exists() or (anchor and anchor not in anchors(path)):
                missing.append(f"{page}: {target}")
    assert missing == []


def configurations() -> Iterator[tuple[str, str]]:
    """The place and the text of each."""
    for name in WHOLE_FILES:
        text = (ROOT / f"{name}.md").read_text()
        for found in CONFIGURATION.finditer(text):
            line = text.count("\n", 0, found.start()) + 1
            yield f"{name}:{line}", found[1]


def test_every_configuration_shown_loads_without_a_word(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    said = {}
    for place, shown in configurations():
        text = KEY_FILE.sub("a-key-that-is-in-a-file", shown)
        file.write_text(textwrap.dedent(text))
        environ = {name: name for name in re.findall(r"\$\{env\.(\w+)\}", text)}
        try:
            said[place] = load_with_advice(file, environ=environ).advice
        except ConfigError as error:
            said[place] = error.problems
    assert {place: found for place, found in said.items() if found} == {}
    assert len(said) > 15


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs/index.md").read_text()
    linked = {target.partition("#")[0] for target in LINK.findall(index)}
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").glob("*.md")}
    assert pages - linked == {"index.md"}


def test_every_fenced_block_says_what_it_is() -> None:
    """Shell commands are marked ``sh`` or ``console``, so that the end-to-end test finds them."""
    assert [block.place for block in blocks() if not block.kind or block.kind == "bash"] == []


def test_a_command_that_is_not_run_has_a_test_elsewhere_or_a_need() -> None:
    found = commands()
    named = re.compile(r"(?:tests|scripts)/[\w/.]+")
    files = [name for block in found for name in named.findall(block.why_not)]
    assert [name for name in files if not (ROOT / name).exists()] == []
    assert sum(not block.why_not for block in found) > 15


def test_no_command_hides_in_an_indented_block() -> None:
    hidden = {}
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        hidden[page] = re.findall(r"\n\n    (?:curl|llmsnap|make|pip|docker|export) .*", text)
    assert {page: found for page, found in hidden.items() if found} == {}


@functools.cache
def names_of(file: Path) -> set[str]:
    """Every class, function and constant of a module, methods as ``Class.method``."""
    found, owner = set(), ""
    for indent, defined, constant in NAMED.findall(file.read_text()):
        if not indent:
            owner = defined or constant
            found.add(owner)
        elif defined:
            found.add(f"{owner}.{defined}")
    return found


def test_the_architecture_page_names_calls_that_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    calls = re.findall(r"`([A-Za-z_][\w.]*)`\s+\(`([\w/]+\.py)`", text)
    assert len(calls) > 60
    missing = [
        f"{name} ({file})" for name, file in calls if name not in names_of(ROOT / "llmsnap" / file)
    ]
    assert missing == []


def test_a_page_names_files_that_exist() -> None:
    places = (ROOT / "llmsnap", ROOT, ROOT / "static/js")
    for page in ("docs/architecture.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text()
        files = re.findall(r"`((?:[\w-]+/)+[\w-]+\.(?:py|js|json|txt))`", text)
        missing = [name for name in files if not any((place / name).exists() for place in places)]
        assert missing == []


def test_the_changelog_names_each_change_once() -> None:
    """A merge that keeps both sides of a conflict doubles entries."""
    entries = re.findall(r"^- .*$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert [entry for entry in entries if entries.count(entry) > 1] == []


def test_the_decision_records_have_numbers_of_their_own() -> None:
    numbers = [page.name.partition("-")[0] for page in (ROOT / "docs/adr").glob("*.md")]
    assert sorted(set(numbers)) == sorted(numbers)


def test_the_compatibility_table_is_drawn_from_the_marks_of_the_tests() -> None:
    """Run `make docs` after a change."""
    assert parity.DOCUMENT.read_text() == parity.document()


@pytest.mark.parametrize(
    "source",
    [
        '@parity("No such part", "feature")\ndef test_one(): pass\n',
        '@parity("Peers", FEATURE)\ndef test_one(): pass\n',
        'CASES = [pytest.param(1, marks=parity("Peers", "feature"))]\n',
    ],
)
def test_a_mark_that_makes_no_row_is_an_error(source: str, tmp_path: Path) -> None:
    (tmp_path / "test_made_up.py").write_text(source)
    with pytest.raises(ValueError, match=r"test_made_up\.py:1: "):
        parity.table(tmp_path)
