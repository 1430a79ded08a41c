import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmsnap.config.scalars import Timestamp, Value, render, resolve, yes_or_no

MEANINGS: list[tuple[str, Value]] = [
    ("", None),
    ("~", None),
    ("null", None),
    ("true", True),
    ("FALSE", False),
    ("yes", "yes"),
    ("on", "on"),
    ("text", "text"),
    ("0", 0),
    ("-7", -7),
    ("+7", 7),
    ("0o17", 15),
    ("017", 15),
    ("0x1F", 31),
    ("-0x1F", -31),
    ("0b11", 3),
    ("1_000", 1000),
    ("08", 8.0),
    ("1e3", 1000.0),
    ("1.50", 1.5),
    (".5", 0.5),
    ("1.", 1.0),
    ("18446744073709551615", 2**64 - 1),
    ("18446744073709551616", 18446744073709551616.0),
    ("1e999", "1e999"),
    ("1:30", "1:30"),
    ("-", "-"),
    ("1.2.3", "1.2.3"),
    (".inf", math.inf),
    ("-.inf", -math.inf),
    ("2026-02-03", Timestamp("2026-02-03T00:00:00Z")),
    ("2026-02-30", "2026-02-30"),
    ("2026-2-3 4:05:06.120", Timestamp("2026-02-03T04:05:06.12Z")),
    ("2026-02-03T14:05:09-05:00", Timestamp("2026-02-03T14:05:09-05:00")),
    ("2026-02-03T14:05:09Z", Timestamp("2026-02-03T14:05:09Z")),
    ("2026-02-03T14:05:09", "2026-02-03T14:05:09"),
]


@pytest.mark.parametrize(("text", "meaning"), MEANINGS)
def test_what_an_unquoted_scalar_means(text: str, meaning: Value) -> None:
    found = resolve(text)
    assert (found, type(found)) == (meaning, type(meaning))


def test_not_a_number_is_a_float() -> None:
    assert math.isnan(resolve(".nan"))  # type: ignore[arg-type]


@pytest.mark.parametrize(("text", "meaning"), [("yes", True), ("Off", False), ("maybe", None)])
def test_yes_and_no_are_known_where_a_boolean_is_expected(text: str, meaning: bool | None) -> None:
    assert yes_or_no(text) is meaning


RENDERED: list[tuple[Value, str]] = [
    ("as it is", "as it is"),
    (True, "true"),
    (False, "false"),
    (31, "31"),
    (0.7, "0.7"),
    (1.0, "1"),
    (1e3, "1000"),
    (123456.0, "123456"),
    (1000000.0, "1e+06"),
    (1234567.0, "1.234567e+06"),
    (100000000.0, "1e+08"),
    (1e20, "1e+20"),
    (0.00001, "1e-05"),
    (0.0001, "0.0001"),
    (3.14159265358979, "3.14159265358979"),
    (-2.5, "-2.5"),
    (0.0, "0"),
    (math.inf, "+Inf"),
    (-math.inf, "-Inf"),
    (math.nan, "NaN"),
    (None, ""),
]


@pytest.mark.parametrize(("value", "text"), RENDERED)
def test_how_a_value_is_written_into_text(value: Value, text: str) -> None:
    assert render(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_rendered_float_reads_back_as_itself(number: float) -> None:
    assert float(render(number)) == number


@given(st.text(alphabet="0123456789+-._eEoxXbB:TZ nulfa"))
def test_any_scalar_has_a_meaning(text: str) -> None:
    resolve(text)
