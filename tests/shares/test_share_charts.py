"""Plots of shares: what a line over time shows where there are no texts."""

import numpy as np
import pandas as pd
import pytest

from sentiflow.shares import share_charts


def make_lines(periods):
    share = np.full(len(periods), 0.5)
    columns = {"period": pd.to_datetime(periods), "share": share, "low": share, "high": share}
    return pd.DataFrame(columns)


def test_a_line_breaks_where_periods_have_no_texts():
    lines = make_lines(["2015-01-01", "2015-02-01", "2015-04-01", "2027-03-01"])
    broken = share_charts._break_line(lines, "month")
    missing = broken.loc[broken["share"].isna(), "period"]
    assert list(missing) == [pd.Timestamp("2015-03-01"), pd.Timestamp("2015-05-01")]
    whole = make_lines(["2015-01-26", "2015-02-02", "2015-02-09"])
    assert not share_charts._break_line(whole, "week")["share"].isna().any()


def test_a_point_without_neighbors_has_a_marker():
    share = pd.Series([0.5] * 50)
    share[[10, 12]] = np.nan
    assert share_charts._choose_marked(share) == [11]
    assert share_charts._choose_marked(share[:12]) == [*range(10), 11]


@pytest.mark.parametrize(
    ("unit", "frequency", "num_periods", "step"),
    [
        ("month", "MS", 1, 1),
        ("month", "MS", 7, 1),
        ("month", "MS", 8, 1),
        ("month", "MS", 9, 2),
        ("month", "MS", 13, 2),
        ("day", "D", 6, 1),
        ("day", "D", 7, 2),
        ("day", "D", 10, 3),
        ("day", "D", 61, 12),
        ("week", "W-MON", 53, 13),
        ("hour", "h", 24, 8),
    ],
)
def test_ticks_are_at_equal_distances_up_to_the_last_period(unit, frequency, num_periods, step):
    periods = pd.date_range("2026-01-05", periods=num_periods, freq=frequency)
    chosen = share_charts._choose_ticks(pd.Series(periods), unit)
    expected = periods[::-1][::step][::-1]
    assert list(chosen) == list(expected)
    assert 1 <= len(chosen) <= share_charts._MAX_TICKS[unit]


def test_periods_without_texts_count_between_ticks():
    periods = pd.Series(pd.to_datetime(["2026-01-01", "2026-02-01", "2026-04-01", "2026-05-01"]))
    chosen = share_charts._choose_ticks(periods, "month")
    assert list(chosen) == list(pd.date_range("2026-01-01", periods=5, freq="MS"))
