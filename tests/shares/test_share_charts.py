"""Plots of shares: what a line over time shows where there are no texts."""

import numpy as np
import pandas as pd

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


def test_ticks_are_spread_over_the_time_and_name_the_first_and_the_last_period():
    periods = pd.Series(pd.to_datetime(["2015-01-01", "2015-02-01", "2015-03-01", "2027-03-01"]))
    chosen = share_charts._choose_ticks(periods, 6)
    assert list(chosen) == [periods[0], periods[3]]
    even = pd.Series(pd.date_range("2015-01-01", periods=61, freq="D"))
    assert list(share_charts._choose_ticks(even, 6)) == list(even[::12])
    assert list(share_charts._choose_ticks(even[:1], 6)) == [even[0]]
    months = pd.Series(pd.date_range("2015-01-01", periods=6, freq="MS"))
    assert list(share_charts._choose_ticks(months, 6)) == list(months)
