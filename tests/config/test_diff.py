from dataclasses import replace

from llmsnap.config.diff import Diff, changed_settings, compare
from llmsnap.config.keys import ConfigKey, Section
from llmsnap.config.kinds import Choices, Flag, Json, Number, Texts, Unsupported
from llmsnap.config.loader import loads
from llmsnap.config.model_settings import ModelConfig
from llmsnap.config.settings import MODEL, Config

OLD = """
models:
  a: {cmd: "s ${PORT} -m ${MODEL_ID}", proxy: "http://h:${PORT}", env: [A=1]}
  b: {cmd: "s ${PORT}"}
"""

# A change of a key of a model, where one cannot be told from its kind.
EDITS = {
    "cmd": '{cmd: "s ${PORT} -v", proxy: "http://h:${PORT}", env: [A=1]}',
    "proxy": '{cmd: "s ${PORT} -m a", proxy: "http://other:${PORT}", env: [A=1]}',
    "env": '{cmd: "s ${PORT} -m a", proxy: "http://h:${PORT}", env: [A=2]}',
    "timeouts": "{connect: 7}",
    "sleepMode": "enable, sleepEndpoints: [{endpoint: /s}], wakeEndpoints: [{endpoint: /w}]",
    "sleepEndpoints": "[{endpoint: /s}]",
    "wakeEndpoints": "[{endpoint: /w}]",
    "compat": "{ignoreWebsockets: true}",
    "engineEnv": "keep",
    "device": "gpu1",
    "filters": "{stripParams: x}",
    "hooks": "{beforeStop: [{endpoint: /s}]}",
    **dict.fromkeys(("memory", "asleepMemory"), "1GiB"),
}
UNTOUCHED = {"macros", "launcher"}  # macros alone change nothing; a launcher must exist


def edit(key: ConfigKey) -> str:
    """Another value of *key* than its default, as YAML."""
    found = EDITS.get(key.name, "/x")
    match key.kind:
        case _ if key.name in EDITS:
            pass
        case Flag(default=default):
            found = "false" if default else "true"
        case Number():
            found = "7"
        case Choices(words=words):
            found = f"[{words[0]}]"
        case Texts():
            found = "[x]"
        case Json():
            found = "{x-a: '1'}"
        case Section(keys=keys):
            name, first = next(iter(keys.items()))
            found = f"{{{name}: {edit(first)}}}"
    return found


KEYS = {
    key.name: key
    for key in MODEL.keys.values()
    if not isinstance(key.kind, Unsupported) and key.name not in UNTOUCHED
}


def reloaded(text: str, old: Config) -> Diff:
    return compare(old, loads(text, previous=old, environ={}))


def edited(key: str) -> str:
    value = edit(KEYS[key])
    if key in ("cmd", "proxy", "env"):
        return f"models:\n  a: {value}\n  b: {{cmd: 's ${{PORT}}'}}\n"
    return OLD.replace("env: [A=1]}", f"env: [A=1], {key}: {value}}}")


def test_each_key_is_hot_unless_it_makes_the_process() -> None:
    old = loads(OLD, environ={})
    for key in KEYS:
        found = reloaded(edited(key), old)
        restarts = MODEL.keys[key].restarts
        assert (found.restart, found.hot) == ((("a",), ()) if restarts else ((), ("a",))), key
        assert found.unchanged == ("b",)
        assert found.parts == ("residency",) * (key == "memory")  # it decides from now on


SAME_AS_OLD = [
    OLD,
    OLD.replace("s ${PORT} -m", "s   ${PORT}   -m"),
    OLD.replace('"s ${PORT} -m', '"# comment\\ns ${PORT} -m'),
    "macros: {unused: 1}\n" + OLD,
    "macros: {run: 's ${PORT}'}\n" + OLD.replace("s ${PORT}", "${run}"),
]


def test_what_comes_to_the_same_is_unchanged() -> None:
    for text in SAME_AS_OLD:
        found = reloaded(text, loads(OLD, environ={}))
        assert (bool(found), found.unchanged, str(found)) == (False, ("a", "b"), "nothing changed")


def test_another_first_port_moves_nobody() -> None:
    found = reloaded(f"{OLD}startPort: 9000\n", loads(OLD, environ={}))
    assert found == Diff(unchanged=("a", "b"), parts=("settings",))


def test_models_made_by_hand_are_compared_by_what_makes_their_process() -> None:
    old = ModelConfig(id="m", cmd="c", metadata={"x": 1})
    for change in ({"cmd": "d"}, {"launcher": "other"}):
        found = compare(Config(models={"m": old}), Config(models={"m": replace(old, **change)}))
        assert found.restart == ("m",)
    assert changed_settings(old, replace(old, metadata={"x": True}, ttl_s=5)) == ("metadata", "ttl")


SAME = ("a", "b")
OTHER_MODEL = "models: {c: {cmd: 's ${PORT}'}}"

OTHERS = {
    "groups: {g: {members: [a]}}": Diff(unchanged=SAME, parts=("groups",)),
    "peers: {p: {proxy: 'http://h', models: [x]}}": Diff(unchanged=SAME, parts=("peers",)),
    "hooks: {on_startup: {preload: [a]}}": Diff(unchanged=SAME, parts=("preload",)),
    "routing: {scheduler: {use: fifo}}": Diff(unchanged=SAME, parts=("scheduler",)),
    "logLevel: debug": Diff(unchanged=SAME, parts=("settings",)),
    "globalTTL: 5": Diff(hot=SAME, parts=("settings",)),  # for those who inherit it
    OLD + "  AAA: {cmd: 'n ${PORT}'}": Diff(unchanged=SAME, added=("AAA",)),  # the first port
    OTHER_MODEL: Diff(added=("c",), removed=SAME),
}


def test_other_parts_and_models_that_come_and_go_are_named() -> None:
    old = loads(OLD, environ={})
    found = {text: reloaded(text if "models:" in text[:9] else OLD + text, old) for text in OTHERS}
    assert found == OTHERS
    assert all(found.values())
    assert str(found[OTHER_MODEL]) == "added c; removed a, b"
