"""A time is read as a date, or else as seconds; what is neither is none."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from sentiflow.data import row_checks, time_findings, times
from sentiflow.data.table_files import TableFormat


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("20240131", "2024-01-31T00:00:00Z"), ("2024-01-31", "2024-01-31T00:00:00Z"),
        ("2024", "2024-01-01T00:00:00Z"), ("20240131T101500", "2024-01-31T10:15:00Z"),
        ("1706659200", "2024-01-31T00:00:00Z"), (" 1706659200.9 ", "2024-01-31T00:00:00Z"),
        ("20241399", "1970-08-23T06:36:39Z"), ("-86400", "1969-12-31T00:00:00Z"),
        ("now", None), ("today", None), ("NaT", None), ("", None), ("1e5", None),
    ],
)  # fmt: skip
def test_a_time_is_a_date_before_it_is_a_number_and_never_a_word(written, read):
    (found,) = times.parse(pa.array([written]), None).to_pylist()
    assert found == (read and datetime.fromisoformat(read))


DATES = (
    "%d.%m.%Y", "%d.%m.%y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y",
    "%d%m%Y", "%y%m%d", "%y.%m.%d", "%y-%m-%d", "%y. %m. %d.", "%d %b %Y", "%d %B %Y", "%d-%b-%y",
    "%B %d, %Y", "%Y년 %m월 %d일", "%Y年%m月%d日",
)  # fmt: skip
CLOCKS = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", ", %H:%M", ", %H:%M:%S")
FORMATS = [date + clock for date in DATES for clock in CLOCKS]


@pytest.mark.parametrize(
    "time_format",
    ["%a %b %d %H:%M:%S %z %Y", "%a %b %d %H:%M:%S %Y", *FORMATS[::3], "%d.%m.%y %H:%M:%S.%f%z"],
)
def test_each_format_reads_its_own_times_alone(time_format):
    days = [datetime(2024, 1 + n % 9, 13 + n % 15, 10 + n % 14, 20 + n, 30) for n in range(30)]
    days += [datetime(2019 + n % 6, 12, 31, 9, 5, 4, 300) for n in range(30)]
    written = [day.strftime(time_format.replace("%z", "+0000")) for day in days]
    (found,) = time_findings.find_formats(pa.array(written))
    expected = [day.replace(tzinfo=UTC, microsecond=0) for day in days]
    with_clock = "%M" in time_format
    if not with_clock:
        expected = [day.replace(hour=0, minute=0, second=0) for day in expected]
    read = times.parse(pa.array(written), found).to_pylist()
    if "%S" in time_format or not with_clock:
        assert read == expected
    assert [day.date() for day in read] == [day.date() for day in expected]


def test_of_the_two_formats_with_the_name_of_a_month_may_has_one():
    assert time_findings.find_formats(pa.array(["05 May 2024", "17 May 2024"])) == ["%d %b %Y"]
    assert time_findings.find_formats(pa.array(["05 May 2024", "17 June 2024"])) == ["%d %B %Y"]


def test_a_column_of_times_needs_no_reading():
    moments = [datetime.fromisoformat("2024-01-31T10:15:00.9+02:00"), None]
    rows = pa.table({"text": ["a", "b"], "time": pa.array(moments, pa.timestamp("us", "UTC"))})
    found = row_checks.check(rows, TableFormat(), row_checks.RowRules(required=("time",)))
    assert found["time"].to_pylist() == [datetime.fromisoformat("2024-01-31T08:15:00Z"), None]
    assert found["reason"].to_pylist() == [None, row_checks.NO_TIME]
