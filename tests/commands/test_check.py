import io
import json
import socket
import sqlite3
from pathlib import Path

import pytest

from llmsnap.commands import check
from llmsnap.commands.check import advise_of_machine
from llmsnap.config import Config, ModelConfig, Report, StoreConfig
from tests.fakes.ports import free_ports
from tests.parity import parity

PORT = free_ports(2)
GOOD = (
    f"startPort: {PORT}"
    + """
models:
  llama: {cmd: "/bin/sh ${PORT}", aliases: [x], proxy: "http://127.0.0.1:${PORT}"}
  fixed: {cmd: /bin/sh, proxy: "http://u:s3cret@far:9/x"}
"""
)
ODD = GOOD + "  odd: {cmd: '/bin/sh ${PORT}', tttl: 5}\n"
BAD = "models:\n  llama:\n    cmd: srv ${PORT}\n    ttl: soon\nstartport: 1\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Run the command in a folder with the given files; return exit code and output."""
    monkeypatch.chdir(tmp_path)

    def call(*argv: str, **files: str) -> tuple[int, str]:
        for name, text in files.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        out = io.StringIO()
        code = check.run(check.build_parser().parse_args(argv), out, {"PATH": "/usr/bin"})
        return code, out.getvalue()

    return call


def test_a_good_file_is_summed_up(run) -> None:
    code, text = run("f.yaml", f=GOOD)
    assert code == 0
    assert [line.split() for line in text.splitlines()] == [
        ["MODEL", "PORT", "GROUP", "ALIASES"],
        ["fixed", "http://(hidden)@far:9/x", "(default)"],
        ["llama", str(PORT), "(default)", "x"],
        ["f.yaml:", "no", "errors,", "no", "pieces", "of", "advice"],
    ]
    assert text.splitlines()[0].index("GROUP") == text.splitlines()[1].index("(default)")
    assert run("f.yaml", "--strict", f=GOOD)[0] == 0
    assert run("f.yaml", f=ODD)[0] == 0
    assert run("f.yaml", "--strict", f=ODD)[0] == 1
    code, text = run()
    assert code == 1
    assert text.startswith("config.yaml: there is no file config.yaml - write it")


def test_errors_come_with_their_place_and_then_advice(run) -> None:
    code, text = run("f.yaml", f=BAD)
    assert code == 1
    assert text.splitlines() == [
        "f.yaml:4:10: models.llama.ttl: must be a whole number (found soon)",
        'f.yaml:5:1: advice: startport: unknown key - did you mean "startPort"?',
        "f.yaml: 1 error, 1 piece of advice",
    ]
    code, text = run("f.yaml", "--json", f=BAD)
    found = json.loads(text)
    assert (code, found["ok"], found["file"]) == (1, False, "f.yaml")
    what = {"what": "must be a whole number (found soon)", "fix": ""}
    assert found["errors"] == [{"where": "models.llama.ttl", **what, "line": 4, "column": 10}]
    assert [each["where"] for each in found["advice"]] == ["startport"]


def test_advice_of_every_kind_is_collected(run) -> None:
    text = """
        routing: {scheduler: {use: fifo}}
        models: {m: {cmd: "nowhere-to-be-found ${PORT}", env: ["${x}"], concurrencyLimit: -1.0}}
        groups: {g: {}}
    """
    _, found = run("f.yaml", f=text)
    for words in (
        "consider use: fair",
        "nowhere-to-be-found is not on PATH",
        "models.m.env[0]: unknown macro",
        "groups.g: usually has members",
    ):
        assert words in found


def test_the_plan_of_a_reload_is_told(run) -> None:
    new = GOOD.replace("aliases: [x]", "ttl: 5, sendLoadingState: true").replace("far", "near")
    old = ODD.replace(f"startPort: {PORT}", "startPort: 9000")
    code, text = run("new.yaml", "--against", "old.yaml", new=new, old=old)
    assert code == 0
    assert text.splitlines()[-6:-1] == [
        "a reload would do this:",
        "  hot      llama (aliases, ttl, sendLoadingState)",
        "  restart  fixed",
        "  removed  odd",
        "  at once  settings",
    ]


def test_a_faulty_old_file_is_told_as_such(run) -> None:
    code, text = run("new.yaml", "--against", "old.yaml", new=GOOD, old=BAD)
    assert (code, text.partition(" ")[0]) == (1, "old.yaml:4:10:")


def test_json_has_models_groups_and_plan(run) -> None:
    _, text = run("new.yaml", "--against", "old.yaml", "--json", new=GOOD, old=GOOD)
    found = json.loads(text)
    assert found["models"][1] == {
        "id": "llama", "port": PORT, "proxy": f"http://127.0.0.1:{PORT}", "group": "(default)",
        "aliases": ["x"],
    }  # fmt: skip
    assert [group["id"] for group in found["groups"]] == ["(default)"]
    assert found["plan"]["unchanged"] == ["fixed", "llama"]
    assert "s3cret" not in text
    _, text = run("new.yaml", "--against", "old.yaml")
    assert "  unchanged  fixed, llama\n" in text


def advice(cmd: str = "sh", proxy: str = "http://far:80", **more: object) -> list[str]:
    report = Report()
    config = Config(models={"m": ModelConfig(id="m", cmd=cmd, proxy=proxy)}, **more)
    advise_of_machine(config, None, report, {"PATH": "/bin:/usr/bin"})
    return [each.what for each in report.advice]


@pytest.mark.parametrize(
    ("cmd", "what"),
    [
        ("no-such-program", "no-such-program is not on PATH"),
        ("/etc/passwd", "/etc/passwd is no executable file"),
        ("sh -m /no/model.gguf", "/no/model.gguf does not exist"),
        ("sh --model=./no.gguf", "./no.gguf does not exist"),
        ("sh ~/x.gguf", "~/x.gguf stays as it is: no shell replaces ~"),
        ("/bin/sh -m /etc/passwd --other=/etc/passwd --port 80", ""),
        ("sh -c 'x | y'", ""),
        # secrets and paths of elsewhere are left alone
        ("sh --api-key /no/s3cret.key", ""),
        ("sh --hf-token=/no/s3cret.txt", ""),
        ("sh http://h/x.json", ""),
        ("sh -v /a:/b.c", ""),
    ],
)
def test_what_is_not_there_is_told(cmd: str, what: str) -> None:
    assert advice(cmd) == ([what] if what else [])
    assert "no shell runs the command" in advice("sh x | tee y")[0]
    docker = advice("docker run -v /models:/models x --model /models/there.gguf")
    assert docker in ([], ["docker is not on PATH"])


@parity(
    "Checks at load",
    "`store.path` that cannot be written: the file is refused",
    "advice; the server runs and keeps history in memory",
)
def test_a_store_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "swap.db")
    db.execute("CREATE TABLE activity (id INTEGER)")
    db.close()
    (tmp_path / "text.db").write_text("no database")
    for name, said in {
        "swap.db": f"swap.db belongs to llama-swap: history is kept in {tmp_path}/swap-llmsnap.db",
        "text.db": "text.db cannot be read as an SQLite file",
        "no/x.db": "no does not exist, so history would stay in memory",
    }.items():
        (found,) = advice(store=StoreConfig(f"{tmp_path}/{name}"))
        assert found.startswith(f"{tmp_path}/{said}")
    assert advice(store=StoreConfig(f"{tmp_path}/new.db")) == []


def test_a_port_in_use_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert advice(proxy=f"http://localhost:{port}") == [f"port {port} is in use at the moment"]
        assert advice(proxy=f"http://far:{port}") == []


MEMORY = """
memory: {gpu0: {capacity: 24GiB, reserve: 1GiB}, ram: 8GiB}
models:
  big: {cmd: "/bin/sh ${PORT}", memory: {gpu0: 14GiB}}
  mid: {cmd: "/bin/sh ${PORT}", memory: {gpu0: 12GiB}}
  fix: {cmd: "/bin/sh ${PORT}", memory: {gpu0: 1GiB, ram: 1GiB}, pin: true}
  new: {cmd: "/bin/sh ${PORT}"}
  max: {cmd: "/bin/sh ${PORT}", memory: {gpu0: 23GiB}}
"""
MATRIX = """
models: {a: &m {cmd: "/bin/sh ${PORT}"}, b: *m, c: *m}
matrix: {sets: {pairs: "a & b | b & c", any: "2 of (a, b, c)"}}
"""


def test_what_fits_together_is_listed(run) -> None:
    text = run("f.yaml", f=MEMORY)[1]
    said = text[text.index("  big: ") :].splitlines()[:-1]
    assert said == [
        "  big: 14 GiB on gpu0, declared",
        "  mid: 12 GiB on gpu0, declared",
        "  fix: 1 GiB on gpu0 and 1 GiB on ram, declared, pinned",
        "  new: unknown, so it gets gpu0 alone",
        "  max: 23 GiB on gpu0, declared",
        "these fit together:",
        "  big, fix",
        "  mid, fix",
        "  fix, new",
        "these never fit together:",
        "  big and mid",
        "  big and new",
        "  mid and new",
        "max can never be loaded: it needs 23.0 GiB on gpu0; gpu0 has 24.0 GiB (1.0 GiB reserved), "
        "beside fix, which is pinned",
    ]
    found = json.loads(run("f.yaml", "--json", f=MEMORY)[1])["memory"]
    assert found["together"] == [["big", "fix"], ["mid", "fix"], ["fix", "new"]]
    assert found["apart"][0] == ["big", "mid"]
    advice = "advice: models.new: nothing is known of what it needs: it gets gpu0 alone until it is"
    assert f"f.yaml:7:8: {advice}" in text
    crowded = "selectors: {s: {strategy: spillover, targets: [big, mid]}}\n"
    advice = "advice: selectors.s.targets: its targets do not all fit in memory together"
    assert advice in run("f.yaml", f=MEMORY + crowded)[1]
    (pair, any_two) = json.loads(run("f.yaml", "--json", f=MATRIX)[1])["sets"]
    assert (pair["combinations"], any_two["combinations"]) == (2, 3)
    assert "set pairs: 2 combinations\n  a, b\n  b, c\n" in run("f.yaml", f=MATRIX)[1]
