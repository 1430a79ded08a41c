"""What issues are asked is a form that can be read."""

from pathlib import Path

import yaml

FOLDER = Path(__file__).parent.parent.parent / ".github/ISSUE_TEMPLATE"
FORMS = sorted(path for path in FOLDER.glob("*.yml") if path.name != "config.yml")


def test_a_form_has_what_the_site_asks_for() -> None:
    for path in FORMS:
        form = yaml.safe_load(path.read_text())
        assert {"name", "description", "body"} <= form.keys()
        fields = [part for part in form["body"] if part["type"] != "markdown"]
        assert fields
        assert len({part["id"] for part in fields}) == len(fields)
        assert all(part["attributes"]["label"] for part in fields)
    assert len(FORMS) >= 3
