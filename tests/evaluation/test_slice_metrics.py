"""The metrics of a slice are right, and a slice is worse only beyond chance."""

import numpy as np
import pytest
import scipy.stats

from sentiflow.evaluation.slice_metrics import measure
from sentiflow.evaluation.slices import MIN_ROWS, SliceOfRows


def test_the_metrics_of_a_slice_equal_hand_counted_ones():
    label = np.array([1, 1, 0, 0, 1])
    prediction = np.array([1, 0, 0, 0, 0])
    probability = np.array([0.9, 0.4, 0.1, 0.2, 0.3])
    rows = np.array([True, True, True, False, False])
    (found,) = measure(
        [SliceOfRows.of("three", "", rows)],
        label=label,
        probability=probability,
        prediction=prediction,
    )
    assert (found.num_rows, found.fraction) == (3, 0.6)
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.difference == pytest.approx(2 / 3 - 1 / 2)
    assert found.positive_fraction == pytest.approx(2 / 3)
    assert found.mean_probability == pytest.approx(1.4 / 3)
    assert found.low < found.accuracy < found.high
    assert found.f1_macro == pytest.approx(2 / 3)
    assert found.labelled_shares == pytest.approx({"negative": 1 / 3, "positive": 2 / 3})
    assert found.predicted_shares == pytest.approx({"negative": 2 / 3, "positive": 1 / 3})
    name, *shares = found.widest_gap
    assert (name, shares) == ("negative", pytest.approx([1 / 3, 2 / 3]))


def test_the_worst_slice_stands_first_and_tiny_ones_last():
    right = np.repeat([1, 0, 1, 0], [80, 20, 70, 30])
    number = np.arange(200)
    found = measure(
        [
            SliceOfRows.of("better", "", number < 100),
            SliceOfRows.of("worse", "", number >= 100),
            SliceOfRows.of("tiny", "", number >= 200 - MIN_ROWS + 1),
            SliceOfRows.of("all", "", number >= 0),
        ],
        label=np.ones(200, int), probability=right * 0.9, prediction=right,
    )  # fmt: skip
    assert [item.name for item in found] == ["worse", "all", "better", "tiny"]
    assert found[1].difference is None
    assert [item.p_adjusted is None for item in found] == [False, True, False, True]


def test_a_slice_is_worse_only_beyond_chance_among_all_slices():
    """The whole interval of "some" is below the accuracy on all texts, which proves little."""
    right = np.repeat([1, 0, 1, 0], [72, 28, 760, 140])
    label, number = np.ones(1000, int), np.arange(1000)
    one = [SliceOfRows.of("some", "", number < 100)]
    others = [SliceOfRows.of(f"{k}", "", number % 20 == k) for k in range(20)]
    whole = {"label": label, "probability": right * 0.9, "prediction": right}
    (alone,) = measure(one, **whole)
    found = {item.name: item for item in measure(one + others, **whole)}
    assert alone.high < right.mean()
    assert alone.is_worse
    assert found["some"].p_adjusted == pytest.approx(21 * alone.p_adjusted)
    assert not found["some"].is_worse
    expected = scipy.stats.fisher_exact([[72, 28], [760, 140]]).pvalue
    assert alone.p_adjusted == pytest.approx(expected)


def test_a_candidate_of_a_search_is_compared_one_sided_among_the_rows_not_searched():
    right = np.repeat([1, 0, 1, 0, 1], [72, 28, 760, 140, 500])
    number = np.arange(1500)
    found = SliceOfRows.of("found", "", number < 100, among=number < 1000)
    whole = {"label": np.ones(1500, int), "probability": None, "prediction": right}
    (measured,) = measure([found], **whole)
    expected = scipy.stats.fisher_exact([[72, 28], [760, 140]], "less").pvalue
    assert measured.p_adjusted == pytest.approx(expected)
    assert (measured.fraction, measured.accuracy) == (0.1, 0.72)
    assert measured.difference == pytest.approx(0.72 - 760 / 900)
    better = SliceOfRows.of("better", "", (number >= 100) & (number < 200), among=number < 1000)
    measured = measure([found, better, SliceOfRows.of("named", "", number < 100)], **whole)
    assert [item.name for item in measured] == ["found", "named"]
    assert measured[0].p_adjusted == pytest.approx(2 * expected)


def test_a_candidate_that_is_worse_only_by_the_rows_of_another_is_left_out():
    number = np.arange(1000)
    right = number % 10 < np.where(number < 100, 4, 9)
    worse, more = (SliceOfRows.of(f"{n}", "", number < n, among=number >= 0) for n in (100, 150))
    whole = {"label": np.ones(1000, int), "probability": None, "prediction": right}
    assert [item.name for item in measure([more], **whole)] == ["150"]
    assert [item.name for item in measure([worse, more], **whole)] == ["100"]
