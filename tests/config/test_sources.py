"""Several files that make one configuration."""

from pathlib import Path
from textwrap import dedent

import pytest

from llmsnap.config import Config, Sources, load, load_with_advice
from llmsnap.errors import ConfigError
from tests.parity import parity

A = "models: {a: {cmd: 's ${PORT}'}}\n"
B = "models: {b: {cmd: 's ${PORT}'}}\n"


def written(folder: Path, **texts: str) -> Sources:
    """Write each text into a file of *folder*; one called ``main`` beside it, as ``-config``."""
    below = folder / "conf.d"
    below.mkdir(exist_ok=True)
    for name, text in texts.items():
        file = folder / "main.yaml" if name == "main" else below / f"{name}.yaml"
        file.write_text(dedent(text))
    return Sources(str(folder / "main.yaml") if "main" in texts else "", str(below))


def loaded(folder: Path, previous: Config | None = None, **texts: str) -> Config:
    return load(written(folder, **texts), environ={}, previous=previous)


def refusal(folder: Path, previous: Config | None = None, **texts: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(folder, previous, **texts)
    at = f"{folder}/conf.d/"
    return [
        f"{each.place(caught.value.source)}: {each}".replace(at, "").replace(f"{folder}/", "")
        for each in caught.value.problems
    ]


@parity("`-config-dir`", "mappings are merged, lists appended, equal values may be repeated")
def test_files_are_merged_in_the_order_of_their_names(tmp_path: Path) -> None:
    found = loaded(
        tmp_path,
        main="startPort: 7000\nmacros: {dir: /m}\nallowedHosts: [a.example]\n",
        x="startPort: 7000\nmodels: {b: {cmd: 's ${PORT} ${dir} ${more}'}}\nallowedHosts: [b.ex]\n",
        y="macros: {more: 5}\nmodels: {a: {cmd: 's ${PORT}'}}\ngroups: \nlogLevel: ~\n",
        z="groups: {g: {members: [a]}}\nlogLevel: warn\nmodels: \n",
        empty="# nothing\n",
    )
    commands = [(each.id, each.cmd) for each in found.models.values()]
    assert sorted(commands) == [("a", "s 7000"), ("b", "s 7001 /m 5")]
    assert found.allowed_hosts == ("a.example", "b.ex")
    assert (found.log_level, found.groups["g"].members) == ("warn", ("a",))
    assert found.source == f"{tmp_path}/main.yaml and {tmp_path}/conf.d"
    assert [Path(path).name for path, _ in found.texts] == [
        *("main.yaml", "empty.yaml", "x.yaml", "y.yaml", "z.yaml")
    ]


@parity(
    "`-config-dir`", "`*.yml` and `*.yaml` of the directory itself", "the same, hidden ones not"
)
def test_only_files_of_the_directory_itself_count(tmp_path: Path) -> None:
    sources = written(tmp_path, a=A)
    below = tmp_path / "conf.d"
    for name in ("b.yml", ".hidden.yaml", "b.yaml~", "c.txt"):
        (below / name).write_text(B)
    (below / "sub.yaml").mkdir()
    (below / "sub.yaml" / "d.yaml").write_text(B)
    assert [Path(path).name for path in sources.paths()] == ["a.yaml", "b.yml"]
    assert list(load(sources, environ={}).models) == ["a", "b"]


@parity(
    "`-config-dir`",
    "values that contradict each other, and entries given twice: the files are refused",
    "the same, with file, line and column of both",
)
@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        (A, f"x-y: 1\n{A}", "2:10: models.a: is in a.yaml, line 1 already - remove or rename one"),
        (
            f"{A}groups: {{g: {{}}}}",
            "groups:\n  g: {}",
            "2:3: groups.g: is in a.yaml, line 2 already",
        ),
        ("queueLimit: 6", "queueLimit: 7", "1:13: queueLimit: is 7 here, and 6 in a.yaml, line 1"),
        ("store: {maxRows: 5}", "store: []", "1:8: store: is a list here, and a mapping in"),
        ("macros: {k: s3cret}", "macros: {k: b}", "1:13: macros.k: has another value in a.yaml, l"),
        ("startPort: 0\n", "# x\nttl: [", "3:1: not valid YAML"),
        (A, "- a\n", "1:1: the file must be a mapping of keys"),
        (A, "models:\n  b:\n    cmd: s ${PORT}\n    ttl: soon\n", "4:10: models.b.ttl: must"),
        (A, "models: {b: {cmd: '${env.NO}'}}\n", "1:19: models.b.cmd: environment variable NO is"),
    ],
)
def test_a_contradiction_names_both_files(
    tmp_path: Path, first: str, second: str, problem: str
) -> None:
    found = refusal(tmp_path, a=f"{first}\n", b=f"{second}\n")
    assert any(each.startswith(f"b.yaml:{problem}") for each in found)
    assert "s3cret" not in str(found)


def test_problems_and_advice_of_all_files_are_told_at_once(tmp_path: Path) -> None:
    found = refusal(tmp_path, a="startPort: 0\n", b="queueLimit: 0\nx:\n", c="models: 5\n")
    places = ["a.yaml:1:12", "b.yaml:1:13", "c.yaml:1:9"]
    assert [each.partition(": ")[0] for each in found] == places
    sources = written(tmp_path, a=A, b="colour: red\n", c="")
    (advice,) = load_with_advice(sources, environ={}).advice
    assert (advice.place("?"), advice.where) == (f"{tmp_path}/conf.d/b.yaml:1:1", "colour")


def test_anchors_do_not_reach_over_files_and_merging_leaves_them_alone(tmp_path: Path) -> None:
    models = "models: {a: {cmd: 's ${PORT}', env: *e}, b: {cmd: 's ${PORT}', env: *e}}\n"
    texts = {"x-e: &e [A=1]\n": "x-e: [B=2]\n", "x-e: {e: &e [A=1]}\n": "x-e: {e: [B=2]}\n"}
    for first, second in texts.items():
        found = loaded(tmp_path, a=first + models, b=second)
        assert [each.env for each in found.models.values()] == [("A=1",), ("A=1",)]
    assert "alias *e is not defined" in refusal(tmp_path, b="models: *e\n")[0]


def test_a_file_of_a_value_begins_in_the_folder_of_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "key").write_text("below\n")
    (tmp_path / "key").write_text("above\n")
    found = loaded(tmp_path, main="apiKeys: ['${file.key}']\n", a="apiKeys: ['${file.key}']\n")
    assert [each.key for each in found.api_keys] == ["above", "below"]


def test_sources_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    assert "there is no *.yml or *.yaml file in" in refusal(tmp_path)[0]
    sources = written(tmp_path, a=A)
    inside = sources._replace(file=f"{sources.folder}/../conf.d/a.yaml")
    with pytest.raises(ConfigError, match=r"is in the directory .* too"):
        load(inside)
    with pytest.raises(ConfigError, match=r"there is no file no\.yaml"):
        load(sources._replace(file="no.yaml"))


def test_what_looks_cut_off_is_an_error_of_its_file(tmp_path: Path) -> None:
    block = "models:\n  b:\n    cmd: s ${PORT}\n    ttl: 300\n"
    before = loaded(tmp_path, main=A, b=block)
    (cut, *_) = refusal(tmp_path, before, main=A, b=block[:-5])
    assert cut.startswith("b.yaml:4:1: the file ends in the middle of a line")
    (tmp_path / "conf.d" / "b.yaml").unlink()
    (gone, *_) = refusal(tmp_path, before, main=A)
    assert "conf.d has no files, and the configuration in force has" in gone
