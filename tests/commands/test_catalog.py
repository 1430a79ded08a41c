from llmsnap.commands.catalog import COMMANDS, is_light


def test_each_command_has_a_parser_and_a_main() -> None:
    for name, command in COMMANDS.items():
        build, main = command.load()
        assert build().prog == f"llmsnap {name}"
        assert callable(main)


LIGHT = ["--version", "--listen :1 --help", "version", "ps --all", "load --help"]
HEAVY = ["", "load llama", "sim --port 1", "nonsense"]


def test_what_does_one_thing_after_the_other_needs_no_loop() -> None:
    assert [argv for argv in LIGHT + HEAVY if is_light(argv.split())] == LIGHT
