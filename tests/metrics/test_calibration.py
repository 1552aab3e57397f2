"""A temperature calibrates probabilities and changes no prediction."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiflow.metrics import calibration
from sentiflow.metrics.calibration import fit_temperature, rescale


def rows_of(num_rows, *, temperature, seed=0):
    """Labels drawn by calibrated probabilities, and what an over- or underconfident model gives."""
    rng = np.random.default_rng(seed)
    calibrated = 1 / (1 + np.exp(-rng.normal(0, 1.5, num_rows)))
    label = (rng.random(num_rows) < calibrated).astype(np.int8)
    return {"label": label, "probability": rescale(calibrated, temperature=1 / temperature)}


def describe(rows, temperature):
    before = rows["probability"]
    after = rescale(before, temperature=temperature)
    return calibration.describe(label=rows["label"], before=before, after=after)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7, 4.0])
def test_the_temperature_that_was_applied_is_found(temperature):
    rows = rows_of(50_000, temperature=temperature)
    assert fit_temperature(**rows) == pytest.approx(temperature, rel=0.03)


def test_the_fit_has_the_lowest_log_loss():
    rows = rows_of(2000, temperature=2.0, seed=1)
    found = fit_temperature(**rows)

    def loss(temperature):
        return describe(rows, temperature)["after"]["log_loss"]

    assert loss(found) <= min(loss(found * 0.98), loss(found * 1.02), loss(1.0))


def test_calibration_corrects_overconfidence():
    rows = rows_of(20_000, temperature=3.0)
    found = describe(rows, fit_temperature(**rows))
    assert found["before"]["expected_calibration_error"] > 0.1
    assert found["after"]["expected_calibration_error"] < 0.02
    for name in ("log_loss", "brier"):
        assert found["after"][name] < found["before"][name]


@given(st.floats(0, 1), st.floats(0.1, 10))
def test_no_answer_changes_and_the_way_back_is_the_inverse(probability, temperature):
    given_ = np.array([probability])
    there = rescale(given_, temperature=temperature)
    assert (there >= 0.5) == (given_ >= 0.5)
    assert 0 <= there[0] <= 1
    if 0.001 < probability < 0.999 and temperature > 0.5:
        assert rescale(there, temperature=1 / temperature) == pytest.approx(given_, abs=1e-6)


def test_nothing_is_fitted_to_too_few_rows_or_one_label():
    rows = rows_of(calibration.MIN_ROWS - 1, temperature=3.0)
    assert fit_temperature(**rows) == 1
    assert fit_temperature(label=np.ones(500, np.int8), probability=np.full(500, 0.7)) == 1


def test_neutral_rows_are_left_out():
    rows = rows_of(5000, temperature=2.0)
    more = {
        "label": np.append(rows["label"], np.full(5000, 2, np.int8)),
        "probability": np.append(rows["probability"], np.full(5000, 0.99)),
    }
    assert fit_temperature(**more) == fit_temperature(**rows)


def test_separable_labels_stay_within_bounds():
    label = np.tile([0, 1], 100)
    right = fit_temperature(label=label, probability=np.where(label == 1, 0.9, 0.1))
    wrong = fit_temperature(label=label, probability=np.where(label == 1, 0.1, 0.9))
    assert right == pytest.approx(calibration.LOWEST, abs=1e-3)
    assert wrong == pytest.approx(calibration.HIGHEST, abs=1e-2)
