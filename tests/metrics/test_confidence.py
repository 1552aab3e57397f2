"""A temperature and a bias for each class calibrate probabilities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.metrics import confidence
from sentiflow.metrics.confidence import (
    Calibration,
    calibrate,
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


def test_rows_of_other_classes_are_left_out_of_the_calibration():
    rows = rows_of(2000, temperature=2.0, num_classes=3)
    more = {
        "label": np.append(rows["label"], [-1, 3]),
        "probabilities": np.concatenate([rows["probabilities"], np.full((2, 3), 1 / 3)]),
    }
    assert fit_calibration(**more) == fit_calibration(**rows)


def test_the_gain_of_a_network_is_the_difference_of_mean_log_losses():
    rng = np.random.default_rng(3)
    label = rng.integers(0, 2, 4000)
    linear = rng.normal(size=(4000, 2))
    told = np.eye(2)[label] + rng.normal(size=(4000, 2))
    gain, error = confidence.measure_gain(label=label, first=told, seconds=[0 * linear, linear])
    weights = [fit_weight(label=label, first=told, second=each)[1] for each in (0 * linear, linear)]
    alone = [
        fit_weight(label=label, first=0 * told, second=each)[1] for each in (0 * linear, linear)
    ]
    assert gain == pytest.approx((min(alone) - min(weights)) / 4000, rel=1e-3)
    assert gain > 10 * error > 0


def test_a_network_of_noise_has_no_gain():
    """In 200 draws of 1,500 rows; the upper end of the gain is what the folds look at."""
    rng = np.random.default_rng(4)
    gains = []
    for _ in range(200):
        label = rng.integers(0, 3, 1500)
        linear = 1.5 * np.eye(3)[label] + rng.normal(size=(1500, 3))
        noise = rng.normal(size=(1500, 3))
        gain, error = confidence.measure_gain(label=label, first=noise, seconds=[linear])
        gains.append(gain + 1.645 * error)
    assert np.mean(np.array(gains) < 0.005) > 0.9
