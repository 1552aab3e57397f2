"""Rows grouped by codes are grouped as pandas groups them."""

import numpy as np
import pandas as pd
import pytest

from sentiflow.metrics import sampling
from sentiflow.metrics.groupings import group_rows


def draw_sums(rng, num_rows, num_values, columns):
    keys = {
        "film": pd.array([f"film {number}" for number in rng.integers(0, num_values, num_rows)]),
        "week": pd.to_datetime("2024-01-01")
        + pd.to_timedelta(rng.integers(0, num_values, num_rows), unit="D"),
        "author": rng.integers(0, num_values, num_rows).astype(np.uint64),
    }
    frame = pd.DataFrame(keys)
    frame.loc[rng.random(num_rows) < 0.1, "week"] = pd.NaT
    names = pd.MultiIndex.from_tuples(columns)
    values = rng.integers(0, 9, (num_rows, len(columns))).astype(float)
    return pd.DataFrame(values, pd.MultiIndex.from_frame(frame), names)


@pytest.mark.parametrize("num_values", [3, 10_000])
def test_sums_are_merged_as_by_pandas(num_values):
    rng = np.random.default_rng(num_values)
    first = draw_sums(rng, 400, num_values, [("rows", 0), ("p", 0), ("p", 1)])
    second = draw_sums(rng, 30, num_values, [("rows", 0), ("w", 0)])
    second.index = second.index.reorder_levels(["author", "week", "film"])
    merged = sampling.merge_by([first, second], ["week", "film"])
    both = pd.concat([first.reset_index(), second.reset_index()]).fillna(
        {("p", 0): 0, ("p", 1): 0, ("w", 0): 0}
    )
    expected = both.groupby(["week", "film"])[[("rows", 0), ("p", 0), ("p", 1), ("w", 0)]].sum()
    assert merged.index.tolist() == expected.index.tolist()
    np.testing.assert_array_equal(merged.to_numpy(), expected.to_numpy())


def test_rows_without_a_value_are_the_last_group_of_all_keys():
    index = pd.MultiIndex.from_tuples([("b", None), ("a", 1.0), ("b", 2.0), ("b", None)])
    number, groups = group_rows([index.set_names(["film", "week"])])
    assert number.tolist() == [2, 0, 1, 2]
    assert groups.get_level_values("week").isna().tolist() == [False, False, True]


def test_many_keys_do_not_exceed_an_integer():
    rng = np.random.default_rng(0)
    keys = {f"key {number}": rng.integers(0, 2**40, 500) for number in range(12)}
    frame = pd.DataFrame(keys)
    frame = pd.concat([frame, frame])
    number, groups = group_rows([pd.MultiIndex.from_frame(frame)])
    expected = frame.groupby(list(frame)).ngroup()
    assert number.tolist() == expected.tolist()
    assert len(groups) == 500


def test_sums_that_are_zero_everywhere_are_left_out():
    columns = pd.MultiIndex.from_tuples([("rows", 0), ("wy", 0), ("wy", 1), ("p", 0), ("p", 1)])
    sums = pd.DataFrame([[1.0, 0, 0, 0, 0.5], [2.0, 0, 0, 0, 0]], columns=columns)
    assert list(sampling.leave_out_zeros(sums)) == [("rows", 0), ("p", 0), ("p", 1)]
