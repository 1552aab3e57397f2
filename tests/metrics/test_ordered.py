"""Metrics of ordered classes equal scikit-learn's, and their intervals hold the truth."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score, mean_absolute_error

from sentiflow.data.ratings import average_values, find_medians
from sentiflow.metrics import ordered
from sentiflow.metrics.classification import find_intervals, measure
from sentiflow.metrics.predicted import Predicted
from sentiflow.metrics.registry import METRICS

NAMES = ("mae", "mae_expected_rating", "quadratic_kappa")


def make_rows(num_rows=500, values=(1, 2, 3, 4, 5), seed=0, noise=1.0):
    """Make rows whose probabilities say something about the label."""
    generator = np.random.default_rng(seed)
    size = len(values)
    label = generator.integers(0, size, num_rows)
    places = np.arange(size)
    logits = -np.abs(places - label[:, None]) + noise * generator.normal(size=(num_rows, size))
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return Predicted(
        classes=tuple(f"class {value}" for value in values),
        label=label,
        prediction=probabilities.argmax(axis=1),
        probabilities=probabilities.astype(np.float32),
        class_values=tuple(map(float, values)),
    )


@pytest.mark.parametrize("values", [(1, 2, 3, 4, 5), (5, 4, 3, 2, 1), (0.5, 1, 1.5)])
def test_the_metrics_of_ratings_are_those_of_sklearn(values):
    rows = make_rows(values=values)
    found = measure(rows).values
    label = np.array(values)[rows.label]
    median = np.array(values)[find_medians(rows.probabilities)]
    mean = rows.probabilities.astype(float) @ np.array(values)
    assert found["mae"] == pytest.approx(mean_absolute_error(label, median))
    assert found["mae_expected_rating"] == pytest.approx(mean_absolute_error(label, mean))
    kappa = cohen_kappa_score(
        2 * label, 2 * median, weights="quadratic", labels=np.sort(2 * np.array(values))
    )
    assert found["quadratic_kappa"] == pytest.approx(kappa)


def test_classes_without_an_order_have_no_such_metric():
    rows = replace(make_rows(), class_values=None)
    assert not set(NAMES) & measure(rows).values.keys()
    assert {metric.name for metric in METRICS if metric.of_ordered} == set(NAMES)


def test_the_median_has_the_least_absolute_error_and_the_mean_the_least_squared_one():
    generator = np.random.default_rng(1)
    probabilities = generator.dirichlet(np.ones(5), 200)
    values = np.array([1, 2, 4, 7, 10])
    distance = np.abs(values[:, None] - values)
    expected = (probabilities @ distance).argmin(axis=1)
    np.testing.assert_array_equal(find_medians(probabilities), expected)
    np.testing.assert_allclose(average_values(probabilities, values), probabilities @ values)


def test_a_label_without_a_number_is_left_out_and_a_class_out_of_order_changes_nothing():
    rows = make_rows()
    more = replace(
        rows,
        classes=(*rows.classes, "broken"),
        label=np.where(np.arange(500) < 100, 5, rows.label),
        probabilities=np.column_stack([rows.probabilities, np.zeros(500, np.float32)]),
        class_values=(*rows.class_values, math.nan),
    )
    kept = np.arange(500) >= 100
    rest = Predicted(
        rows.classes,
        rows.label[kept],
        rows.prediction[kept],
        rows.probabilities[kept],
        class_values=rows.class_values,
    )
    order = np.array([3, 0, 1, 2, 4])
    place = np.argsort(order)
    moved = Predicted(
        tuple(rest.classes[code] for code in order),
        place[rest.label],
        place[rest.prediction],
        rest.probabilities[:, order],
        class_values=tuple(rest.class_values[code] for code in np.array([0, 1, 2, 3, 4])[order]),
    )
    assert moved.class_values[0] > moved.class_values[1]
    for name in NAMES:
        assert measure(more).values[name] == pytest.approx(measure(rest).values[name])
        assert measure(moved).values[name] == pytest.approx(measure(rest).values[name], abs=2e-3)


def test_intervals_hold_the_truth_of_many_rows():
    truth = measure(make_rows(200_000, seed=99)).values
    inside = dict.fromkeys(NAMES, 0)
    for seed in range(200):
        rows = make_rows(200, seed=seed)
        bounds = find_intervals(rows, measure(rows)).bounds
        for name in NAMES:
            low, high = bounds[name]
            inside[name] += low <= truth[name] <= high
    assert all(number >= 183 for number in inside.values()), inside


def test_differences_are_those_of_the_metrics_and_find_the_better_model():
    good = make_rows(noise=0.5)
    bad = make_rows(noise=2.0)
    for metric in METRICS:
        if metric.of_ordered:
            found = metric.difference(bad, good)
            assert found.value == pytest.approx(metric.value(good) - metric.value(bad))
            is_higher = found.value > 0
            assert is_higher == metric.higher_is_better
            assert found.p_value < 0.05
            assert metric.difference(good, good).value == 0


def test_ratings_that_are_all_equal_have_no_kappa():
    rows = make_rows(5)
    same = replace(
        rows, label=np.full(5, 2), probabilities=np.eye(5, dtype=np.float32)[np.full(5, 2)]
    )
    assert ordered.measure_kappa(same) is None
    assert measure(same).values["mae"] == 0
