from collections.abc import Iterator

from llmsnap.config.nodes import MOST, MOST_CHARS, MOST_SUGGESTIONS, Report, Scalar, in_file_order


def test_problems_carry_path_and_place() -> None:
    report = Report()
    report.error(("models", "m", "ttl"), "is wrong", "mend it", Scalar("x", 3, 9, plain=True))
    (problem,) = report.problems
    assert str(problem) == "models.m.ttl: is wrong - mend it"
    assert (problem.line, problem.column) == (3, 9)


def test_a_report_does_not_grow_without_bound() -> None:
    report = Report()
    for number in range(MOST + 10):
        report.advise((), str(number))
    assert len(report.advice) == MOST


def test_problems_are_told_in_file_order_and_once() -> None:
    report = Report()
    for line in (9, 2, 9):
        report.error(("a",), "x", at=Scalar("", line, 1, plain=True))
    assert [problem.line for problem in in_file_order(report.problems)] == [2, 9]


def test_the_nearest_known_name_is_suggested() -> None:
    report = Report()
    known = ["concurrencyLimit", "ttl"]
    assert report.nearest("concurencylimit", known) == 'did you mean "concurrencyLimit"?'
    assert report.nearest("concurrency_limit", known) == 'did you mean "concurrencyLimit"?'
    assert report.nearest("xyzzy", known) == ""


def test_suggestions_end_at_some_point() -> None:
    report = Report()
    assert not [report.nearest("ttl", ["ttl"]) for _ in range(60)][-1]


def test_beyond_that_the_known_names_are_not_even_looked_at() -> None:
    report = Report()
    looked: list[str] = []

    def known() -> Iterator[str]:
        looked.append("at one")
        yield "ttl"

    for _ in range(1000):
        report.nearest("tll", known())
    assert len(looked) == MOST_SUGGESTIONS


def test_what_is_said_does_not_grow_with_the_names_it_quotes() -> None:
    report = Report()
    name = "x" * 1_000_000
    report.error(("models", name, name), f'"{name}" is no model', f'did you mean "{name}"?')
    assert len(str(report.problems[0])) <= 5 * MOST_CHARS


def test_api_keys_are_kept_out_of_paths() -> None:
    report = Report()
    report.error(("apiKeys", 0, "s3cret", "name"), "is wrong")
    assert report.problems[0].where == "apiKeys[0].(hidden).name"


def test_what_could_not_be_read_is_known_below_it_too() -> None:
    report = Report()
    report.error(("a", "b"), "is wrong")
    report.suppress(("c",))
    assert report.already_reported(("a", "b", 0, "x"))
    assert report.already_reported(("c",))
    assert not report.already_reported(("a", "x"))
