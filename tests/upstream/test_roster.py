import os
from pathlib import Path

import pytest
from gevent import subprocess

from llmsnap.upstream import guardian
from llmsnap.upstream.child import LocalLauncher
from llmsnap.upstream.launcher import LaunchSpec
from llmsnap.upstream.roster import Roster


def started(pid: int) -> str:
    return str(guardian.start_of(pid) or "")


@pytest.fixture
def child():
    popen = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield popen
    popen.kill()
    popen.wait()


def test_a_noted_child_is_stopped_by_the_next_run(tmp_path: Path, child) -> None:
    Roster(tmp_path, started).add(child.pid, "llama")
    assert Roster(tmp_path, started).stop_leftovers() == [f"pid {child.pid} of model llama"]
    assert child.wait(4) == -15


def test_a_pid_that_was_given_to_another_program_is_left_alone(tmp_path: Path, child) -> None:
    Roster(tmp_path, lambda _: "last week").add(child.pid, "llama")
    assert Roster(tmp_path, started).stop_leftovers() == []
    assert child.poll() is None


def test_a_child_that_is_gone_is_forgotten(tmp_path: Path, child) -> None:
    roster = Roster(tmp_path, started)
    roster.add(child.pid, "llama")
    roster.remove(child.pid)
    roster.remove(child.pid)
    assert Roster(tmp_path, started).stop_leftovers() == []
    assert repr(roster).endswith("0 children>")


@pytest.mark.parametrize("text", ["", "[]", '{"children": [{"pid": 1}]}'])
def test_a_file_that_makes_no_sense_is_passed_over(tmp_path: Path, caplog, text: str) -> None:
    (tmp_path / "children.json").write_text(text)
    assert Roster(tmp_path, started).stop_leftovers() == []
    assert "cannot be used" in caplog.text


def test_a_folder_that_cannot_be_written_is_only_warned_about(tmp_path: Path, caplog) -> None:
    Roster(tmp_path / "nowhere", started).add(os.getpid(), "llama")
    assert "cannot be written" in caplog.text


def test_the_launcher_keeps_the_roster(tmp_path: Path) -> None:
    launcher = LocalLauncher("roster-test", Roster(tmp_path, started))
    child = launcher.start(LaunchSpec("m", "sleep 60", "http://10.0.0.1:1"), lambda _: None)
    assert str(child.pid) in (tmp_path / "children.json").read_text()
    assert f"pid {child.pid} of model m" in launcher.stop_leftovers()
    assert child.gone.wait(4)
    child.stop(1)
    launcher.close()
    assert str(child.pid) not in (tmp_path / "children.json").read_text()
