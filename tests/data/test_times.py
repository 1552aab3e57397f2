"""A time is read as a date, or else as seconds; what is neither is none."""

from datetime import datetime

import pyarrow as pa
import pytest

from sentiflow.data import tweets
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
    (found,) = tweets.read_times(pa.array([written]), None).to_pylist()
    assert found == (read and datetime.fromisoformat(read))


def test_a_word_is_no_time_in_any_format():
    written = pa.array(["now", "today", "31/01/2024"])
    assert tweets.read_times(written, "%d/%m/%Y").is_null().to_pylist() == [True, True, False]


def test_a_column_of_times_needs_no_reading():
    moments = [datetime.fromisoformat("2024-01-31T10:15:00.9+02:00"), None]
    rows = pa.table({"text": ["a", "b"], "time": pa.array(moments, pa.timestamp("us", "UTC"))})
    found = tweets.check(rows, TableFormat(), tweets.RowRules(required=("time",)))
    assert found["time"].to_pylist() == [datetime.fromisoformat("2024-01-31T08:15:00Z"), None]
    assert found["reason"].to_pylist() == [None, tweets.NO_TIME]
