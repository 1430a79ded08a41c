from datetime import UTC, datetime, timedelta, timezone

import pytest

from llmsnap.logs.timeformat import format_time, is_time_format

EST = timezone(timedelta(hours=-5), "EST")
INSTANT = datetime(2026, 2, 3, 14, 5, 9, 120034, EST)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ansic", "Tue Feb  3 14:05:09 2026"),
        ("unixdate", "Tue Feb  3 14:05:09 EST 2026"),
        ("rubydate", "Tue Feb 03 14:05:09 -0500 2026"),
        ("rfc822", "03 Feb 26 14:05 EST"),
        ("rfc822z", "03 Feb 26 14:05 -0500"),
        ("rfc850", "Tuesday, 03-Feb-26 14:05:09 EST"),
        ("rfc1123", "Tue, 03 Feb 2026 14:05:09 EST"),
        ("rfc1123z", "Tue, 03 Feb 2026 14:05:09 -0500"),
        ("rfc3339", "2026-02-03T14:05:09-05:00"),
        ("rfc3339nano", "2026-02-03T14:05:09.120034-05:00"),
        ("kitchen", "2:05PM"),
        ("stamp", "Feb  3 14:05:09"),
        ("stampmilli", "Feb  3 14:05:09.120"),
        ("stampmicro", "Feb  3 14:05:09.120034"),
        ("stampnano", "Feb  3 14:05:09.120034000"),
        (" RFC3339 ", "2026-02-03T14:05:09-05:00"),
        ("", ""),
        ("iso8601", ""),
    ],
)
def test_each_format(name, text):
    assert format_time(name, INSTANT.timestamp(), EST) == text
    assert is_time_format(name) is bool(text)


@pytest.mark.parametrize(
    ("name", "when", "text"),
    [
        ("rfc3339", datetime(2026, 2, 13, 0, 5, 9, tzinfo=UTC), "2026-02-13T00:05:09Z"),
        ("rfc3339nano", datetime(2026, 2, 13, 0, 5, 9, tzinfo=UTC), "2026-02-13T00:05:09Z"),
        ("rfc3339nano", datetime(2026, 2, 13, 0, 5, 9, 500000, UTC), "2026-02-13T00:05:09.5Z"),
        ("ansic", datetime(2026, 2, 13, 0, 5, 9, tzinfo=UTC), "Fri Feb 13 00:05:09 2026"),
        ("kitchen", datetime(2026, 2, 13, 0, 5, tzinfo=UTC), "12:05AM"),
        ("kitchen", datetime(2026, 2, 13, 12, 5, tzinfo=UTC), "12:05PM"),
    ],
)
def test_edges(name, when, text):
    assert format_time(name, when.timestamp(), UTC) == text


def test_the_local_zone_is_the_default():
    seconds = INSTANT.timestamp()
    assert format_time("rfc3339", seconds) == format_time(
        "rfc3339", seconds, datetime.now().astimezone().tzinfo
    )
