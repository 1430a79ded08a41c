"""Times of day, days of the week, and what is loaded when there are no requests."""

from datetime import time

from llmsnap.config import IdleHook, ScheduleEntry
from tests.config.reading import advice, config, problem

MODELS = "models: {a: {cmd: 'a ${PORT}', aliases: [also]}, b: {cmd: 'b ${PORT}'}}\n"

ENTRIES = {
    'at: "08:00", load: [a]': ScheduleEntry(time(8), frozenset(range(7)), ("a",)),
    "at: 08:30, load: [also, a]": ScheduleEntry(time(8, 30), frozenset(range(7)), ("a",)),
    'at: "23:00", days: "Mon-Wed, sun", unload: [b]': ScheduleEntry(
        time(23), frozenset({0, 1, 2, 6}), (), ("b",)
    ),
    'at: "7:05", days: sat-mon, load: [a], tz: Europe/Berlin': ScheduleEntry(
        time(7, 5), frozenset({5, 6, 0}), ("a",), tz="Europe/Berlin"
    ),
}


def test_an_entry_has_a_time_days_and_models() -> None:
    found = {written: config(f"{MODELS}schedule: [{{{written}}}]").schedule for written in ENTRIES}
    assert found == {written: (entry,) for written, entry in ENTRIES.items()}


ODD = [
    ('at: "24:00", load: [a]', "must be a time such as", problem),
    ("at: noon, load: [a]", "must be a time such as", problem),
    ('at: "08:00", days: mon-fry, load: [a]', "'mon-fry' is no day, nor a range of", problem),
    ('at: "08:00", tz: Middle/Earth, load: [a]', "'Middle/Earth' is no time zone", problem),
    ('at: "08:00"', "does nothing", advice),
    ('at: "08:00", load: [a, c]', '"c" is no model', advice),
]


def test_what_makes_no_sense_is_an_error_and_what_has_no_effect_is_advice() -> None:
    for written, said, tell in ODD:
        assert said in str(tell(f"{MODELS}schedule: [{{{written}}}]"))


def test_the_idle_hook_loads_models_after_ten_minutes() -> None:
    hooks = MODELS + "hooks: {on_idle: {%s}}"
    assert config(hooks % "load: [also, b]").on_idle == IdleHook(600.0, ("a", "b"))
    assert config(hooks % "after: 5").on_idle is None
