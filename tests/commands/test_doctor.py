"""``llmsnap doctor``: what it finds on a machine and in a configuration."""

import io
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from llmsnap.commands import doctor
from llmsnap.telemetry import HardwareProbe
from llmsnap.telemetry.hardware import detect
from tests.fakes.ports import free_ports
from tests.fakes.upstream import FakeUpstream
from tests.parity import parity

NOWHERE = "http://127.0.0.1:9"
PORT = free_ports(4)


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    server = FakeUpstream()
    server.start()
    yield server
    server.stop()


def examine(tmp_path: Path, text: str, *options: str, machine: str = "/none") -> dict[str, Any]:
    """The document that the command prints, with its exit code."""
    file = tmp_path / "config.yaml"
    file.write_text(f"{text}\nstartPort: {PORT}\n")
    file.chmod(0o600)
    out = io.StringIO()
    arguments = [str(file), "--json", "--url", NOWHERE, *options]
    probe = HardwareProbe(lambda: detect(Path(machine), lambda: 1 / 0))
    code = doctor.run(doctor.build_parser().parse_args(arguments), out, {"PATH": "/bin"}, probe)
    return {**json.loads(out.getvalue()), "code": code}


def found(document: dict[str, Any], level: str = "warning") -> list[str]:
    return [f"{f['subject']}: {f['what']}" for f in document["findings"] if f["level"] == level]


KEYS = "apiKeys: [a-long-random-key-of-24-ch]\n"
FINE = KEYS + "models: {m: {cmd: 'sh -c x ${PORT}'}}\n"


@parity(
    "Hardware", "only `GET /api/hardware`", "`llmsnap doctor` reports it on the command line too"
)
def test_a_sound_configuration_has_no_finding_but_notes(tmp_path: Path) -> None:
    document = examine(tmp_path, FINE, machine="/")
    assert (document["worst"], document["code"]) == ("note", 0)
    assert document["hardware"]["cpu"]["logical_thread_count"] >= 1
    assert document["hardware"]["capture"]["detector"]["name"] == "llmsnap"
    assert document["versions"]["python"]
    assert document["configuration"] == {
        "file": str(tmp_path / "config.yaml"),
        "models": 1, "groups": 1, "peers": 0, "profiles": 0, "keys": 1,
    }  # fmt: skip
    notes = str(found(document, "note"))
    assert "without TLS" in notes
    assert "load times are not known" in notes
    local = examine(tmp_path, FINE, "--listen", "[::1]:80")
    assert "without TLS" not in str(found(local, "note"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("models: {}", "apiKeys: every client that reaches :8080 may"),
        ("apiKeys: [x]\nmodels: {}", "apiKeys[0]: this key has 1 character"),
        ("apiKeys: [{key: a-long-random-key-of-24-ch, admin: false}]\nmodels: {}",
         "apiKeys: no key may load"),
        (KEYS + "models: {m: {cmd: 'nothing ${PORT}'}}", "models.m.cmd: nothing is not"),
        (FINE + f"peers: {{p: {{proxy: '{NOWHERE}', models: [x]}}}}", "peers.p: cannot"),
    ],
)  # fmt: skip
def test_what_is_likely_to_fail_is_a_warning(tmp_path: Path, text: str, words: str) -> None:
    document = examine(tmp_path, text)
    assert [line for line in found(document) if line.startswith(words)], found(document)
    assert (document["worst"], document["code"]) == ("warning", 6)


def test_a_file_that_does_not_load_is_an_error_with_its_place(tmp_path: Path) -> None:
    document = examine(tmp_path, "models:\n  m: {cmd: 's ${PORT}', ttl: -7}\n")
    assert (document["worst"], document["code"], document["configuration"]) == ("error", 1, None)
    (error,) = [one for one in document["findings"] if one["level"] == "error"]
    assert (error["subject"], error["line"]) == ("models.m.ttl", 2)
    assert examine(tmp_path, "models: {}", "--listen", "unix:/x")["code"] == 0


def test_keys_in_a_file_that_all_can_read(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(Path, "chmod", lambda self, _: None)
    (tmp_path / "config.yaml").touch(0o644)
    document = examine(tmp_path, FINE)
    assert any("read by every user" in line for line in found(document))


def test_files_that_exceed_all_memory(tmp_path: Path, monkeypatch) -> None:
    sizes = {"big-00001-of-00002.gguf": 6, "big-00002-of-00002.gguf": 6, "small.gguf": 3}
    for name, size in sizes.items():
        with (tmp_path / name).open("wb") as file:
            file.truncate(size * doctor.GIB)  # sparse: it takes no room
    monkeypatch.setattr("llmsnap.telemetry.hardware._memory", lambda _: 8 * doctor.GIB)
    files = {"a": "big-00001-of-00002.gguf"} | dict.fromkeys("bcd", "small.gguf")
    models = "".join(
        f"  {name}: {{cmd: 'sh -m {tmp_path}/{file} ${{PORT}}'}}\n" for name, file in files.items()
    )
    groups = "groups: {g: {swap: false, members: [b, c, d]}, h: {members: [a]}}\n"
    lines = found(examine(tmp_path, KEYS + "models:\n" + models + groups))
    assert "models.a: its files have 12.0 GiB, and all memory of this machine 8.0 GiB" in lines
    assert [line for line in lines if line.startswith("groups.g: ") and "9.0 GiB" in line]
    assert not [line for line in lines if line.startswith(("models.b", "groups.h"))]


def answers(upstream: FakeUpstream, document: Any, **headers: str) -> None:
    def answer(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [*headers.items(), ("Content-Type", "application/json")])
        return [json.dumps(document).encode()]

    upstream.handler = answer


def test_a_peer_is_asked_for_its_models_and_its_clock(tmp_path: Path, upstream) -> None:
    late = format_datetime(datetime.now(UTC) - timedelta(hours=1), usegmt=True)
    answers(upstream, {"data": [{"id": "there"}]}, Date=late)
    peers = f"peers: {{p: {{proxy: '{upstream.url}', models: [there, gone]}}}}\n"
    lines = found(examine(tmp_path, FINE + peers))
    assert upstream.calls == ["GET /v1/models"]
    assert "peers.p: it does not list the model gone" in lines
    assert any(line.startswith("peers.p: its clock is 3") and "behind" in line for line in lines)


def test_an_idle_timeout_shorter_than_the_load(tmp_path: Path, upstream) -> None:
    def view(name: str, load_s: float | None) -> dict[str, Any]:
        return {"model_id": name, "durations": {"start": {"p50_s": load_s}}}

    answers(upstream, {"models": [view("m", 8.0), view("n", None), view("gone", 9.0)]})
    text = KEYS + "models: {m: {cmd: 'sh ${PORT}', ttl: 5}, n: {cmd: 'sh ${PORT}', ttl: 1}}\n"
    lines = found(examine(tmp_path, text, "--url", upstream.url))
    assert lines == ["models.m.ttl: it is unloaded after 5 s, and loads in 8.0 s"]


def test_the_text_has_the_worst_first_and_no_secret(tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "HardwareProbe", lambda: HardwareProbe(lambda: detect(Path("/"))))
    file = tmp_path / "config.yaml"
    file.write_text("apiKeys: [s3cret-k]\nmodels: {m: {cmd: 'no-such-program ${PORT}'}}\n")
    assert doctor.main([str(file), "--url", NOWHERE]) == 6
    shown = capsys.readouterr().out
    assert "s3cret" not in shown
    levels = [line.partition(":")[0] for line in shown.splitlines()]
    told = [level for level in levels if level in doctor.LEVELS]
    assert told == sorted(told, reverse=True)
    assert shown.splitlines()[0].startswith("versions")
    assert "models.m.cmd (line 2, column " in shown
