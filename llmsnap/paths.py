"""Where static, templates and conf are: at the top of a checkout, or inside the package."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def data_root(package: Path = _PACKAGE) -> Path:
    """Return the folder that holds ``static``, ``templates`` and ``conf``."""
    installed = package / "share"
    return installed if installed.is_dir() else package.parent


def static_folder() -> Path:
    """Return the folder of the user interface's files."""
    return data_root() / "static"


def template_folder() -> Path:
    """Return the folder of the Jinja templates."""
    return data_root() / "templates"


def conf_folder() -> Path:
    """Return the folder of the example configurations and the schema."""
    return data_root() / "conf"
