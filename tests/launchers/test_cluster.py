"""A launcher of a cluster against an engine that misbehaves as Ray does."""

import json
import logging
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gevent
import pytest
from gevent.event import Event

from llmsnap.config import Resources
from llmsnap.errors import EngineDown, NoCapacity, Rejected, StartFailed
from llmsnap.launchers import Launchers
from llmsnap.launchers.cluster import job as job_module
from llmsnap.launchers.cluster import launcher as launcher_module
from llmsnap.launchers.cluster.engine import JobRequest
from llmsnap.launchers.cluster.entrypoint import RunnerOutput
from llmsnap.launchers.cluster.identity import Owner
from llmsnap.launchers.cluster.job import at_host
from llmsnap.launchers.cluster.ray import body_of, view_of
from llmsnap.launchers.cluster.rest import RestClient
from llmsnap.statedir import StateDir
from llmsnap.tasks import count_tasks
from tests.launchers import LIMIT_S, SERVER, until
from tests.launchers.fake_ray import TOKEN, FakeRay
from tests.launchers.fake_slurm import FakeSlurm
from tests.launchers.farm import Farm


@pytest.fixture
def farm(make: Callable[..., Farm]) -> Farm:
    return make()


# --- placing -------------------------------------------------------------------------------------


def test_a_start_without_a_free_machine_ends_and_its_job_never_runs_the_server(farm: Farm) -> None:
    holders = [farm.start(gpus=2) for _ in range(2)]
    touched = farm.folder / "ran"
    farm.again(placement_timeout_s=0.6)
    with pytest.raises(NoCapacity, match="m: no machine of farm was free within 1 s") as caught:
        farm.start(f"touch {touched}")
    assert "it needs 1 GPU, free are 127.0.0.1 0 of 2, 127.0.0.2 0 of 2" in caught.value.detail
    assert (caught.value.status, caught.value.retry_after_s) == (503, 5.0)
    assert farm.jobs() == ["RUNNING", "RUNNING", "PENDING"], "Ray does not cancel it"
    holders[0].stop(1)
    until(lambda: farm.jobs() == ["RUNNING"])  # it ran, too late, and was deleted
    assert not touched.exists()


def test_a_start_ends_early_where_only_a_job_of_ours_could_make_room(farm, monkeypatch) -> None:
    monkeypatch.setattr(launcher_module, "FULL_S", 0.0)
    farm.again(placement_timeout_s=1000.0)
    holders = [farm.start(gpus=gpus) for gpus in (2, 1)]
    with pytest.raises(NoCapacity) as caught:
        farm.start(gpus=2)
    assert "it needs 2 GPUs, free are 127.0.0.1 0 of 2, 127.0.0.2 1 of 2" in caught.value.detail
    for holder in holders:
        holder.stop(1)


def test_a_job_that_begins_slowly_on_its_machine_is_waited_for(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_module, "FULL_S", 0.0)
    monkeypatch.setattr(launcher_module, "SWEEP_S", 0.01)
    farm.again(placement_timeout_s=1000.0)
    holder = farm.start(gpus=2)
    farm.cluster.is_slow = True
    starting = gevent.spawn(farm.start, gpus=2)
    until(lambda: farm.cluster.calls.count("GET /api/cluster_status") >= 4)
    assert not starting.dead, "all GPUs are in use: by this job"
    farm.cluster.begin_jobs()
    for job in (starting.get(), holder):
        job.stop(1)


def test_a_job_that_the_engine_refuses_is_told(farm: Farm) -> None:
    with pytest.raises(Rejected, match="m: its job was not run") as caught:
        farm.start(gpus=1.5)
    assert "JOB_SUPERVISOR_ACTOR_START_FAILURE" in caught.value.detail


@pytest.mark.parametrize("given", ["", "wrong"])
def test_a_token_that_is_refused_is_told_before_a_start(make, given: str) -> None:
    farm = make(token=given, insecure=True)
    with pytest.raises(Rejected, match=r"m: Ray \(farm\) refuses the token"):
        farm.launcher.check(farm.spec())


def test_a_start_outlives_calls_that_fail(farm: Farm) -> None:
    for method, path in (("POST", "/api/jobs/"), ("GET", "")):
        farm.cluster.fail(method, path, (500, "busy"), (503, "busy"), (200, "<html>no JSON</html>"))
    assert farm.start().node == "127.0.0.1"
    assert farm.jobs() == ["RUNNING"]
    assert not any(farm.cluster.faults.values()), "every one was met"


def test_a_submission_whose_reply_is_lost_starts_one_job(farm: Farm) -> None:
    farm.cluster.losing_replies = 1
    farm.start()
    assert farm.jobs() == ["RUNNING"]
    assert farm.cluster.calls.count("POST /api/jobs/") == 2


def test_a_port_in_use_is_tried_on_another_machine_once(farm: Farm) -> None:
    spec = farm.spec(SERVER)
    port = int(spec.url.rpartition(":")[2])
    with (  # both machines are this one
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(StartFailed, match=r"m: its port is in use on 127\.0\.0\.2"),
    ):
        farm.start(spec)
    assert farm.cluster.calls.count("POST /api/jobs/") == 2


# --- running -------------------------------------------------------------------------------------


def test_a_server_gets_a_key_of_its_own_that_nothing_shows(farm: Farm, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    cmd = "sh -c 'echo key $LLAMA_API_KEY ${UPSTREAM_KEY} host $LLAMA_ARG_HOST; sleep 60'"
    one = farm.start(cmd)
    assert farm.output.wait_for() == f"key {one.key} {one.key} host 0.0.0.0\n"
    assert Owner("x").key_of("job-1") != Owner("x").key_of("job-2")
    assert one.key not in repr(one) + caplog.text
    assert one.key not in json.dumps(farm.cluster.jobs[one.job_id].body["entrypoint"])


def test_the_output_is_what_the_server_printed_also_after_a_broken_stream(farm: Farm) -> None:
    job = farm.start("sh -c 'echo one; read x; echo two'")
    assert job.exited.wait(LIMIT_S)
    assert farm.output.data == b"one\ntwo\n"
    assert str(job.status) == "exit code 0"


def test_a_lost_machine_is_noticed_avoided_and_its_job_ended_later(farm: Farm) -> None:
    farm.again(lost_after_s=60)
    spec = farm.spec(SERVER)
    job = farm.start(spec)
    until(lambda: job._was_seen)
    job.wait_exit(0.05)
    assert not job.exited.is_set()
    lost = farm.cluster.nodes[0]
    farm.cluster.lose(lost)
    job.wait_exit(0.05)  # a request that finds it gone waits until that is certain
    assert job.exited.is_set()
    assert str(job.status) == "no connection to 127.0.0.1, where it ran"
    assert farm.jobs() == ["RUNNING"], "says Ray"
    assert farm.start().node == "127.0.0.2"
    farm.cluster.declare_dead(lost)
    until(lambda: farm.jobs() == ["RUNNING"])


def test_a_server_goes_on_without_its_engine(farm: Farm) -> None:
    job = farm.start(SERVER)
    until(lambda: job._was_seen)
    first = farm.launcher
    farm.cluster.go_down()
    until(first.trouble)
    assert "does not answer" in first.trouble()
    with pytest.raises(EngineDown, match="m: Ray"):
        first.check(farm.spec())
    farm.again(placement_timeout_s=0.3)
    with pytest.raises(EngineDown) as caught:
        farm.start()
    assert (caught.value.status, caught.value.retry_after_s) == (503, 5.0)
    assert not job.exited.is_set()
    farm.cluster.come_back()
    until(lambda: not first.trouble())
    job.stop(1)
    assert job.gone.is_set()


@pytest.mark.parametrize(
    ("cluster", "more"),
    [(FakeRay, {}), (FakeSlurm, {"env": ("A=b",)})],
    ids=["alone", "with another change"],
)
def test_a_token_that_is_replaced_needs_no_restart(make, tmp_path, cluster, more) -> None:
    farm = make(cluster())
    registry = Launchers(StateDir(tmp_path))
    registry.configure({"farm": farm.settings}, ())
    launcher = registry["farm"]
    job = launcher.start(farm.spec(SERVER), farm.output, Event())
    until(lambda: job._was_seen)
    farm.cluster.token = "newer"
    until(launcher.trouble)
    with pytest.raises(StartFailed):
        launcher.check(farm.spec())
    assert not job.exited.is_set()
    registry.configure({"farm": replace(farm.settings, token="newer", **more)}, ())
    assert (registry["farm"] is launcher) is (not more)
    until(lambda: not launcher.trouble())
    job.stop(1)
    assert job.gone.is_set()
    registry["farm"].start(farm.spec(), farm.output, Event()).stop(1)
    registry.close()


STATUS = {"status": "RUNNING"}


@pytest.mark.parametrize(("cluster", "listing"), [(FakeRay, "/jobs/"), (FakeSlurm, "/jobs")])
def test_a_server_outlives_replies_of_another_form(make, cluster, listing, caplog) -> None:
    farm = make(cluster())
    spec = farm.spec(SERVER)
    job = farm.start(spec)
    until(lambda: job._was_seen)
    ray = {"submission_id": job.job_id, **STATUS}
    slurm = {"name": job.job_id, "job_state": "RUNNING"}
    forms: list[Any] = ["<html>a gateway</html>", "[" * 100_000, {}, [], STATUS, {"status": "ok"}]
    forms += [{**ray, "metadata": [1]}, {**ray, "driver_agent_http_address": 7}]
    forms += [{"jobs": [each]} for each in (7, {"name": job.job_id}, {**slurm, "exit_code": []})]
    replies = [(302, ""), *[(404, "<html>a gateway</html>")] * 6, *((200, form) for form in forms)]
    farm.cluster.fail("GET", "", *replies)
    until(lambda: not farm.cluster.faults["GET", ""] and not farm.launcher.trouble())
    assert not job.exited.is_set()
    assert "gives no usable reply" in caplog.text or "does not tell of a job" in caplog.text
    later = farm.again()
    farm.cluster.fail("GET", listing, (200, {}))
    assert later.adopt([spec]) == []
    assert later.trouble(), "its jobs are not known, which is not the same as none"
    job.stop(1)
    assert job.gone.is_set()


def test_a_job_that_the_engine_has_forgotten_has_ended(farm: Farm, caplog) -> None:
    job = farm.start(SERVER)
    until(lambda: job._was_seen)
    forgotten = farm.cluster.jobs.pop(job.job_id)
    assert job.exited.wait(LIMIT_S)
    assert str(job.status) == "farm no longer knows its job"
    assert f"a server answers at {job.url}" in caplog.text
    farm.cluster._kill(forgotten)


def test_a_stop_that_is_not_confirmed_is_asked_for_again(farm: Farm, monkeypatch) -> None:
    monkeypatch.setattr(job_module, "STOP_SLACK_S", 0.1)
    monkeypatch.setattr(job_module, "ASK_AGAIN_S", 0.05)
    job = farm.start(farm.spec(grace_s=0))
    farm.cluster.fail("POST", "/stop", *[(500, "error")] * 1000)
    job.stop(0)
    assert not job.gone.is_set()
    farm.cluster.faults.clear()
    assert job.gone.wait(LIMIT_S)


# --- over restarts -------------------------------------------------------------------------------


def test_a_stop_ends_with_the_last_line_of_the_runner_before_the_engine_notices(farm: Farm) -> None:
    job = farm.start()
    farm.cluster.notices.clear()
    job.stop(1)
    assert job.gone.is_set()
    assert farm.jobs() == ["RUNNING"]
    farm.cluster.notices.set()
    until(lambda: farm.jobs() == [])


def test_the_next_run_adopts_what_it_would_start_and_stops_the_rest(make) -> None:
    farm = make()
    keeping = farm.spec("sh -c 'echo up; sleep 60'")
    kept, changed = farm.start(keeping), farm.start(farm.spec(model_id="n"))
    (farm.folder / "other").mkdir()
    theirs = make(farm.cluster, farm.folder / "other").start()  # of another llmsnap
    farm.launcher.close()
    launcher = farm.again()
    assert launcher.adopt([keeping, farm.spec(model_id="n")]) == ["m"]
    (line,) = launcher.stop_leftovers()
    assert changed.job_id in line
    assert " of model n, on farm" in line
    adopted = farm.start(replace(keeping, generation=7))
    assert (adopted.job_id, adopted.key, adopted.url) == (kept.job_id, kept.key, kept.url)
    assert adopted.is_adopted
    assert not theirs.exited.is_set()
    adopted.stop(1)
    theirs.stop(1)
    assert not farm.start(keeping).is_adopted


def test_a_job_that_an_earlier_run_submitted_at_its_end_is_stopped_when_it_comes(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher_module, "CLOCKS_S", 0.0)
    earlier = farm.launcher
    monkeypatch.setattr(launcher_module, "RUN", "the next one")
    assert farm.again(placement_timeout_s=0.3).stop_leftovers() == []
    earlier.start(farm.spec(), farm.output, Event())
    earlier.close()
    until(lambda: farm.jobs() == [])


@pytest.mark.parametrize("keeps", [False, True])
def test_what_no_start_has_taken_over_ends_with_llmsnap_unless_it_is_kept(farm, keeps) -> None:
    spec = farm.spec()
    farm.start(spec)
    farm.launcher.close()
    launcher = farm.again(keeps=keeps)
    assert launcher.adopt([spec]) == ["m"]
    launcher.release()
    launcher.close()
    until(lambda: ("RUNNING" in farm.jobs()) is keeps)


def test_jobs_of_an_earlier_run_are_stopped_once_the_engine_answers(farm, monkeypatch) -> None:
    monkeypatch.setattr(launcher_module, "LONGEST_SWEEP_S", 0.1)
    monkeypatch.setattr(launcher_module, "CLOCKS_S", 0.0)
    farm.start()
    farm.launcher.close()
    monkeypatch.setattr(launcher_module, "RUN", "the next one")
    farm.cluster.go_down()
    assert farm.again(placement_timeout_s=0.1).stop_leftovers() == []
    farm.cluster.come_back()
    until(lambda: farm.jobs() == [])


def test_an_engine_that_comes_and_goes_is_asked_by_one_task_that_the_end_does_not_wait_for(
    farm: Farm, caplog
) -> None:
    farm.launcher.stop_leftovers()
    before = count_tasks()
    for _ in range(50):
        farm.launcher.note_engine("down")
        farm.launcher.note_engine("")
    assert count_tasks() == before + 1
    farm.launcher.close()
    assert "not confirmed" not in caplog.text


def test_a_job_that_no_start_claims_is_stopped(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher_module, "ADOPT_LIMIT_S", 0.2)
    spec = farm.spec()
    farm.start(spec)
    farm.launcher.close()
    assert farm.again().adopt([spec]) == ["m"]
    until(lambda: farm.jobs() == [])


def test_what_a_job_was_given_is_not_repeated_in_an_error(farm: Farm) -> None:
    farm.cluster.fail("POST", "/api/jobs/", (400, "bad env: HF_TOKEN=s3cr3t-value"))
    with pytest.raises(Rejected, match="m: Ray refuses the job") as caught:
        farm.start(farm.spec(env=("HF_TOKEN=s3cr3t-value",)))
    assert "bad env" in caught.value.detail
    assert "s3cr3t" not in caught.value.detail


# --- what is sent and read -----------------------------------------------------------------------


def test_a_submission_has_what_the_model_asks_for() -> None:
    wants = Resources(gpus=0.5, cpus=4, ram_bytes=2**30, labels={"zone": "z1"}, custom={"ssd": 1})
    request = JobRequest("j", "o", "cmd", {"A": "b"}, wants, {"model": "m"}, 10.0, ("n1", "n2"))
    assert body_of(request) == {
        "entrypoint": "cmd",
        "submission_id": "j",
        "metadata": {"owner": "o", "model": "m"},
        "runtime_env": {"env_vars": {"A": "b", "RAY_JOB_STOP_WAIT_TIME_S": "13"}},
        "entrypoint_num_cpus": 4,
        "entrypoint_num_gpus": 0.5,
        "entrypoint_memory": 2**30,
        "entrypoint_resources": {"ssd": 1},
        "entrypoint_label_selector": {"zone": "z1", "ray.io/node-id": "!in(n1,n2)"},
    }


def test_an_address_that_means_the_servers_machine_gets_its_host() -> None:
    found = {
        "http://localhost:5800": "http://10.0.0.9:5800",
        "http://127.0.0.1:5800/v1": "http://10.0.0.9:5800/v1",
        "http://0.0.0.0:5800": "http://10.0.0.9:5800",
        "http://gateway.lan:5800": "http://gateway.lan:5800",
    }
    assert {url: at_host(url, "10.0.0.9", "0.0.0.0") for url in found} == found


def test_a_job_is_read_from_a_reply_with_gaps() -> None:
    view = view_of({"submission_id": "j", "status": "FAILED", "driver_exit_code": 75})
    assert (view.phase, view.code, view.host, view.node_id) == ("ended", 75, "", "")


@pytest.mark.parametrize("size", [1, 7, 4096])
def test_the_lines_of_the_runner_are_taken_out_however_they_arrive(size: int) -> None:
    text = (
        b"noise of the engine\nLLMSNAP1 gen=j host=h port=1 pid=7 t=1\nLLM\nLLMSNAP1 is odd\n"
        b"LLMSNAP1 exit=0\nLLMSNAP1 gen=i exit=0\nprogress...done\nLLMSNAP1 gen=j exit=3\n"
    )
    output = RunnerOutput("j")
    found = b"".join(output.feed(text[at : at + size]) for at in range(0, len(text), size))
    forged = b"LLMSNAP1 exit=0\nLLMSNAP1 gen=i exit=0\n"
    assert found == b"LLM\nLLMSNAP1 is odd\n" + forged + b"progress...done\n"
    assert (output.code, output.was_repeated) == (3, False)
    output.feed(b"LLMSNAP1 gen=j host=h port=1 pid=8 t=1\n")
    assert (output.code, output.was_repeated) == (None, True), "the end was that of the first run"


def test_a_call_that_is_killed_while_it_connects_closes_its_socket() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        port = full.getsockname()[1]

        def connecting() -> int:
            return Path("/proc/self/net/tcp").read_text().count(f":{port:04X} 02 ")

        with socket.create_connection(("127.0.0.1", port)):  # no further one gets through
            client = RestClient("Ray", f"http://127.0.0.1:{port}", {})
            call = gevent.spawn(client.call, "GET", "/")
            until(connecting)
            call.kill()
            assert not connecting()
    client.close()


def test_a_call_that_is_killed_wherever_it_waits_closes_its_socket(farm: Farm) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    for rounds in range(40):
        client = RestClient("Ray", farm.cluster.url, headers)
        client.call("GET", "/api/version")
        call = gevent.spawn(client.call, "GET", "/api/version")  # on the same connection
        for _ in range(rounds):
            gevent.sleep(0)
        call.kill()
        client.close()
        del client, call  # what is not closed by now warns, which fails the test


def test_a_secret_of_the_installation_is_readable_by_its_user_alone(farm: Farm, caplog) -> None:
    (file,) = farm.folder.glob("cluster-secret")
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    Owner.from_state(StateDir(farm.folder / "nowhere"))
    assert "jobs on a cluster will not be found again after a restart" in caplog.text
