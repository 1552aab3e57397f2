"""Labels and probabilities -> the calibration error, beside what chance alone reaches."""

from dataclasses import dataclass

import numpy as np

from sentiflow.metrics.classification import (
    NUM_CALIBRATION_BINS,
    bin_probabilities,
    expected_calibration_error,
)

NUM_SIMULATIONS = 2000
_PARTS = 16
"""Parts of a bin. Rows of a part count as equally probable, which changes a variance by less than a
thousandth."""


@dataclass(frozen=True)
class CalibrationError:
    """The expected calibration error of N rows, and a test that the probabilities are calibrated.

    The error is a mean of absolute gaps, so calibrated probabilities have one above 0, too: the
    fewer the rows, the larger. A confidence interval would have to correct for a bias that is as
    large as the error itself, so there is none.
    """

    value: float
    chance: float
    """Calibrated probabilities have a larger error in 1 of 20 samples of so many rows."""
    p_value: float
    """Share of such samples that have at least this error."""


def calibration_test(
    *,
    label: np.ndarray,
    probability: np.ndarray,
    num_simulations: int = NUM_SIMULATIONS,
    seed: int = 0,
) -> CalibrationError:
    """Test whether probabilities are calibrated, by drawing labels from them.

    Consistency resampling (Bröcker and Smith, "Increasing the reliability of reliability diagrams",
    Weather and Forecasting 22, 2007): each row gets the label 1 with its own probability, and the
    error is measured again. The p-value counts the observed labels as one more simulation, which
    makes it valid for any number of simulations.

    Args:
        label: N labels, 0 or 1; at least one. Of C classes: whether the prediction is right.
        probability: Probability of 1, N in [0, 1]. Of C classes: that of the predicted class.
        num_simulations: How often labels are drawn.
        seed: The same seed gives the same result.
    """
    probability = np.asarray(probability, dtype=np.float64)
    error = expected_calibration_error(label=label, probability=probability)
    part = bin_probabilities(probability, num_bins=NUM_CALIBRATION_BINS * _PARTS)
    key = bin_probabilities(probability) * NUM_CALIBRATION_BINS * _PARTS + part
    keys, member, size = np.unique(key, return_inverse=True, return_counts=True)
    expected = np.bincount(member, probability)
    drawn = np.random.default_rng(seed).binomial(
        size, np.clip(expected / size, 0, 1), size=(num_simulations, len(size))
    )
    _, starts = np.unique(keys // (NUM_CALIBRATION_BINS * _PARTS), return_index=True)
    gaps = np.add.reduceat(drawn - expected, starts, axis=1)
    simulated = np.abs(gaps).sum(axis=1) / len(label)
    num_reached = int((simulated >= error * (1 - 1e-9)).sum())
    chance = float(np.quantile(simulated, 0.95))
    return CalibrationError(error, chance, (num_reached + 1) / (num_simulations + 1))
