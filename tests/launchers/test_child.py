"""Real child processes: small shell and Python programs that behave badly."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from gevent.event import Event

from llmsnap.errors import StartFailed
from llmsnap.launchers.base import LaunchSpec
from llmsnap.launchers.local.child import Child, LocalLauncher
from tests.fakes.errors import says
from tests.launchers import LIMIT_S, Heard, is_alive, until
from tests.parity import parity


@pytest.fixture
def output() -> Heard:
    return Heard()


@pytest.fixture
def launcher() -> Iterator[LocalLauncher]:
    made = LocalLauncher(f"test-{os.getpid()}")
    yield made
    made.close()


@pytest.fixture
def start(launcher: LocalLauncher, output: Heard) -> Iterator[Callable[..., Child]]:
    children: list[Child] = []

    def run(cmd: str, model_id: str = "m", url: str = "http://10.0.0.1:1", **spec: object) -> Child:
        children.append(launcher.start(LaunchSpec(model_id, cmd, url, **spec), output, Event()))
        return children[-1]

    yield run
    for child in children:
        child.kill()
        assert child.gone.wait(LIMIT_S)


@pytest.fixture
def taken() -> Iterator[int]:
    """A port in use."""
    with gevent.socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_output_of_both_streams_is_read_as_it_comes(start, output: Heard) -> None:
    child = start("sh -c 'echo out; echo err >&2; exit 7'")
    assert child.exited.wait(LIMIT_S)
    assert str(child.status) == "exit code 7"
    output.wait_for(b"out")
    output.wait_for(b"err")


def test_a_signal_is_named_in_the_status(start, output: Heard) -> None:
    child = start("sh -c 'kill -SEGV $$'")
    assert child.exited.wait(LIMIT_S)
    assert str(child.status) == "signal SIGSEGV"


@pytest.mark.parametrize("name", ["INT", "QUIT", "HUP", "PIPE"])
def test_a_signal_that_we_ignore_ends_a_server(start, name: str) -> None:
    """A shell starts background jobs with SIGINT and SIGQUIT ignored, nohup with SIGHUP."""
    number = getattr(signal, f"SIG{name}")
    before = signal.signal(number, signal.SIG_IGN)
    try:
        child = start(f"sh -c 'kill -{name} $$; exec sleep 60'")
    finally:
        signal.signal(number, before)
    assert child.exited.wait(LIMIT_S)
    assert str(child.status) == f"signal SIG{name}"


def test_what_cannot_be_started_is_said_before_anything_runs(start, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(b"\x7fELF nothing more")
    broken.chmod(0o755)
    for cmd, reason in (
        ("", "no command"),
        ("no-such-program-x --y", "was not found: no-such-program-x;"),
        (str(broken), "cannot be started: .*/broken: "),
    ):
        with pytest.raises(StartFailed, check=says(reason)):
            start(cmd)


def test_the_environment_is_ours_plus_the_entries(start, output: Heard, monkeypatch) -> None:
    monkeypatch.setenv("LLMSNAP_TEST_A", "old")
    start("sh -c 'echo $LLMSNAP_TEST_A $B $LLMSNAP_CHILD'", env=("LLMSNAP_TEST_A=1", "B=2", "B=3"))
    assert output.wait_for() == f"1 3 test-{os.getpid()}:m:0\n"


def test_withheld_variables_reach_a_server_only_if_its_entries_say_so(
    launcher: LocalLauncher, start, output: Heard, monkeypatch
) -> None:
    for name in ("ADMIN_KEY", "PEER_KEY", "LLMSNAP_API_KEY"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("LLMSNAP_TEST_A", "plain")
    launcher.withhold(["ADMIN_KEY"])
    launcher.withhold(["PEER_KEY"])  # those of before are still secret
    child = start("sh -c 'env; echo up; sleep 60'", env=("PEER_KEY=given",))
    output.wait_for(b"\nup\n")
    child.stop(LIMIT_S, "sh -c 'echo stopping; env; kill ${PID}'")
    started, stopping = output.data.decode().split("stopping\n")
    for shown in (started.splitlines(), stopping.splitlines()):
        assert "LLMSNAP_TEST_A=plain" in shown
        assert "PEER_KEY=given" in shown
        assert not [line for line in shown if "s3cret" in line]


def test_of_two_models_with_like_names_one_is_stopped(start) -> None:
    children = [start("sleep 60", name, generation=3) for name in ("qwen", "qwen:32b", "qwen:1")]
    children[0].stop(0.1)
    children[0].kill()
    assert [child.exited.is_set() for child in children] == [True, False, False]


@pytest.mark.parametrize("how", ["", "setsid "])
def test_a_stop_reaches_the_whole_group_and_who_left_it(start, output: Heard, how: str) -> None:
    child = start(f"sh -c '{how}sleep 60 & echo $!; wait'")
    descendant = int(output.wait_for())
    child.stop(LIMIT_S)
    assert child.gone.is_set()
    assert not is_alive(descendant)


def test_an_exit_is_told_though_a_descendant_holds_the_pipe(start, output: Heard) -> None:
    child = start("sh -c 'sleep 60 & echo $!'")
    grandchild = int(output.wait_for())
    assert child.exited.wait(LIMIT_S)
    assert child.gone.wait(LIMIT_S)
    assert not is_alive(grandchild), "what a server leaves behind is ended with it"


def test_cmd_stop_is_run_with_the_pid(start, output: Heard) -> None:
    child = start("sleep 60")
    child.stop(LIMIT_S, "sh -c 'echo stopping ${PID}; kill -USR1 ${PID}'")
    assert str(child.status) == "signal SIGUSR1"
    assert output.data == f"stopping {child.local_pid}\n".encode()


@pytest.mark.parametrize("cmd_stop", ["false", "no-such-program-x", "# nothing"])
def test_a_failing_cmd_stop_falls_back_to_sigterm(start, cmd_stop: str) -> None:
    child = start("sleep 60")
    child.stop(LIMIT_S, cmd_stop)
    assert str(child.status) == "signal SIGTERM"


def test_a_hanging_cmd_stop_does_not_outlast_the_grace(start) -> None:
    child = start("sleep 60")
    child.stop(0.1, "sleep 60")
    assert child.status is not None
    assert child.status.signal in {"SIGTERM", "SIGKILL"}


def test_what_a_server_starts_when_it_is_told_to_go_goes_too(start, output: Heard) -> None:
    child = start(
        "sh -c \"trap 'setsid sleep 60 & until grep -q sleep /proc/\\$!/comm; do :; done; "
        "echo pid:\\$!:; exit' TERM; echo ready; while :; do sleep 0.01; done\""
    )
    output.wait_for(b"ready\n")
    child.stop(LIMIT_S)
    pid = output.wait_for(b":\n").split(":")[1]
    assert not is_alive(int(pid))


def test_a_port_in_use_is_refused_by_name(launcher: LocalLauncher, taken: int) -> None:
    spec = LaunchSpec("m", "sleep 60", f"http://localhost:{taken}")
    held = rf"port is in use: {taken} is held by .*, pid {os.getpid()};"
    with pytest.raises(StartFailed, check=says(held)):
        launcher.check(spec)
    launcher.check(spec, leaving=frozenset({f"local-{os.getpid()}", "job-7"}))


@parity(
    "Files and deployments",
    "a placeholder such as `sleep infinity` before a server that always runs",
    "it works, with a warning; a port that `cmd` mentions must be free",
)
def test_a_port_that_a_command_does_not_listen_on_may_be_taken(start, taken, caplog) -> None:
    start("sleep 60", url=f"http://localhost:{taken}", listens=False)
    assert f"its port {taken}, which cmd does not mention, is held by" in caplog.text


PARENT = """
import llmsnap._monkey, sys
from gevent.event import Event
from llmsnap.launchers.local.child import LocalLauncher
from llmsnap.launchers.base import LaunchSpec
launcher = LocalLauncher("x")
for cmd in sys.argv[1:]:
    spec = LaunchSpec("m", cmd, "http://10.0.0.1:1", grace_s=0.2)
    launcher.start(spec, lambda data: print(data.decode(), end="", flush=True), Event())
Event().wait(60)
"""
LEFT = (
    "sh -c 'echo $$; exec sleep 60'",
    "sh -c 'trap : TERM; echo $$; while :; do sleep 0.05; done'",
    "sh -c 'setsid sleep 60 & echo $!; wait'",
    "sh -c 'env -i setsid sleep 60 & echo $!; wait'",
)


def test_nothing_is_left_when_the_parent_is_killed() -> None:
    parent = gevent.subprocess.Popen([sys.executable, "-c", PARENT, *LEFT], stdout=-1)
    pids = [int(parent.stdout.readline()) for _ in LEFT]
    assert all(map(is_alive, pids))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    until(lambda: not any(map(is_alive, pids)))
