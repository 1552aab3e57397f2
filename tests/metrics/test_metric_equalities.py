"""Metrics and their tests in special cases, where a simpler rule must give the same numbers."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sentiflow.config.class_names import BINARY
from sentiflow.metrics import abstention, intervals, paired
from sentiflow.metrics.calibration import calibration_test, expected_calibration_error
from sentiflow.metrics.classification import find_intervals, measure
from sentiflow.metrics.confidence import Calibration, calibrate
from sentiflow.metrics.macro_f1 import macro_f1
from sentiflow.metrics.matthews import correlate
from sentiflow.metrics.one_vs_rest import OneVsRest
from sentiflow.metrics.predicted import Predicted, count_confusion
from sentiflow.metrics.predicted_shares import compare_shares
from sentiflow.metrics.registry import METRICS

COUNT = st.integers(1, 300)


@st.composite
def predictions(draw, *, num_classes=None, classes=None):
    """Draw labels, and the probabilities of a model that predicts the most probable class."""
    size = num_classes or draw(st.integers(2, 5))
    num_rows = draw(st.integers(2, 40))
    label = draw(arrays(np.int64, num_rows, elements=st.integers(0, size - 1)))
    odds = draw(arrays(np.float64, (num_rows, size), elements=st.floats(0.0625, 16)))
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    names = classes or tuple("abcde"[:size])
    return Predicted(names, label, probabilities.argmax(axis=1), probabilities)


def compare(first, second):
    """Compare two models by all metrics that are defined for both."""
    found = {}
    for metric in METRICS:
        if metric.difference and metric.is_of(first):
            difference = metric.difference(first, second)
            if difference:
                found[metric.name] = difference
    return found


@settings(max_examples=30, deadline=None)
@given(st.one_of(predictions(), predictions(num_classes=2, classes=BINARY)))
def test_equal_models_do_not_differ_in_any_metric(rows):
    for name, found in compare(rows, rows).items():
        assert (found.value, found.p_value) == (0, 1), name
        assert found.low == pytest.approx(-found.high), name


@settings(max_examples=20, deadline=None)
@given(predictions(num_classes=2, classes=BINARY), st.integers(0, 99))
def test_models_in_the_other_order_have_the_opposite_difference(rows, seed):
    turned = rows.probabilities[np.random.default_rng(seed).permutation(len(rows.label))]
    other = dataclasses.replace(rows, prediction=turned.argmax(axis=1), probabilities=turned)
    forth = compare(rows, other)
    back = compare(other, rows)
    assert forth.keys() == back.keys()
    for name, found in forth.items():
        assert found.value == pytest.approx(-back[name].value), name
        assert (found.low, found.high) == pytest.approx((-back[name].high, -back[name].low)), name
        if name != "f1_macro":  # its p-value is drawn
            assert found.p_value == pytest.approx(back[name].p_value), name


@settings(max_examples=30, deadline=None)
@given(predictions())
def test_against_a_perfect_model_the_difference_is_the_error(rows):
    perfect = np.ones(len(rows.label), bool)
    difference, counts = paired.compare_accuracy(rows.right, perfect)
    assert difference.value == pytest.approx(1 - rows.right.mean())
    assert counts.only_first_right == 0
    assert counts.p_value == pytest.approx(min(1, 2 * 0.5**counts.only_second_right))


def test_the_same_ranks_have_the_same_area():
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 80)
    first = rng.random(80).round(2)
    found = paired.roc_auc_difference(label=label, first=first, second=first**3)
    assert (found.value, found.p_value) == (0, 1)


@settings(max_examples=30, deadline=None)
@given(predictions())
def test_a_class_against_the_others_is_the_binary_metric(rows):
    of_all = OneVsRest.of(rows.confusion)
    for code in range(len(rows.classes)):
        label = (rows.label == code).astype(int)
        prediction = (rows.prediction == code).astype(int)
        confusion = count_confusion(label, prediction, num_labels=2)
        alone = OneVsRest.of(confusion)
        for name in ("precision", "recall", "f1"):
            found = getattr(alone, name)[1]
            np.testing.assert_array_equal(found, getattr(of_all, name)[code])
        positive = Predicted.of_positive(
            label=label, probability=rows.probabilities[:, code], prediction=prediction
        )
        assert positive.areas == [rows.areas[code]] * 2


@settings(max_examples=30, deadline=None)
@given(predictions(num_classes=2))
def test_two_classes_of_any_names_are_negative_and_positive(rows):
    binary = dataclasses.replace(rows, classes=BINARY)
    assert binary.areas == pytest.approx(rows.areas)
    np.testing.assert_allclose(binary.log_losses, rows.log_losses)
    np.testing.assert_allclose(2 * binary.squared_errors, rows.squared_errors, atol=1e-12)
    np.testing.assert_allclose(binary.confidence, rows.confidence)
    expected = find_intervals(binary, measure(binary))[0]
    found = find_intervals(rows, measure(rows))[0]
    assert found.get("f1_macro") == expected.get("f1_macro")
    low, high = expected["brier"]
    assert found["brier"] == pytest.approx((2 * low, 2 * high))


@given(COUNT, COUNT)
def test_where_both_classes_are_alike_macro_f1_and_correlation_are_the_accuracy(right, wrong):
    confusion = np.array([[right, wrong], [wrong, right]])
    accuracy = right / (right + wrong)
    assert macro_f1(confusion) == pytest.approx(accuracy)
    assert correlate(confusion.ravel()) == pytest.approx(2 * accuracy - 1)


@given(COUNT, COUNT)
def test_a_metric_with_the_variance_of_a_share_has_the_interval_of_the_share(right, wrong):
    num_rows = right + wrong
    share = right / num_rows
    variance = share * (1 - share) / num_rows
    found = intervals.metric_interval(share, variance=variance, step=0)
    assert found == pytest.approx(intervals.share_interval(right, num_rows))


@given(COUNT, COUNT)
def test_the_mean_of_zeros_and_ones_has_the_interval_of_a_share_of_one_row_less(right, wrong):
    assume(right + wrong > 2)
    values = np.repeat([1.0, 0.0], [right, wrong])
    rows = len(values) - 1  # the variance has n - 1
    expected = intervals.share_interval(values.mean() * rows, rows)
    assert intervals.mean_interval(values, largest=1, step=0) == pytest.approx(expected)


@settings(max_examples=30, deadline=None)
@given(predictions())
def test_without_temperature_and_bias_probabilities_stay(rows):
    none = tuple(0.0 for _ in rows.classes)
    for calibration in (Calibration(), Calibration(1.0, none)):
        np.testing.assert_allclose(calibrate(rows.probabilities, calibration), rows.probabilities)


@given(st.floats(0.5, 0.52), arrays(bool, st.integers(1, 60)))
def test_the_calibration_error_of_one_bin_is_the_gap_of_the_means(probability, label):
    same = np.full(len(label), probability)
    gap = abs(probability - label.mean())
    assert expected_calibration_error(label=label, probability=same) == pytest.approx(gap)
    found = calibration_test(label=label, probability=same, num_simulations=20)
    assert found.value == pytest.approx(gap)


@settings(max_examples=30, deadline=None)
@given(predictions())
def test_a_model_that_answers_all_texts_has_its_accuracy(rows):
    full = abstention.accuracy_by_coverage(right=rows.right, confidence=rows.confidence)[0]
    plain = intervals.Accuracy.of(int(rows.right.sum()), len(rows.right))
    assert full.coverage == 1
    assert (full.num_rows, full.accuracy) == (plain.num_rows, plain.accuracy)
    assert (full.low, full.high) == (plain.low, plain.high)


@given(st.integers(0, 30), st.integers(0, 200))
def test_texts_of_equal_confidence_are_answered_if_the_bound_of_all_allows_it(wrong, right):
    is_right = np.repeat([False, True], [wrong, right])
    same = np.full(len(is_right), 0.77777)
    threshold = abstention.choose_threshold(right=is_right, confidence=same, max_error=0.1)
    upper = scipy.stats.beta.ppf(0.95, wrong + 1, right) if right else 1  # one-sided
    assert (threshold < 0.77777) == (upper < 0.1)


@given(arrays(np.int64, (3, 3), elements=st.integers(0, 50)))
def test_a_model_with_as_many_errors_to_both_sides_has_no_preference(counts):
    assume(counts.sum() > 0)
    names = "abc"
    symmetric = counts + counts.T
    confusion = {
        name: dict(zip(names, row, strict=True))
        for name, row in zip(names, symmetric.tolist(), strict=True)
    }
    assert compare_shares(confusion, "texts") == []


@given(st.floats(0, 1))
def test_a_single_test_needs_no_adjustment_and_equal_tests_the_factor_of_bonferroni(p_value):
    assert paired.adjust([p_value]) == [p_value]
    assert paired.adjust([p_value] * 4) == pytest.approx([min(1, 4 * p_value)] * 4)
