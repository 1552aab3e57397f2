"""Labels and probabilities -> the temperature that calibrates the probabilities."""

import math
from dataclasses import asdict
from typing import TypedDict

import numpy as np

from sentiflow.data.schema import NEGATIVE, POSITIVE
from sentiflow.metrics.classification import PROBABILITY_FLOOR, probability_metrics

MIN_ROWS = 100
"""With fewer labelled rows the temperature is 1."""
LOWEST, HIGHEST = 0.25, 10.0

_DIGITS = 3
"""Of a temperature: far below its standard error, and the same on every machine."""


class CalibrationEffect(TypedDict):
    """What a temperature changes, as manifests and ``metrics.json`` hold it."""

    temperature: float
    num_rows: int
    before: dict[str, float]
    """A ``ProbabilityMetrics`` at temperature 1."""
    after: dict[str, float]
    """The same at the model's temperature."""


def rescale(probability: np.ndarray, *, temperature: float) -> np.ndarray:
    """Divide the logits behind probabilities by a temperature T; 1 / T undoes it.

    A softmax over two logits depends on their difference z = log(p / (1 - p)) alone, so this is
    sigmoid(z / T). Probabilities are taken to be within ``PROBABILITY_FLOOR`` of 0 and 1, as
    float32 cannot represent values closer to these. No probability crosses one half.

    Example:
        >>> rescale(np.array([0.5, 0.9]), temperature=2.0).round(2).tolist()
        [0.5, 0.75]
    """
    return 1 / (1 + np.exp(-_logit(probability) / temperature))


def fit_temperature(*, label: np.ndarray, probability: np.ndarray) -> float:
    """Find the temperature that makes the labels most probable.

    Temperature scaling after Guo et al., "On calibration of modern neural networks" (ICML 2017):
    the one parameter T that minimizes the log loss of sigmoid(z / T), which is convex in 1 / T. It
    corrects how sure a model is, and leaves its predictions as they are. Rounded to three digits.

    Args:
        label: N labels; rows that are neither 0 nor 1 are left out.
        probability: Of positive, at temperature 1.

    Returns:
        Within ``LOWEST`` and ``HIGHEST``; 1 where there are fewer than ``MIN_ROWS`` rows, or one
        label only.
    """
    from scipy.optimize import minimize_scalar

    binary = np.isin(label, (NEGATIVE, POSITIVE))
    chosen = label[binary]
    if len(chosen) < MIN_ROWS or len(np.unique(chosen)) < 2:
        return 1.0
    sign = np.where(chosen == POSITIVE, 1.0, -1.0)
    margin = sign * _logit(probability[binary])

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -margin / math.exp(log_temperature)).mean())

    bounds = (math.log(LOWEST), math.log(HIGHEST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return round(math.exp(found.x), _DIGITS)


def describe(
    *, temperature: float, label: np.ndarray, before: np.ndarray, after: np.ndarray
) -> CalibrationEffect:
    """Measure what a temperature changes.

    Args:
        temperature: The model's.
        label: N labels, 0 or 1.
        before: Probability of positive at temperature 1.
        after: At the model's temperature.
    """
    first, second = (probability_metrics(label=label, probability=p) for p in (before, after))
    return {
        "temperature": temperature,
        "num_rows": len(label),
        "before": asdict(first),
        "after": asdict(second),
    }


def _logit(probability: np.ndarray) -> np.ndarray:
    clipped = np.asarray(probability, dtype=np.float64).clip(
        PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR
    )
    return np.log(clipped) - np.log1p(-clipped)
