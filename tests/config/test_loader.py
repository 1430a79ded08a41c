"""The table of cases that existing configurations rely on, and how a file is read."""

import contextlib
import hashlib
import os
from pathlib import Path

import pytest

from llmsnap.config.loader import load, loads
from llmsnap.errors import ConfigError, Problem
from tests.config.reading import advice, config, excerpt, problem, problems
from tests.parity import parity


def test_an_empty_file_has_no_models() -> None:
    assert not any(config(text).models for text in ("", "# nothing\n", "~", "models:\n", "{}"))
    for other in ("- a", "just text", "5"):
        assert problem(other).startswith("the file must be a mapping")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_is_read_with_its_source_and_hash(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("startPort: ${env.PORT}\n", encoding=encoding)
    found = load(file, environ={"PORT": "2000"})
    assert (found.start_port, found.source) == (2000, str(file))
    assert found.content_hash == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "is no file"), (b"a: 1\nb: \xff\n", "line 2 is not UTF-8"), (b"\xff\xfea", "utf-16")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path, content, words) -> None:
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert caught.value.source == str(file)


@parity("Checks at load", "the first mistake is reported", "all of them, with line and column")
def test_every_problem_is_told_at_once_in_file_order() -> None:
    text = """\
startPort: abcd
models:
  a: {cmd: "srv ${PORT} ${nope}",
    ttl: soon}
  b:
    cmd: srv
startprot: 1
uiOrigin: loud
"""
    with pytest.raises(ConfigError) as caught:
        loads(text, source="f.yaml")
    found = [f"{each.where} {each.line} {each.column}" for each in caught.value.problems]
    values = ["startPort 1 12", "models.a.cmd 3 12", "models.a.ttl 4 10", "models.b.proxy 6 5"]
    assert found == [*values, "uiOrigin 8 11"]
    assert caught.value.source == "f.yaml"
    assert [each.where for each in caught.value.advice] == ["startprot"]


def test_ports_are_given_out_in_the_order_of_ids() -> None:
    found = config("""
        startPort: 9000
        models:
          model1: {cmd: "srv --port ${PORT}"}
          model2: {cmd: "srv --port ${PORT}", proxy: "http://127.0.0.1:${PORT}"}
          author/model:F16: {cmd: "srv --port ${PORT}"}
          fixed: {cmd: srv --port 1999, proxy: "http://localhost:1999"}
    """).models.values()
    assert {each.id: (each.port, each.proxy) for each in found} == {
        "author/model:F16": (9000, "http://localhost:9000"),
        "fixed": (None, "http://localhost:1999"),
        "model1": (9001, "http://localhost:9001"),
        "model2": (9002, "http://127.0.0.1:9002"),
    }


NO_PORTS = {
    "models: {m: {cmd: s}}": "models.m.proxy: is absent, and its default uses ${PORT}, but",
    "models: {m: {cmd: s, proxy: 'http://h:${PORT}'}}": "it is only available when used in",
    "models: {m: {cmd: 's ${PORT} ${PID}'}}": "${PID} is known in cmdStop only",
    "startPort: 65535\nmodels: {a: &a {cmd: 's ${PORT}'}, b: *a}": "models.b: no port is",
    "models: {m: {cmd: 's ${PORT}', macros: {PORT: [1]}}}": "models.m.macros.PORT: ",
}


@parity("Macros", "`${PORT}` in `proxy` and not in `cmd`: the file is refused")
def test_a_port_that_cannot_be() -> None:
    assert {text: excerpt(problem(text), NO_PORTS[text]) for text in NO_PORTS} == NO_PORTS


def test_a_macro_may_bring_the_port_and_pid_is_known_in_cmd_stop_only() -> None:
    text = """
        macros: {server: "srv --port ${PORT} -m ${MODEL_ID} ~/m", unused: "${no}"}
        models: {m: {cmd: "${server}", cmdStop: "stop ${PORT} ${PID}"}}
    """
    found = config(text).models["m"]
    assert found.cmd == "srv --port 5800 -m m ~/m"
    assert found.cmd_stop == "stop 5800 ${PID}"
    found = config("macros: {PID: 7}\nmodels: {m: {cmd: 's ${PORT}', cmdStop: 'k ${PID}'}}")
    assert found.models["m"].cmd_stop == "k 7", "a macro of the user wins"


def test_models_whose_process_stays_keep_their_port() -> None:
    old = "models: {b: {cmd: 's ${PORT}'}, c: {cmd: 's ${PORT}'}, d: {cmd: 's ${PORT}'}}"
    new = loads(
        """
        models:
          a: {cmd: "s ${PORT}"}
          b: {cmd: "s ${PORT}", name: new, ttl: 5}
          c: {cmd: "s ${PORT} -v"}
          d: {cmd: "s   ${PORT}", metadata: {port: "${PORT}"}}
        """,
        previous=config(old),
    ).models
    ports = {model.id: model.port for model in new.values()}
    assert ports == {"a": 5801, "b": 5800, "c": 5803, "d": 5802}
    assert (new["d"].metadata, new["d"].proxy) == ({"port": 5802}, "http://localhost:5802")


@parity("Macros", "macros of a model win over global ones")
def test_a_model_s_macro_wins_over_a_global_one_also_within_others() -> None:
    found = config("""
        macros: {TEMP: 0.5, args: "--temp ${TEMP}"}
        models:
          a: {cmd: "srv ${PORT} ${args}"}
          b: {cmd: "srv ${PORT} ${args}", macros: {TEMP: 0.9}}
    """).models.values()
    assert [each.cmd for each in found] == ["srv 5800 --temp 0.5", "srv 5801 --temp 0.9"]


@parity("Macros", "typed macros in every value of a model")
def test_macros_work_in_every_value_of_a_model_and_keep_their_type() -> None:
    found = config("""
        macros: {N: 7, yes: true, who: Bob, none: disable, list: "top_k, top_p"}
        models:
          m:
            cmd: srv ${PORT}
            cmdStop: stop ${MODEL_ID}
            proxy: http://${who}:${PORT}
            checkEndpoint: /${who}/${PORT}
            name: by ${who}
            description: "${N}"
            aliases: ["${MODEL_ID}-${who}"]
            env: ["WHO=${who}", "PORT=${PORT}"]
            useModelName: "${who}/x"
            ttl: ${N}
            concurrencyLimit: "${N}"
            unlisted: ${yes}
            sleepMode: ${none}
            timeouts: {connect: "${N}"}
            filters:
              stripParams: "${list}"
              setParams: {n: "${N}", deep: [{who: "is ${who}"}]}
              setParamsByID: {"${MODEL_ID}:x": {n: "${N}"}}
            sleepEndpoints: [{endpoint: "/s?l=${N}", body: '{"p": ${PORT}}', timeout: "${N}"}]
            metadata: {n: "${N}", port: "${PORT}", text: "p${PORT}", on: "${yes}"}
    """).models["m"]
    assert (found.cmd_stop, found.proxy) == ("stop m", "http://Bob:5800")
    assert (found.check_endpoint, found.name, found.description) == ("/Bob/5800", "by Bob", "7")
    assert found.aliases == ("m-Bob", "m:x")
    assert found.env == ("WHO=Bob", "PORT=5800")
    assert (found.use_model_name, found.ttl_s, found.concurrency_limit) == ("Bob/x", 7, 7)
    assert (found.unlisted, found.can_sleep, found.timeouts.connect_s) == (True, False, 7)
    assert found.filters.strip_params == ("top_k", "top_p")
    assert found.filters.set_params == {"deep": [{"who": "is Bob"}], "n": 7}
    assert found.filters.set_params_by_id == {"m:x": {"n": 7}}
    (endpoint,) = found.sleep_endpoints
    assert (endpoint.endpoint, endpoint.body, endpoint.timeout_s) == ("/s?l=7", '{"p": 5800}', 7)
    assert found.metadata == {"n": 7, "port": 5800, "text": "p5800", "on": True}


WITH_MACROS = {
    "cmd: srv ${PORT} ${no}": "cmd",
    "cmdStop: stop ${no}": "cmdStop",
    "proxy: http://${no}": "proxy",
    "checkEndpoint: /${no}": "checkEndpoint",
    "filters: {stripParams: '${no}'}": "filters.stripParams",
    "sleepEndpoints: [{endpoint: '/${no}'}]": "sleepEndpoints[0].endpoint",
    "wakeEndpoints: [{endpoint: /x, body: '${no}'}]": "wakeEndpoints[0].body",
    "metadata: {a: {1: [x, '${no}']}}": "metadata.a.1[1]",
    "ttl: ${no}": "ttl",
}


def test_an_unknown_macro_is_an_error_where_it_always_was() -> None:
    for line, where in WITH_MACROS.items():
        cmd = "" if line.startswith("cmd:") else "cmd: srv ${PORT}\n    "
        found = problem(f"models:\n  m:\n    {cmd}{line}\n")
        assert found.startswith(f"models.m.{where}: unknown macro ${{no}}")


def test_elsewhere_an_unknown_macro_stays_as_it_is() -> None:
    text = """
        models:
          m: {cmd: "s ${PORT}", name: "a ${no}", env: ["A=${HOME}"],
              filters: {setParams: {t: "${no} x"}}}
    """
    found = config(text).models["m"]
    assert (found.name, found.env) == ("a ${no}", ("A=${HOME}",))
    assert found.filters.set_params == {"t": "${no} x"}
    for said, where in zip(advice(text), ("name", "env[0]", "filters.setParams.t"), strict=True):
        macro = "${HOME}" if where == "env[0]" else "${no}"
        assert said.startswith(f"models.m.{where}: unknown macro {macro};")


def test_environment_values_come_in_everywhere() -> None:
    found = config(
        """
        macros: {a: "${env.V}"}
        startPort: ${env.P}
        models:
          m:
            cmd: srv ${PORT} ${a} ${env.V}
            macros: {b: "${env.V}"}
            checkEndpoint: /${env.V}/${b}
            metadata: {v: "${env.V}", p: "${env.P}", q: ${env.P}}
        peers: {p: {proxy: "http://${env.V}", models: [x], apiKey: "${env.V}"}}
        apiKeys: [${env.V}, "static"]
        """,
        V="val",
        P="1000",
    )
    model, peer = found.models["m"], found.peers["p"]
    assert (model.cmd, model.check_endpoint) == ("srv 1000 val val", "/val/val")
    assert model.metadata == {"v": "val", "p": "1000", "q": 1000}
    assert (peer.proxy, peer.api_key) == ("http://val", "val")
    assert [key.key for key in found.api_keys] == ["val", "static"]


def test_a_missing_variable_is_one_problem_and_no_more() -> None:
    found = problems("""
        startPort: ${env.NO}
        apiKeys: ["${env.NO}"]
        macros: {a: "${env.NO}"}
        models: {m: {cmd: "${env.NO} ${no}", proxy: "http://${env.NO}", checkEndpoint: "${env.NO}"}}
        peers: {p: {proxy: "${env.NO}", models: [a]}}
    """)
    assert len(found) == 7
    assert all("environment variable NO is not set" in each for each in found)


def test_a_secret_of_the_environment_or_the_file_is_never_shown() -> None:
    of_environment = """
        startPort: ${env.S}
        uiOrigin: ${env.S}
        apiKeys: [{key: "${env.S} x", admin: "${env.S}"}]
        peers: {p: {proxy: "http://u:${env.S}@ h", models: "${env.S}", apiKey: ["${env.S}"]}}
        models: {m: {cmd: "srv ${PORT} --key ${env.S} ${no}", ttl: "${env.S}", env: "A=${env.S}"}}
    """
    of_file = """
        apiKeys: [s3cret with blank, {s3cret: x}, [s3cret], {key: s3cret, models: s3cret}]
        models: {m: {cmd: "s ${PORT}", env: KEY=s3cret}}
        peers: {p: {proxy: "http://u:s3cret@h:x", models: [a]}}
    """
    for text, count in ((of_environment, 9), (of_file, 7), ("apiKeys: s3cret", 1)):
        found = problems(text, S="s3cret")
        assert (len(found) >= count, "s3cret" in str(found)) == (True, False)
    words = advice("{logToStdout: '${env.S}', logLevel: '${env.S}'}", S="s3cret")
    assert (len(words), "s3cret" in str(words)) == (2, False)


def test_the_path_of_a_file_begins_in_the_folder_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / "admin").write_text("s3cret\n")
    file = tmp_path / "config.yaml"
    scoped = "{key: '${file.keys/admin}', admin: true}"
    file.write_text(f"apiKeys: [{scoped}, '${{file.${{env.DIR}}/admin}}']\n")
    found = load(file, environ={"DIR": str(tmp_path / "keys")})
    assert [key.key for key in found.api_keys] == ["s3cret"]
    assert found.key_variables == frozenset()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_bytes(b"\xff\xfe"), "is not UTF-8 text"),
        (lambda path: path.write_text("x" * 65537), "is larger than 64 kB"),
        (lambda path: path.mkdir(), "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: None, "cannot be read: No such file or directory"),
    ],
)
def test_a_file_without_a_value_is_told_with_its_reason(tmp_path: Path, make, reason: str) -> None:
    make(tmp_path / "key")
    (tmp_path / "config.yaml").write_text("apiKeys: ['${file.key}']\n")
    with pytest.raises(ConfigError, match=reason):
        load(tmp_path / "config.yaml")


OLD = """\
apiKeys:
  - key-of-the-admin-0123
models:
  a:
    cmd: serve --port ${PORT}
  b:
    cmd: serve --port ${PORT} --long
    ttl: 3600
  c:
    cmd: serve --port ${PORT}
"""


def refusal(text: str, old: str) -> tuple[Problem, ...]:
    try:
        loads(text, previous=loads(old))
    except ConfigError as error:
        return error.problems
    return ()


def refused(text: str, old: str = OLD) -> list[str]:
    return sorted(problem.where or "file" for problem in refusal(text, old))


def test_no_beginning_of_the_file_that_ends_within_a_line_is_taken_for_an_edit() -> None:
    for length in range(1, len(OLD)):
        text = OLD[:length]
        if not text.endswith("\n") and OLD[length] != "\n":
            assert refused(text), text


KEYS, MODELS = OLD[: OLD.index("models")], OLD[OLD.index("models") :]


@pytest.mark.parametrize("text", [OLD, MODELS + KEYS], ids=["keys first", "keys last"])
def test_no_beginning_of_the_file_takes_keys_or_all_models_away(text: str) -> None:
    old = loads(text)
    for length in range(len(text)):
        with contextlib.suppress(ConfigError):
            new = loads(text[:length], previous=old)
            assert (new.api_keys, bool(new.models)) == (old.api_keys, True), text[:length]


EDITS = {
    "": ["apiKeys", "models"],
    "apiKeys: [key-of-the-admin-0123]": ["models"],
    "models: {a: {cmd: x ${PORT}}}": ["apiKeys"],
    "models: {}": ["apiKeys"],
    "apiKeys: []\nmodels: {}": [],
    OLD.replace("  c:\n    cmd: serve --port ${PORT}\n", ""): [],
    OLD.partition("    ttl")[0]: [],
    OLD.replace("\n", "\r\n").partition("    ttl")[0]: [],
    OLD.partition("600")[0]: ["file"],
}


def test_only_what_says_so_empties() -> None:
    assert {text: refused(text) for text in EDITS} == EDITS
    assert refused("", "startPort: 1") == refused("models:", "models: {}") == []
    model = "models: {a: {cmd: x ${PORT}}}\nlogLevel: warn"
    assert refused(model, f"{model}ing") == [], "shortening the last line by hand is an edit"


def test_the_problem_says_what_to_do() -> None:
    models, keys = map(str, refusal("", OLD))
    assert "has 3" in models
    assert "models: {}" in models
    assert "has 1" in keys
    assert "apiKeys: []" in keys
    assert "key-of-the-admin" not in models + keys
