"""A model that answers fewer texts is right more often, and keeps the promise of its threshold."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.metrics.abstention import (
    COVERAGES,
    accuracy_by_coverage,
    choose_threshold,
    count_least,
)

PROBABILITY = np.array([0.05, 0.2, 0.45, 0.5, 0.6, 0.9])
LABEL = np.array([0, 0, 1, 0, 1, 1])


def by_coverage(*, label, probability):
    """Give the curve of a model of two classes."""
    right = (probability >= 0.5) == (label == 1)
    return accuracy_by_coverage(right=right, confidence=np.maximum(probability, 1 - probability))


def test_coverage_and_accuracy_equal_hand_counted_ones():
    found = by_coverage(label=LABEL, probability=PROBABILITY)
    curve = {point.num_rows: point for point in found}
    assert curve[6].accuracy == pytest.approx(4 / 6)
    assert curve[4].accuracy == 1
    assert curve[4].confidence == pytest.approx(0.6)
    assert curve[1].coverage == pytest.approx(1 / 6)
    aims = np.array(COVERAGES)
    assert (np.array([point.coverage for point in found]) >= aims - 1e-9).all()


def answers(num_rows, rng, *, accuracy=None):
    """Draw confidences, and which predictions are right: calibrated, or of one accuracy."""
    share = 1 / (1 + np.exp(-rng.normal(0, 3, num_rows)))
    confidence_ = np.maximum(share, 1 - share)
    return {"right": rng.random(num_rows) < (accuracy or confidence_), "confidence": confidence_}


@pytest.mark.parametrize(("num_rows", "max_error"), [(150, 0.1), (400, 0.05), (1500, 0.2)])
def test_more_errors_than_promised_are_answered_in_at_most_one_of_twenty_samples(
    num_rows, max_error
):
    rng, broken, answered = np.random.default_rng(1), [], []
    others = answers(200_000, rng)
    for _ in range(400):
        threshold = choose_threshold(**answers(num_rows, rng), max_error=max_error)
        chosen = others["confidence"] > threshold
        broken.append(chosen.any() and (1 - others["confidence"][chosen]).mean() > max_error)
        answered.append(chosen.mean())
    assert np.mean(broken) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)
    assert np.mean(answered) > 0.2, "a rule that answers nothing breaks no promise"


def test_a_confidence_that_says_nothing_breaks_the_promise_no_more_often():
    rng = np.random.default_rng(2)
    found = [
        choose_threshold(**answers(1000, rng, accuracy=0.949), max_error=0.05) for _ in range(400)
    ]
    assert np.mean(np.array(found) < 1) < 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


@given(seed=st.integers(0, 999), num_rows=st.integers(0, 600), stricter=st.floats(0.01, 0.5))
def test_a_stricter_promise_never_answers_more(seed, num_rows, stricter):
    rows = answers(num_rows, np.random.default_rng(seed))
    limits = sorted([stricter, 0.1])
    sure = [choose_threshold(**rows, max_error=limit) for limit in limits]
    assert 0 <= sure[1] <= sure[0] <= 1


@pytest.mark.parametrize(("num_rows", "answered"), [(0, 0), (58, 0), (59, 59), (200, 200)])
def test_59_errorless_rows_are_the_least_for_5_percent(num_rows, answered):
    assert count_least(0.05) == 59
    sure = np.linspace(0.5, 1, num_rows, dtype=np.float32)
    threshold = choose_threshold(right=sure > 0, confidence=sure, max_error=0.05)
    assert (sure > threshold).sum() == answered


def test_errors_below_the_threshold_do_not_count_and_equal_confidences_stay_together():
    sure = np.repeat([0.9, 0.6], 200).astype(np.float32)
    threshold = choose_threshold(right=sure > 0.7, confidence=sure, max_error=0.05)
    assert (sure > threshold).tolist() == (sure > 0.7).tolist()
    never = np.where(np.arange(400) < 300, 0, sure)  # no known word
    threshold = choose_threshold(right=never > 0, confidence=never, max_error=0.05)
    assert ((never > threshold) == (never > 0)).all()


@pytest.mark.parametrize("sure", [1.0, 0.5])
def test_equal_confidences_of_many_rows_are_answered_if_they_are_right(sure):
    equal = np.full(400, sure)
    assert choose_threshold(right=equal > 0, confidence=equal, max_error=0.05) == 0
    assert choose_threshold(right=equal < 0, confidence=equal, max_error=0.05) == 1
    unequal = np.where(np.arange(400) < 300, sure, 0.3)
    threshold = choose_threshold(right=unequal == sure, confidence=unequal, max_error=0.05)
    assert ((unequal > threshold) == (unequal == sure)).all()
