from llmsnap.config.macros import Macros
from llmsnap.config.models import PartialModel, draft
from llmsnap.config.nodes import Mapping, Report
from llmsnap.config.yaml import compose


def drafted(text: str) -> PartialModel:
    root = compose(f"m: {text}", {}, Report())
    assert isinstance(root, Mapping)
    macros = Macros({"srv": "run --port ${PORT}", "a": "${b}", "b": "${a}"})
    return draft("m", root.entries["m"], macros, Report())


def test_what_makes_the_process_is_known_without_its_port() -> None:
    found = drafted("{cmd: '${srv} -m  ${MODEL_ID}', env: ['P=${PORT}']}")
    assert found.blueprint == (
        *("http://localhost:${PORT}", "P=${PORT}", "\0"),
        *("run", "--port", "${PORT}", "-m", "m"),
    )
    assert found.wants_port
    assert found.has_words


def test_a_command_without_port_wants_none() -> None:
    assert not drafted("{cmd: srv, proxy: 'http://h:${PORT}'}").wants_port


def test_blanks_and_comments_do_not_change_the_process() -> None:
    assert drafted('{cmd: "a  b"}').blueprint == drafted('{cmd: "# x\\na\\nb"}').blueprint


def test_nonsense_is_left_to_the_reading_of_the_key() -> None:
    assert not drafted("{cmd: [a], env: x}").has_words
    assert not drafted("~").has_words
    assert drafted("{cmd: '${a}'}").has_words
