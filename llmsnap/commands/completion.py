"""``llmsnap completion SHELL``: a script that completes commands, options and models.

The script is generated from the parsers of the commands, so it is always up to date.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from llmsnap.commands.catalog import COMMANDS, Takes

ASK = "llmsnap ps --all --quiet 2>/dev/null"
# Model names come from a server and must never be executed, so no shell may expand them.
WANTS_FILE = ("FILE", "OLD")
WANTS_FOLDER = ("DIR",)


@dataclass(frozen=True, slots=True)
class Option:
    """One option: its spellings, its help text, and the kind of its value."""

    names: tuple[str, ...]
    about: str
    value: str = ""
    choices: tuple[str, ...] = ()


Write = Callable[[Sequence[Option], Mapping[str, Sequence[Option]]], str]
"""Returns a script, given the options of the server and of each command."""


def _words(options: Sequence[Option]) -> str:
    return " ".join(name for option in options for name in option.names)


# --- bash ----------------------------------------------------------------------------------------

_BASH = """\
_llmsnap_words() {{
    local word
    while IFS= read -r word; do
        if [[ $word == "$cur"* ]]; then COMPREPLY+=("$word"); fi
    done < <(printf '%s\\n' "$@")
}}
_llmsnap_options() {{
    if [[ $cur == -* ]]; then _llmsnap_words "$@"; fi
}}
_llmsnap_models() {{
    local word
    while IFS= read -r word; do
        if [[ $word == "$cur"* ]]; then COMPREPLY+=("$word"); fi
    done < <({ask})
}}
_llmsnap() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    COMPREPLY=()
    case $before in
{values}
    esac
    if [[ $COMP_CWORD -eq 1 && $cur != -* ]]; then
        _llmsnap_words {commands}
        return
    fi
    case ${{COMP_WORDS[1]}} in
{arguments}
        *) _llmsnap_options {server} ;;
    esac
}}
complete -o filenames -F _llmsnap llmsnap
"""


def bash(server: Sequence[Option], commands: Mapping[str, Sequence[Option]]) -> str:
    """Return the script for bash."""
    return _BASH.format(
        ask=ASK,
        values="\n".join(_bash_values([*server, *(o for each in commands.values() for o in each)])),
        commands=" ".join(commands),
        arguments="\n".join(
            f"        {name}) {_bash_argument(name)}_llmsnap_options {_words(options)} ;;"
            for name, options in commands.items()
        ),
        server=_words(server),
    )


def _bash_values(options: Sequence[Option]) -> Iterator[str]:
    """Yield a case for each kind of option value, which is then the only completion."""
    names: dict[str, list[str]] = {}
    for option in options:
        if option.value or option.choices:
            same = names.setdefault(_bash_value(option), [])
            same += [name for name in option.names if name not in same]
    for action, found in names.items():
        yield f"        {'|'.join(found)}) {action}; return ;;"


def _bash_value(option: Option) -> str:
    if option.choices:
        return f"_llmsnap_words {' '.join(option.choices)}"
    if option.value in WANTS_FILE:
        return 'COMPREPLY=($(compgen -f -- "$cur"))'
    return 'COMPREPLY=($(compgen -d -- "$cur"))' if option.value in WANTS_FOLDER else ":"


def _bash_argument(name: str) -> str:
    """Return the code that completes the arguments of command *name*."""
    match COMMANDS[name].takes:
        case Takes.NOTHING:
            return ""
        case Takes.FILES:
            return 'COMPREPLY=($(compgen -f -- "$cur")); '
        case Takes.SHELLS:
            return f"_llmsnap_words {' '.join(SCRIPTS)}; "
        case Takes.LOGS:
            return "_llmsnap_words proxy upstream; _llmsnap_models; "
        case Takes.MODELS:
            return "_llmsnap_models; "


# --- zsh -----------------------------------------------------------------------------------------

_ZSH = """\
#compdef llmsnap
_llmsnap_models() {{
    local -a names
    names=("${{(@f)$({ask})}}")
    compadd -a names
}}
_llmsnap_logs() {{
    compadd proxy upstream
    _llmsnap_models
}}
_llmsnap() {{
    local -a commands
    commands=(
{commands}
    )
    if (( CURRENT == 2 )) && [[ $PREFIX != -* ]]; then
        _describe command commands
        return
    fi
    case $words[2] in
{arguments}
        *) _arguments {server} ;;
    esac
}}
if [[ $funcstack[1] == _llmsnap ]]; then _llmsnap "$@"; else compdef _llmsnap llmsnap; fi
"""


def zsh(server: Sequence[Option], commands: Mapping[str, Sequence[Option]]) -> str:
    """Return the script for zsh, to be sourced or installed as ``_llmsnap`` in fpath."""
    return _ZSH.format(
        ask=ASK,
        commands="\n".join(f"        {_quoted(f'{n}:{COMMANDS[n].about}')}" for n in commands),
        arguments="\n".join(
            f"        {name}) shift words; (( CURRENT-- )); "
            f"_arguments {_zsh_options(options)}{_zsh_argument(name)} ;;"
            for name, options in commands.items()
        ),
        server=_zsh_options(server),
    )


def _zsh_options(options: Sequence[Option]) -> str:
    return " ".join(_quoted(spec) for option in options for spec in _zsh_specs(option))


def _zsh_specs(option: Option) -> Iterator[str]:
    about = option.about.replace("[", "(").replace("]", ")").replace(":", " ")
    for name in option.names:
        yield f"{name}[{about}]" + _zsh_value(option)


def _zsh_value(option: Option) -> str:
    if option.choices:
        return f":value:({' '.join(option.choices)})"
    if option.value in WANTS_FILE:
        return ":file:_files"
    if option.value in WANTS_FOLDER:
        return ":folder:_files -/"
    return ":value: " if option.value else ""


def _zsh_argument(name: str) -> str:
    match COMMANDS[name].takes:
        case Takes.NOTHING:
            return ""
        case Takes.FILES:
            return " '1:file:_files'"
        case Takes.SHELLS:
            return f" '1:shell:({' '.join(SCRIPTS)})'"
        case Takes.LOGS:
            return " '1:log:_llmsnap_logs'"
        case Takes.MODELS:
            return " '1:model:_llmsnap_models'"


# --- fish ----------------------------------------------------------------------------------------


def fish(server: Sequence[Option], commands: Mapping[str, Sequence[Option]]) -> str:
    """Return the script for fish."""
    first = "__fish_is_nth_token 1"
    lines = ["complete -c llmsnap -f"]
    for name in commands:
        about = _quoted(COMMANDS[name].about)
        lines.append(f"complete -c llmsnap -n '{first}' -a {name} -d {about}")
    alone = _quoted(f"not __fish_seen_subcommand_from {' '.join(commands)}")
    lines += [_fish_option(alone, option) for option in server]
    for name, options in commands.items():
        seen = _quoted(f"__fish_seen_subcommand_from {name}")
        lines += [_fish_option(seen, option) for option in options]
        lines += _fish_argument(seen, name)
    return "\n".join(lines) + "\n"


def _fish_option(condition: str, option: Option) -> str:
    words = [f"complete -c llmsnap -n {condition}"]
    words += [f"-l {n[2:]}" if n.startswith("--") else f"-s {n[1:]}" for n in option.names]
    if option.choices:
        words.append(f"-x -a {_quoted(' '.join(option.choices))}")
    elif option.value:
        words.append("-r -F" if option.value in (*WANTS_FILE, *WANTS_FOLDER) else "-x")
    return " ".join([*words, f"-d {_quoted(option.about)}"])


def _fish_argument(condition: str, name: str) -> list[str]:
    takes = COMMANDS[name].takes
    start = f"complete -c llmsnap -n {condition}"
    if takes is Takes.NOTHING:
        return []
    if takes is Takes.FILES:
        return [f"{start} -F"]
    names = {Takes.SHELLS: " ".join(SCRIPTS), Takes.LOGS: f"proxy upstream ({ASK})"}
    return [f"{start} -a {_quoted(names.get(takes, f'({ASK})'))}"]


def _quoted(text: str) -> str:
    """Return *text* quoted as one word for any of the shells."""
    return "'" + text.replace("'", "'\\''") + "'"


SCRIPTS: dict[str, Write] = {"bash": bash, "zsh": zsh, "fish": fish}


DESCRIPTION = "Print a script that completes llmsnap's commands, options and models."
EPILOG = (
    "bash: source <(llmsnap completion bash) in ~/.bashrc; "
    "zsh: source <(llmsnap completion zsh) in ~/.zshrc, after compinit; "
    "fish: llmsnap completion fish > ~/.config/fish/completions/llmsnap.fish"
)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command's arguments."""
    parser = argparse.ArgumentParser(
        prog="llmsnap completion", description=DESCRIPTION, epilog=EPILOG
    )
    parser.add_argument("shell", choices=sorted(SCRIPTS), help="the shell")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run the command with its own arguments; return the exit code."""
    args = build_parser().parse_args(argv)
    from llmsnap.cli import build_parser as build_server_parser  # noqa: PLC0415 - it imports us

    sys.stdout.write(SCRIPTS[args.shell](_options(build_server_parser()), _all_commands()))
    return 0


def _all_commands() -> dict[str, list[Option]]:
    return {name: _options(command.load()[0]()) for name, command in COMMANDS.items()}


def _options(parser: argparse.ArgumentParser) -> list[Option]:
    """Return the options of *parser*, for which argparse has no public accessor."""
    return [
        Option(
            tuple(action.option_strings),
            (action.help or "").partition(" (")[0].partition(":")[0].partition(";")[0],
            "" if action.nargs in (0, "?") else str(action.metavar or action.dest.upper()),
            tuple(map(str, action.choices or ())),
        )
        for action in parser._actions  # noqa: SLF001 - see above
        if action.option_strings and action.help != argparse.SUPPRESS
    ]
