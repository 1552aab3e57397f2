"""Labels and probabilities -> reliability, the calibration error, and what chance alone reaches."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiflow.metrics.dependence import RowGroups
from sentiflow.metrics.row_ranges import row_ranges

NUM_CALIBRATION_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. (2017)."""
_PARTS_PER_BIN = 16
"""Parts of a bin. The rows of a part are drawn together, with their mean probability: much faster
than one draw for each row. The variance of the drawn labels rises by less than half a percent."""


@dataclass(frozen=True)
class CalibrationError:
    """The expected calibration error of N rows, and a test that the probabilities are calibrated.

    The error is a mean of absolute gaps, so calibrated probabilities also have an error above 0:
    the fewer the rows, the larger. A confidence interval would have to correct for a bias that is
    as large as the error itself, so there is none.
    """

    value: float
    chance: float
    """The 95% quantile of the error that calibrated probabilities have in samples of N rows."""
    p_value: float
    """Share of such samples with an error of at least ``value``."""


def calibration_test(
    *,
    label: np.ndarray,
    probability: np.ndarray,
    num_simulations: int = 2000,
    seed: int = 0,
    groups: RowGroups | None = None,
) -> CalibrationError:
    """Test whether probabilities are calibrated, by drawing labels from them.

    Consistency resampling (J. Bröcker and L. A. Smith, "Increasing the reliability of reliability
    diagrams", Weather and Forecasting 22, 2007): labels are drawn from the probabilities, and the
    error is measured again. Bröcker and Smith also resample the probabilities; here they stay. The
    p-value counts the observed labels as one more simulation, which makes it valid for any number
    of simulations.

    Args:
        label: N labels, 0 or 1; at least one. With C classes: whether the prediction is right.
        probability: Probability of 1, N in [0, 1]. With C classes: of the predicted class.
        num_simulations: How often labels are drawn.
        seed: The same seed gives the same result.
        groups: Groups of rows that depend on each other: the gaps of drawn labels are multiplied by
            the square root of their factor. None: the rows are independent.

    Example:
        Half of 100 rows with a probability of 0.6 are positive: the error is 0.1. By the binomial
        distribution 5.2% of samples have at least this error; 2,000 simulations give 6.0%.

        >>> label = np.repeat([0, 1], 50)
        >>> found = calibration_test(label=label, probability=np.full(100, 0.6))
        >>> f"{found.value:.3f} {found.chance:.3f} {found.p_value:.3f}"
        '0.100 0.100 0.060'
    """
    error = expected_calibration_error(label=label, probability=probability)

    # One draw for all rows of a part: how many of them have the label 1. The edges of bins and of
    # parts may differ by rounding, so a part is counted within its bin.
    num_parts = NUM_CALIBRATION_BINS * _PARTS_PER_BIN
    sizes = np.zeros(NUM_CALIBRATION_BINS * num_parts, np.int64)
    sums = np.zeros(len(sizes))
    for rows in row_ranges(len(label)):
        of_rows = probability[rows].astype(np.float64)
        part = bin_probabilities(of_rows, num_bins=num_parts)
        part_of_bin = bin_probabilities(of_rows) * num_parts + part
        sizes += np.bincount(part_of_bin, minlength=len(sizes))
        np.add.at(sums, part_of_bin, of_rows)  # in the order of the rows, whatever the ranges
    occupied = np.flatnonzero(sizes)
    size = sizes[occupied]
    expected = sums[occupied]
    rng = np.random.default_rng(seed)
    mean_probability = np.clip(expected / size, 0, 1)  # rounding may leave [0, 1]
    drawn = rng.binomial(size, mean_probability, size=(num_simulations, len(size)))

    # The gap of a bin is the sum of the gaps of its parts.
    _, starts = np.unique(occupied // num_parts, return_index=True)
    gaps = np.add.reduceat(drawn - expected, starts, axis=1)
    simulated = np.abs(gaps).sum(axis=1) / len(label)
    if groups is not None:
        simulated *= np.sqrt(groups.factor(find_residuals(label, probability)))
    # A simulated error that equals the observed one up to rounding has reached it.
    num_reached = int((simulated >= error * (1 - 1e-9)).sum())
    return CalibrationError(
        value=error,
        chance=float(np.quantile(simulated, 0.95)),
        p_value=(num_reached + 1) / (num_simulations + 1),
    )


def find_residuals(label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return how far each of N labels is above its probability, minus the mean of this."""
    residuals = np.empty(len(label))
    for rows in row_ranges(len(label)):
        residuals[rows] = label[rows] - probability[rows].astype(np.float64)
    residuals -= residuals.mean()
    return residuals


def expected_calibration_error(*, label: np.ndarray, probability: np.ndarray) -> float:
    """Average the gap between the probability of positive and the share of positive labels.

    Over 15 equal bins b of the probability, with n_b of the n rows: the sum of n_b / n · |mean
    probability in b - share of positive labels in b|. With the probability of positive this is the
    estimator of M. P. Naeini et al. (AAAI 2015). C. Guo et al. (ICML 2017) bin the probability of
    the predicted class, which gives another number: for that, ``label`` is whether the prediction
    is right.

    Example:
        Two rows of 0.9, one of them positive, and two of 0.5: (2 · 0.4 + 2 · 0) / 4.

        >>> probability = np.array([0.9, 0.9, 0.5, 0.5])
        >>> error = expected_calibration_error(
        ...     label=np.array([1, 0, 1, 0]), probability=probability
        ... )
        >>> round(error, 4)
        0.2
    """
    bins = reliability_bins(label=label, probability=probability, num_bins=NUM_CALIBRATION_BINS)
    gap = (bins["mean_probability"] - bins["positive_fraction"]).abs()
    return float((gap * bins["num_rows"]).sum() / len(label))


def bin_probabilities(
    probability: np.ndarray, *, num_bins: int = NUM_CALIBRATION_BINS
) -> np.ndarray:
    """Return the bin of each probability, from 0; bins have equal width, the last one includes 1.

    Example:
        >>> bin_probabilities(np.array([0, 0.19, 0.2, 1]), num_bins=5).tolist()
        [0, 0, 1, 4]
    """
    edges = np.linspace(0, 1, num_bins + 1)
    return np.minimum(np.searchsorted(edges, probability, side="right"), num_bins) - 1


def reliability_bins(
    *, label: np.ndarray, probability: np.ndarray, num_bins: int = 10
) -> pd.DataFrame:
    """Compare predicted and observed shares of positive in bins of the probability.

    The reliability diagram (A. H. Murphy and R. L. Winkler, "Reliability of subjective probability
    forecasts of precipitation and temperature", Applied Statistics 26, 1977), with the bins of
    :func:`bin_probabilities`; a bin without rows is left out. The diagram has ten bins by default,
    so that each has enough rows to read; the calibration error has the 15 bins of its source.

    Columns:
        added: ``num_rows``, ``mean_probability``, ``positive_fraction``.

    Example:
        >>> probability = np.array([0.9, 0.98, 0.5, 0.5])
        >>> reliability_bins(label=np.array([1, 1, 1, 0]), probability=probability)
           num_rows  mean_probability  positive_fraction
        0         2              0.50                0.5
        1         2              0.94                1.0
    """
    sizes = np.zeros(num_bins, np.int64)
    sums = np.zeros(num_bins)
    positive = np.zeros(num_bins)
    for rows in row_ranges(len(label)):
        bins = bin_probabilities(probability[rows], num_bins=num_bins)
        sizes += np.bincount(bins, minlength=num_bins)
        positive += np.bincount(bins, label[rows], minlength=num_bins)
        np.add.at(sums, bins, np.float64(probability[rows]))  # in the order of the rows
    occupied = np.flatnonzero(sizes)
    num_rows = sizes[occupied]
    return pd.DataFrame(
        {
            "num_rows": num_rows,
            "mean_probability": sums[occupied] / num_rows,
            "positive_fraction": positive[occupied] / num_rows,
        }
    )
