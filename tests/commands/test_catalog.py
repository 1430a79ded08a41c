import pytest

from llmsnap.commands.catalog import COMMANDS, is_light


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_parser_and_a_main(name: str) -> None:
    build, main = COMMANDS[name].load()
    assert build().prog == f"llmsnap {name}"
    assert callable(main)


@pytest.mark.parametrize(
    ("argv", "light"),
    [
        ([], False),
        (["--config", "x"], False),
        (["--version"], True),
        (["-version"], True),
        (["--listen", ":1", "--help"], True),
        (["version"], True),
        (["ps", "--all"], True),
        (["load", "llama"], False),
        (["load", "--help"], True),
        (["sim", "--port", "1"], False),
        (["nonsense"], False),
    ],
)
def test_what_does_one_thing_after_the_other_needs_no_loop(argv: list[str], light: bool) -> None:
    assert is_light(argv) is light
