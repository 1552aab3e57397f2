"""A time is read as a date, or else as seconds; what is neither is none."""

from datetime import datetime

import pyarrow as pa
import pytest

from sentiflow.data import row_checks, times
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


DAYS = [f"{day:02}/{month:02}/2024" for day in range(1, 29) for month in (1, 2, 3)]
CLOCKS = [f"{day} 9:05" for day in DAYS]


@pytest.mark.parametrize(
    ("values", "time_format", "is_wrong", "expected"),
    [
        (DAYS, "%d/%m/%Y", False, ""),
        (DAYS, "%m/%d/%Y", True, "not '13/01/2024': write time_format: '%d/%m/%Y'"),
        (CLOCKS, "%m/%d/%Y", True, "write time_format: '%d/%m/%Y %H:%M'"),
        (DAYS[:36], None, True, "write time_format: '%d/%m/%Y' or '%m/%d/%Y'"),
        (["2024-01-31"], "%d.%m.%Y", True, "write time_format: null"),
        (["31122024", "01022024"], None, True, "write time_format: '%d%m%Y'"),
        (["45322", "45323,25"], None, True, "reads 0 of 2 different times, but not '45322'"),
        (["soon 1", "2024-01-31"], None, False, "reads 1 of 2 different times, but not 'soon 1'"),
        (["now", "", None], "%d.%m.%Y", False, ""),
        (["1965", "19690720", "1899-12-31"], None, False, ""),
        (["1430", "0915"], None, True, "reads 0 of 2 different times, but not '1430'"),
        (["05 May 2024"] * 9, "%d %B %Y", False, ""),
        (["1706659200", "2024", "-86400"], None, False, ""),
        ([*DAYS, "31/13/2024"], "%d/%m/%Y", False, ""),
    ],
)  # fmt: skip
def test_a_format_that_misses_times_or_moves_their_months_is_found(
    values, time_format, is_wrong, expected
):
    fault, wrong = times.find_fault(pa.array(values, pa.string()), time_format)
    assert wrong == is_wrong
    assert expected in fault
    assert bool(fault) == bool(expected)


@pytest.mark.parametrize("time_format", times.FORMATS[::4])
def test_each_format_reads_its_own_times_alone(time_format):
    days = [datetime(2024, 1 + n % 9, 13 + n % 15, 10 + n % 14, 20 + n, 30) for n in range(30)]
    written = [day.strftime(time_format.replace("%z", "+0000")) for day in days]
    assert times.find_formats(pa.array(written)) == [time_format]


def test_of_the_two_formats_with_the_name_of_a_month_may_has_one():
    assert times.find_formats(pa.array(["05 May 2024", "17 May 2024"])) == ["%d %b %Y"]
    assert times.find_formats(pa.array(["05 May 2024", "17 June 2024"])) == ["%d %B %Y"]


def test_a_column_of_times_needs_no_reading():
    moments = [datetime.fromisoformat("2024-01-31T10:15:00.9+02:00"), None]
    rows = pa.table({"text": ["a", "b"], "time": pa.array(moments, pa.timestamp("us", "UTC"))})
    found = row_checks.check(rows, TableFormat(), row_checks.RowRules(required=("time",)))
    assert found["time"].to_pylist() == [datetime.fromisoformat("2024-01-31T08:15:00Z"), None]
    assert found["reason"].to_pylist() == [None, row_checks.NO_TIME]
