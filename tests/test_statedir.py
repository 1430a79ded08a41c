import os
import stat
from pathlib import Path

import pytest
from gevent import subprocess

from llmsnap import statedir
from llmsnap.errors import StateInUse


def test_the_place_follows_the_environment(tmp_path: Path) -> None:
    state, home = tmp_path / "state", tmp_path / "home"
    found = statedir.find("a.yaml", environ={"XDG_STATE_HOME": str(state), "HOME": str(home)})
    assert found.path.parent == state / "llmsnap"
    assert stat.S_IMODE(found.path.stat().st_mode) == 0o700
    found = statedir.find("a.yaml", environ={"HOME": str(home)})
    assert found.path.parent == home / ".local/state/llmsnap"
    (tmp_path / "link").symlink_to("../" + tmp_path.name + "/state")
    found = statedir.find("a.yaml", str(tmp_path / "link/mine"))
    assert (found.is_writable, found.path) == (True, state / "mine"), "as the user wishes"


def test_instances_with_different_configs_never_meet(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    a, b = (statedir.find(str(tmp_path / name), environ=environ) for name in ("a.yaml", "b.yaml"))
    again = statedir.find(str(tmp_path / "x" / ".." / "a.yaml"), environ=environ)
    assert a.path != b.path
    assert a.instance != b.instance
    assert (again.path, again.instance) == (a.path, a.instance)


def test_a_place_that_cannot_be_written_is_passed_over(tmp_path: Path, caplog) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    found = statedir.find("a.yaml", environ={"XDG_STATE_HOME": str(blocked), "HOME": str(tmp_path)})
    assert found.path.parent == tmp_path / ".local/state/llmsnap"
    nowhere = statedir.find("a.yaml", str(blocked / "sub"))
    assert not nowhere.is_writable
    assert "--state-dir" in caplog.text
    nowhere.lock()
    nowhere.unlock()


def test_a_second_instance_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    first, second = (statedir.StateDir(tmp_path) for _ in range(2))
    first.lock()
    first.lock()
    with pytest.raises(StateInUse, match=rf"\(pid {os.getpid()}\)"):
        second.lock()
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    first.unlock()
    second.lock()  # which the child has not inherited
    second.unlock()
    child.kill()
    child.wait()
    assert (tmp_path / "lock").exists(), "removing it would race with the next one"


OTHER = 4711
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give folders away")


def given_away(path: Path) -> Path:
    path.mkdir(exist_ok=True)
    os.lchown(path, OTHER, OTHER)
    return path


def link_of_another(path: Path) -> Path:
    path.symlink_to(path.parent / "ours", target_is_directory=True)
    (path.parent / "ours").mkdir()
    os.lchown(path, OTHER, OTHER)
    return path


def circle(path: Path) -> Path:
    path.symlink_to(path)
    return path


@needs_root
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (given_away, "belongs to uid 4711"),
        (link_of_another, "belongs to uid 4711"),
        (circle, "Too many levels of symbolic links"),
    ],
)
@pytest.mark.parametrize("below", ["", "a/b"])
def test_a_folder_that_another_user_could_replace_is_not_used(
    tmp_path: Path, caplog, make, reason: str, below: str
) -> None:
    place = make(tmp_path / "x")
    found = statedir.find("a.yaml", str(place / below))
    assert not found.is_writable
    assert reason in caplog.text
    if make is not circle:
        assert list(place.iterdir()) == [], "and nothing is made in it"


def test_a_folder_that_is_open_to_all_is_used_only_if_the_user_says_so(tmp_path: Path) -> None:
    place, home = tmp_path / "x", tmp_path / "home"
    place.mkdir()
    place.chmod(0o777)
    environ = {"XDG_STATE_HOME": str(place), "HOME": str(home)}
    assert statedir.find("a.yaml", environ=environ).path.parent == home / ".local/state/llmsnap"
    assert statedir.find("a.yaml", str(place / "volume"), environ=environ).is_writable
    place.chmod(0o1777)
    assert statedir.find("a.yaml", str(place / "ours")).is_writable
    if os.getuid() == 0:
        assert not statedir.find("a.yaml", str(given_away(place / "theirs"))).is_writable


def test_what_we_make_on_the_way_is_ours_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        assert statedir.find("a.yaml", str(tmp_path / "a/b/c")).is_writable
    finally:
        os.umask(before)
    made = [tmp_path / name for name in ("a", "a/b", "a/b/c")]
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o700}


def test_a_link_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        statedir.StateDir(tmp_path).lock()
    assert not (tmp_path / "elsewhere").exists()
