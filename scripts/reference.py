"""Generates schema, tables and example from the declared configuration keys.

python -m scripts.reference        writes conf/config-schema.json, the tables of
                                   docs/configuration.md and conf/llmsnap.example.yaml
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from llmsnap.config.keys import ConfigKey, Section, SectionOrFalse, Sections
from llmsnap.config.kinds import (
    Choice,
    Choices,
    Duration,
    Flag,
    Json,
    Kind,
    Number,
    Patterns,
    RawNode,
    Size,
    Texts,
    Unsupported,
    Words,
)
from llmsnap.config.schema import described_keys, json_schema, plain_default
from llmsnap.config.settings import EACH, TOP

ROOT = Path(__file__).parent.parent
SCHEMA = ROOT / "conf" / "config-schema.json"
DOCUMENT = ROOT / "docs" / "configuration.md"
EXAMPLE = ROOT / "conf" / "llmsnap.example.yaml"


def main() -> None:
    """Write them all."""
    SCHEMA.write_text(schema(), encoding="utf-8")
    DOCUMENT.write_text(document(), encoding="utf-8")
    EXAMPLE.write_text(example(), encoding="utf-8")


def schema() -> str:
    """Return the JSON schema as it is published."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


# --- tables of the documentation -----------------------------------------------------------------

BEGIN = "<!-- Tables drawn from the declared keys: `make docs` -->\n"
END = "<!-- End of the tables. -->\n"
TABLES = {
    "Top level": TOP,
    "A model: `models.<id>`": EACH["model"],
    "A group: `groups.<id>`": EACH["group"],
    "A matrix: `matrix`": EACH["matrix"],
    "Memory: `memory`, beside the devices": EACH["memory"],
    "A peer: `peers.<id>`": EACH["peer"],
    "A launcher: `launchers.<name>`": EACH["launcher"],
    "A selector: `selectors.<id>`": EACH["selector"],
    "A profile: `profiles.<name>`": EACH["profile"],
    "A key with limits: `apiKeys[]`": EACH["apiKey"],
}


def document() -> str:
    """Return the document with its tables updated."""
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n".join(table(title, section) for title, section in TABLES.items())
    return f"{before}{BEGIN}\n{tables}\n{END}{after}"


def table(title: str, section: Section) -> str:
    """Return the table of a section."""
    lines = [f"### {title}\n", "| Key | Value | Default | Meaning |", "|---|---|---|---|"]
    return "\n".join([*lines, *_rows(section, "", set()), ""])


def _rows(section: Section, prefix: str, described: set[int]) -> Iterator[str]:
    for key in described_keys(section):
        name = f"{prefix}{key.name}"
        cells = (f"`{name}`", _values(key), _shown_default(key), _meaning(key))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
        below, separator = _below(key.kind)
        if below and key.live is not None and id(below) not in described:
            described.add(id(below))  # documented once: the other place has the same keys
            yield from _rows(below, f"{name}{separator}", described)


def _below(kind: Kind) -> tuple[Section | None, str]:
    if isinstance(kind, Sections):
        return kind.section, "[]."
    return (kind, ".") if isinstance(kind, Section) else (None, "")


_VALUES: dict[type[Kind], str] = {
    Flag: "true, false",
    Duration: "duration",
    Size: "size",
    **dict.fromkeys([Texts, Patterns, Sections], "list"),
    **dict.fromkeys([Section, Json, RawNode], "mapping"),
    SectionOrFalse: "`false`, mapping",
    Unsupported: "",
}


def _values(key: ConfigKey) -> str:
    match key.kind:
        case Choice():
            return ", ".join(f"`{word}`" if word else "empty" for word in _words(key))
        case Words(meanings=words):
            return f"{', '.join(f'`{word}`' for word in words)}, or several"
        case Choices(words=words):
            return f"list of {', '.join(f'`{word}`' for word in words)}"
        case Number(whole=whole):
            unit = f" of {key.unit}" if key.unit else ""
            return f"{'whole number' if whole else 'number'}{unit}"
        case RawNode(each="apiKey"):
            return "list"
    return _VALUES.get(type(key.kind), "text")


def _words(key: ConfigKey) -> list[str]:
    """Return the useful words among those that the loader accepts."""
    if isinstance(key.kind, Choices):
        return list(key.kind.words)
    if isinstance(key.kind, Words):
        return list(key.kind.meanings)
    (choice, *_) = key.schema.get("anyOf", [{}])
    words: list[str] = choice.get("enum") or list(getattr(key.kind, "words", ()))
    return words


def _shown_default(key: ConfigKey) -> str:
    default = _default(key)
    return f"`{default}`" if default else ""


def _default(key: ConfigKey) -> str:
    """Return the default as it is written; empty when there is none, or the text speaks of it."""
    default = plain_default(key)
    if default in (None, "", [], {}) or "Default:" in key.text:
        return ""
    return json.dumps(default).strip('"')


def _meaning(key: ConfigKey) -> str:
    required = " Required." if key.required else ""
    return key.text + required + (" Changing it replaces the process." if key.restarts else "")


# --- the commented example -----------------------------------------------------------------------

WIDTH = 100
HEADER = """\
# yaml-language-server: $schema=config-schema.json
#
# llmsnap: every setting, with what it does and its default. Written by `make docs`.
#
# Only `models` is needed. A file this small works:
#
#   models:
#     llama:
#       cmd: llama-server --port ${PORT} -m /models/llama-8b.gguf
#
# `llmsnap check FILE` tells what is wrong with a file, and where.
# Configurations of llmsnap and llama-swap are read as they are.
"""
SAMPLES = {
    "model": "llama",
    "group": "small-helpers",
    "peer": "workstation",
    "launcher": "farm",
    "selector": "chat",
    "profile": "everyday",
}
MORE_MODELS = """\
  # A model that sleeps: vLLM gives its GPU memory back and keeps the rest for a quick return.
  qwen:
    cmd: vllm serve Qwen/Qwen3-8B --port ${PORT} --enable-sleep-mode
    env:
      - VLLM_SERVER_DEV_MODE=1
    sleepMode: enable
    sleepAfter: 300
    sleepEndpoints:
      - endpoint: /sleep?level=1
        timeout: 30
    wakeEndpoints:
      - endpoint: /wake_up
        timeout: 60

  # A model in a container: stop it by its name.
  embedding:
    cmd: |
      docker run --rm --init --name ${MODEL_ID} -p ${PORT}:8080 -v /models:/models
      ghcr.io/ggml-org/llama.cpp:server
      --model /models/nomic-embed-text-v1.5.gguf --embeddings
    cmdStop: docker stop ${MODEL_ID}
"""
PLAIN_API_KEY = "- ${file./etc/llmsnap/admin-key} # a text: may do everything"


class _Dumper(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless  # entries of a list stand deeper than their key
        super().increase_indent(flow, False)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def example() -> str:
    """Return a configuration with every key in use, explained."""
    lines = [HEADER.rstrip("\n")]
    for key in TOP.keys.values():
        if key.heading:
            lines += ["", f"# --- {key.heading} ".ljust(WIDTH - 1, "-")]
        entry = list(_entry(key))
        lines += ["", *entry] if entry else []
        if key.name == "models":
            lines += ["", *MORE_MODELS.rstrip("\n").split("\n")]
    return "\n".join(lines) + "\n"


def _entry(key: ConfigKey) -> Iterator[str]:
    """Yield the lines that explain *key*, and those that set it, without indentation."""
    if key.deprecated or key.live is None or isinstance(key.kind, Unsupported):
        return
    yield from textwrap.wrap(
        _explanation(key),
        WIDTH - 12,
        initial_indent="# ",
        subsequent_indent="# ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    for line in _setting(key):
        yield line if key.live else f"# {line}".rstrip()


def _explanation(key: ConfigKey) -> str:
    words = [word for word in _words(key) if word]
    among = (
        f" One of {', '.join(words)}." if not all(f"`{word}`" in key.text for word in words) else ""
    )
    default = _default(key)
    return _meaning(key) + among + (f" Default: {default}" if default else "")


def _setting(key: ConfigKey) -> Iterator[str]:
    kind = key.kind
    section = kind.section if isinstance(kind, Sections) and key.example is None else None
    if isinstance(kind, RawNode) and kind.each and key.example is None:
        section = EACH[kind.each]
    if isinstance(kind, RawNode) and kind.one and key.example is None:
        kind = EACH[kind.one]
    if isinstance(kind, Section):
        yield f"{key.name}:"
        yield from _indented(_entries(kind))
    elif section is None:
        value = plain_default(key) if key.example is None else key.example
        yield from _yaml({key.name: value})
    elif isinstance(kind, Sections) or section is EACH["apiKey"]:
        yield f"{key.name}:"
        if section is EACH["apiKey"]:
            yield f"  {PLAIN_API_KEY}"
        yield from _list_entry(section)
    else:
        yield f"{key.name}:"
        yield f"  {SAMPLES[kind.each]}:" if isinstance(kind, RawNode) else ""
        yield from _indented(_indented(_entries(section, spaced=True)))


def _entries(section: Section, *, spaced: bool = False) -> Iterator[str]:
    for number, key in enumerate(section.keys.values()):
        entry = list(_entry(key))
        if spaced and number and entry:
            yield ""
        yield from entry


def _list_entry(section: Section) -> Iterator[str]:
    """Yield the lines of a list with one entry: the first line that sets something begins it."""
    begun = False
    for line in _entries(section):
        yield f"    {line}" if begun or line.startswith("#") else f"  - {line}"
        begun = begun or not line.startswith("#")


def _indented(lines: Iterator[str]) -> Iterator[str]:
    return (f"  {line}" if line else line for line in lines)


def _yaml(value: Any) -> list[str]:
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=1000, allow_unicode=True)
    return str(text).rstrip("\n").split("\n")


if __name__ == "__main__":
    main()
