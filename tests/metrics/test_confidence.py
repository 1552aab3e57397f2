"""A temperature and a bias for each class calibrate probabilities.

A calibrated model that answers fewer texts is right more often.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.metrics import confidence
from sentiflow.metrics.confidence import (
    Calibration,
    accuracy_by_coverage,
    calibrate,
    choose_threshold,
    fit_calibration,
    fit_weight,
    softmax,
)
from sentiflow.metrics.predicted import Predicted


def rows_of(num_rows, *, temperature=1.0, bias=(), num_classes=2, seed=0):
    """Labels drawn by calibrated probabilities of classes, and what a model of T and bias gives."""
    rng = np.random.default_rng(seed)
    calibrated = softmax(rng.normal(0, 1.5, (num_rows, num_classes)))
    label = (calibrated.cumsum(axis=1) < rng.random((num_rows, 1))).sum(axis=1)
    given_ = undo(calibrated, Calibration(temperature, bias))
    return {"label": label, "probabilities": given_}


def undo(probabilities, calibration):
    """Take temperature and bias back."""
    logs = np.log(np.clip(probabilities, 1e-7, None)) - (calibration.bias or 0.0)
    return softmax(logs * calibration.temperature)


def pairs_of(positive):
    return np.stack([1 - positive, positive], axis=1)


def describe(rows, calibration):
    """Measure a model before and after a calibration."""
    before = rows["probabilities"]
    after = calibrate(before, calibration)
    names = ("negative", "positive", "neutral")
    classes = names[: before.shape[1]]
    return confidence.describe(
        calibration,
        before=Predicted(classes, rows["label"], before.argmax(axis=1), before),
        after=Predicted(classes, rows["label"], after.argmax(axis=1), after),
    )


@pytest.mark.parametrize("bias", [(0, 0), (0.4, -0.4), (0, 0, 0), (0.5, -0.3, -0.2)])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_what_was_taken_away_is_found(temperature, bias):
    rows = rows_of(50_000, temperature=temperature, bias=bias, num_classes=len(bias))
    found = fit_calibration(**rows)
    assert found.temperature == pytest.approx(temperature, rel=0.03)
    assert (found.bias or bias) == pytest.approx(bias, abs=0.04)
    effect = describe(rows, found)
    if temperature != 1 or any(bias):
        assert effect["after"]["log_loss"] < effect["before"]["log_loss"]


def test_the_fit_has_the_lowest_log_loss_with_its_priors():
    rows = rows_of(2000, temperature=2.0, bias=(0.3, -0.3), seed=1)
    found = fit_calibration(**rows)
    assert found.bias

    def loss(temperature, first):
        bias = (first, -first)
        prior = np.log(temperature) ** 2 / 0.5**2 / 2 + sum(b**2 for b in bias) / 2
        effect = describe(rows, Calibration(temperature, bias))
        return effect["after"]["log_loss"] + prior / 2000

    best = loss(found.temperature, found.bias[0])
    for factor, step in ((0.97, 0), (1.03, 0), (1, 0.03), (1, -0.03)):
        assert best < loss(found.temperature * factor, found.bias[0] + step)


def test_few_rows_correct_a_wrong_model_and_change_a_calibrated_one_little():
    apart, near = [], []
    for seed in range(40):
        for wrong, losses in ((Calibration(3.0, (1.0, -1.0)), apart), (Calibration(), near)):
            more = rows_of(4056, temperature=wrong.temperature, bias=wrong.bias, seed=seed)
            few, others = (
                {k: v[part] for k, v in more.items()} for part in (slice(56), slice(56, None))
            )
            effect = describe(others, fit_calibration(**few))
            losses.append([effect[when]["log_loss"] for when in ("before", "after")])
    (before, after), (own, changed) = np.mean(apart, axis=0), np.mean(near, axis=0)
    assert before > 1
    assert after < own + 0.05
    assert own < changed < own + 0.04


def test_a_bias_that_cross_validation_refutes_is_left_out():
    label = (np.arange(1000) % 10 >= 6).astype(int)  # a part of it has one label only
    probabilities = pairs_of(np.random.default_rng(0).uniform(0.4, 0.6, 1000))
    assert fit_calibration(label=label, probabilities=probabilities).bias == ()
    mixed = np.random.default_rng(1).permutation(label)
    bias = fit_calibration(label=mixed, probabilities=probabilities).bias
    assert bias == pytest.approx([np.log(0.6 / 0.4) / 2, -np.log(0.6 / 0.4) / 2], abs=0.02)


@given(st.floats(0, 1), st.floats(0.1, 10), st.floats(-3, 3))
def test_the_way_back_is_the_inverse_and_a_temperature_changes_no_answer(probability, t, bias):
    given_ = pairs_of(np.array([probability]))
    there = calibrate(given_, Calibration(t))
    assert (there[0, 1] >= 0.5) == (probability >= 0.5)
    assert ((there >= 0) & (there <= 1)).all()
    if 0.001 < probability < 0.999 and t > 0.6:
        fitted = Calibration(t, (bias, -bias))
        assert undo(calibrate(given_, fitted), fitted) == pytest.approx(given_, abs=1e-6)


def test_a_bias_needs_five_rows_for_each_class():
    rows = rows_of(400, temperature=2.0, bias=(1.0, *[-1 / 9] * 9), num_classes=10, seed=3)
    few, enough = ({name: v[:n] for name, v in rows.items()} for n in (49, 50))
    assert fit_calibration(**few).bias == ()
    assert fit_calibration(**few).temperature != 1
    assert len(fit_calibration(**enough).bias) == 10


@pytest.mark.parametrize(
    ("factors", "share"), [((1, 0), 0), ((0, 2), 1), ((1, 1), 0.5), ((1, 3), 0.75)]
)
def test_the_share_of_a_second_model_is_found(factors, share):
    random = np.random.default_rng(0)
    first, second = random.normal(size=(2, 50_000, 3)) * 1.5
    chance = softmax(factors[0] * first + factors[1] * second)
    label = (chance.cumsum(axis=1) < random.random((len(chance), 1))).sum(axis=1).clip(max=2)
    fitted, loss = fit_weight(label=label, first=first, second=second)
    assert fitted == pytest.approx(share, abs=0.02)
    least = -np.log(chance[np.arange(len(label)), label]).sum()
    assert loss == pytest.approx(least, rel=1e-3)
    none = {"label": label[:0], "first": first[:0], "second": second[:0]}
    assert fit_weight(**none) == (0.71, 0)


def test_nothing_is_fitted_to_too_few_rows_or_one_label():
    few = {name: values[:9] for name, values in rows_of(100, temperature=3.0).items()}
    assert fit_calibration(**few) == Calibration()
    same = {"label": np.ones(500, np.int8), "probabilities": np.full((500, 2), 0.5)}
    assert fit_calibration(**same) == Calibration()


def test_separable_labels_stay_within_bounds():
    label = np.tile([0, 1], 5000)
    right = fit_calibration(label=label, probabilities=pairs_of(np.where(label == 1, 0.9, 0.1)))
    wrong = fit_calibration(label=label, probabilities=pairs_of(np.where(label == 1, 0.1, 0.9)))
    assert right.temperature == pytest.approx(confidence.MIN_TEMPERATURE, abs=1e-3)
    assert wrong.temperature == pytest.approx(confidence.MAX_TEMPERATURE, abs=1e-2)


# Abstention

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
    aims = np.array(confidence.COVERAGES)
    assert (np.array([point.coverage for point in found]) >= aims - 1e-9).all()


# Thresholds with a promise


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
    assert confidence.count_least(0.05) == 59
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


def test_rows_of_other_classes_are_left_out_of_the_calibration():
    rows = rows_of(2000, temperature=2.0, num_classes=3)
    more = {
        "label": np.append(rows["label"], [-1, 3]),
        "probabilities": np.concatenate([rows["probabilities"], np.full((2, 3), 1 / 3)]),
    }
    assert fit_calibration(**more) == fit_calibration(**rows)
