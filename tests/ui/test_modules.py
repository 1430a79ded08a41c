"""The interface's own modules: imports lead somewhere, pages are listed, shared/ stays shared."""

import json
import re
from pathlib import Path

from llmsnap.installation import static_folder

JS = static_folder() / "js"
IMPORT = re.compile(r'^\s*(?:import|export)\b[^"\n]*\bfrom\s*"([^"]+)"', re.MULTILINE)


def imports(path: Path) -> list[Path]:
    text = path.read_text(encoding="utf-8")
    return [(path.parent / target).resolve() for target in IMPORT.findall(text)]


def test_imports_lead_somewhere_and_what_features_share_depends_on_none_of_them() -> None:
    allowed = {JS / "shared", static_folder() / "vendor"}
    for path in static_folder().rglob("*.js"):
        for target in imports(path):
            assert target.is_file(), f"{path.name} imports {target}"
            assert path.parent != JS / "shared" or target.parent in allowed, f"{path}: {target}"


def test_every_page_is_listed_and_has_its_module() -> None:
    pages = json.loads((JS / "pages.json").read_text(encoding="utf-8"))
    listed = sorted(page["id"] for page in pages)
    assert listed == sorted(path.parent.name for path in JS.glob("*/page.js"))
    icons = (JS / "shared" / "icons.js").read_text(encoding="utf-8")
    for page in pages:
        assert f"\n  {page['icon']}: " in icons, page


def test_own_modules_stay_small_and_say_what_they_are_for() -> None:
    for path in JS.rglob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) <= 350, path.name
        assert text.startswith("// "), path.name
