"""The chances of draws that are replayed."""

import numpy as np
import pytest

from sentiflow.metrics import drawing
from sentiflow.shares import draw_chances
from sentiflow.shares.draw_chances import CellCounts, DrawnGroups
from sentiflow.shares.kept_tables import KeptTables

NUM_GROUPS = 30
SIZES = (40, 25, 60, 500, 10)


def draw_cells(rng):
    """Draw cells of five draws; the rows of a group by city came at some of them."""
    first_draw = np.repeat(np.arange(len(SIZES)), NUM_GROUPS)
    city = np.tile(np.arange(NUM_GROUPS), len(SIZES))
    is_there = rng.random(len(city)) < 0.7
    counts = CellCounts(
        key=rng.permutation(len(city)).astype(np.uint64)[is_there],
        first_draw=first_draw[is_there],
        groups={"city": city[is_there].astype(np.uint64), "": np.zeros(is_there.sum(), np.uint64)},
        num_rows=rng.integers(1, 50, is_there.sum()),
    )
    merged = draw_chances.merge([counts])
    return merged.take(np.argsort(merged.first_draw, kind="stable"))


@pytest.mark.parametrize("by", [["city"] * 5, [""] * 5, ["city", "", "city", "city", ""]])
def test_chances_are_those_of_one_draw_after_the_other(by):
    counts = draw_cells(np.random.default_rng(3))
    draws = [DrawnGroups(size, key) for size, key in zip(SIZES, by, strict=True)]
    chances = draw_chances.Rates(KeptTables()).replay(counts, draws)
    found = list(chances)
    assert len(chances) == len(found) == len(draws)
    before = np.zeros(len(counts.key))
    for number, draw in enumerate(draws):
        there = counts.first_draw <= number
        num_rows = counts.num_rows[there].astype(float)
        group = counts.groups[draw.by][there].astype(int)
        group_rows = np.bincount(group, num_rows)[group]
        rate = drawing.find_rate(num_rows, group_rows, before[there], draw.size)
        least = drawing.find_least_chances(group_rows, rate)
        before[there] = np.maximum(before[there], least)
        np.testing.assert_allclose(found[number], before, rtol=1e-9)
        np.testing.assert_allclose(counts.num_rows @ found[number], sum(SIZES[: number + 1]))


def test_a_draw_of_more_rows_than_there_are_takes_all():
    counts = draw_cells(np.random.default_rng(4))
    draws = [DrawnGroups(10, "city"), DrawnGroups(10**6, "city")]
    _, found = draw_chances.Rates(KeptTables()).replay(counts, draws)
    assert (found == (counts.first_draw <= 1)).all()


def test_a_draw_before_any_rows_has_no_chances():
    counts = draw_cells(np.random.default_rng(5))
    later = counts.take(counts.first_draw > 0)
    first, second = draw_chances.Rates(KeptTables()).replay(later, [DrawnGroups(10, "city")] * 2)
    assert not first.any()
    np.testing.assert_allclose(later.num_rows @ second, 10)
