"""A format that does not fit the times of a column is an error; unusual times are told."""

import pyarrow as pa
import pytest

from sentiflow.data import time_faults

DAYS = [f"{day:02}/{month:02}/2024" for day in range(1, 29) for month in (1, 2, 3)]
MINUTES = [f"{day} 9:05" for day in DAYS]


@pytest.mark.parametrize(
    ("values", "time_format", "is_wrong", "expected"),
    [
        (DAYS, "%d/%m/%Y", False, ""),
        (DAYS, "%m/%d/%Y", True, "not '13/01/2024': write time_format: '%d/%m/%Y'"),
        (MINUTES, "%m/%d/%Y", True, "write time_format: '%d/%m/%Y %H:%M'"),
        (DAYS[:36], None, True, "write time_format: '%d/%m/%Y' or '%m/%d/%Y'"),
        (["2024-01-31"], "%d.%m.%Y", True, "write time_format: null"),
        (["31122024", "01022024"], None, True, "write time_format: '%d%m%Y'"),
        (["45322", "45323,25"], None, True, "reads 0 of 2 different times, but not '45322'"),
        (["soon 1", "2024-01-31"], None, False, "reads 1 of 2 different times, but not 'soon 1'"),
        (["now", "", None], "%d.%m.%Y", False, ""),
        (["1965", "19690720", "1899-12-31"], None, False,
         "of 3 times 3 are before 1990: '1899-12-31' is read as 31 December 1899"),
        (["2024-01-31", "2924-01-31"], None, False, "of 2 times 1 are in the future: '2924-01-31'"),
        (["1430", "0915"], None, True, "reads 0 of 2 different times, but not '1430'"),
        (["05 May 2024"] * 9, "%d %B %Y", False, ""),
        (["1706659200", "2024"], None, False, ""),
        (["1706659200", "2024", "-86400"], None, False, "of 3 times 1 are before 1990: '-86400'"),
        ([*DAYS, "31/13/2024"], "%d/%m/%Y", False, ""),
    ],
)  # fmt: skip
def test_a_format_that_misses_times_or_moves_their_months_is_found(
    values, time_format, is_wrong, expected
):
    fault, wrong = time_faults.find_fault(pa.array(values, pa.string()), time_format)
    assert wrong == is_wrong
    assert expected in fault
    assert bool(fault) == bool(expected)
