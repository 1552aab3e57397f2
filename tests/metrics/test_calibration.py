"""The calibration error is claimed only beyond what chance alone reaches."""

import numpy as np
import pytest

from sentiflow.metrics.calibration import calibration_test, expected_calibration_error


def rows_of(num_rows, *, seed, sharper=1.0):
    """Draw labels from probabilities; ``sharper`` moves the probabilities away from one half."""
    rng = np.random.default_rng(seed)
    true = rng.beta(0.7, 0.7, num_rows)
    label = rng.random(num_rows) < true
    odds = (true / (1 - true)) ** sharper
    return {"label": label, "probability": odds / (1 + odds)}


def simulate_plainly(probability, *, seed, times):
    rng = np.random.default_rng(seed)
    return [
        expected_calibration_error(
            label=rng.random(len(probability)) < probability, probability=probability
        )
        for _ in range(times)
    ]


def test_chance_is_that_of_labels_drawn_row_by_row():
    rows = rows_of(900, seed=1)
    plain = np.quantile(simulate_plainly(rows["probability"], seed=2, times=500), 0.95)
    found = calibration_test(**rows)
    assert found.value == expected_calibration_error(**rows)
    assert found.chance == pytest.approx(plain, rel=0.06)


def test_calibrated_probabilities_raise_no_alarm_at_any_size():
    """The interval that stood here before excluded the truth in two of three samples."""
    for num_rows in (60, 2000):
        alarms = [
            calibration_test(**rows_of(num_rows, seed=s), num_simulations=200).p_value < 0.05
            for s in range(80)
        ]
        assert np.mean(alarms) < 0.13, num_rows  # 0.05 and three standard errors


def test_too_sure_a_model_is_found():
    found = calibration_test(**rows_of(3000, seed=3, sharper=1.6))
    assert found.value > found.chance
    assert found.p_value < 0.001


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_certain_probabilities_that_are_right_have_no_error(probability):
    label = np.full(30, probability)
    found = calibration_test(label=label, probability=label)
    assert (found.value, found.chance, found.p_value) == (0, 0, 1)
