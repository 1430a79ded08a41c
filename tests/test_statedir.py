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


def test_instances_with_different_configs_never_meet(tmp_path: Path) -> None:
    environ = {"HOME": str(tmp_path)}
    a, b = (statedir.find(str(tmp_path / name), environ=environ) for name in ("a.yaml", "b.yaml"))
    again = statedir.find(str(tmp_path / "x" / ".." / "a.yaml"), environ=environ)
    assert a.path != b.path
    assert a.instance != b.instance
    assert (again.path, again.instance) == (a.path, a.instance)


def test_the_wish_of_the_user_wins(tmp_path: Path) -> None:
    assert statedir.find("a.yaml", str(tmp_path / "mine")).path == tmp_path / "mine"


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
    first.unlock()
    second.lock()
    assert "locked" in repr(second)
    second.unlock()
    assert (tmp_path / "lock").exists(), "removing it would race with the next one"


def test_a_child_does_not_inherit_the_lock(tmp_path: Path) -> None:
    first, second = (statedir.StateDir(tmp_path) for _ in range(2))
    first.lock()
    child = subprocess.Popen(["sleep", "60"], close_fds=False)
    first.unlock()
    second.lock()
    second.unlock()
    child.kill()
    child.wait()
