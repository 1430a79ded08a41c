"""Facts about llmsnap.paths."""

from pathlib import Path

from llmsnap import paths


def test_a_checkout_has_the_folders_beside_the_package() -> None:
    assert (paths.static_folder() / "js" / "app.js").is_file()
    assert (paths.template_folder() / "ui.html").is_file()
    assert paths.conf_folder().is_dir()


def test_an_installed_package_has_them_inside(tmp_path: Path) -> None:
    package = tmp_path / "llmsnap"
    (package / "share").mkdir(parents=True)
    assert paths.data_root(package) == package / "share"
    (package / "share").rmdir()
    assert paths.data_root(package) == tmp_path
