"""Labels and probabilities -> a temperature, and a bias for each class, that calibrate a model."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sentiflow.metrics.classification import measure_probabilities
from sentiflow.metrics.predicted import PROBABILITY_FLOOR, Predicted

MIN_TEMPERATURE = 0.25
MAX_TEMPERATURE = 10.0
"""Bounds of a fitted temperature."""
_MAX_FACTOR = 10.0
"""Largest factor of the logits of a network or a linear model, see :func:`fit_weight`."""
MAX_BIAS = 10.0
"""Largest bias of a class, up or down."""

_PRIOR_LOG_TEMPERATURE = 0.5
"""Standard deviation of the normal prior of the log temperature around 0."""
_PRIOR_BIAS = 0.3
"""Standard deviation of the normal prior of a bias around 0. With 1, few rows of equal classes cost
up to 1.2 points of macro F1: benchmarks/LOG.md."""
_PRIOR_FACTORS = np.array([0.4, 1.0])
"""Mean of the normal prior of the factors for the logits of a network and a linear model."""
_PRIOR_PRECISION = 30.0
"""Precision of the prior of the factors: 1 / variance."""
_NUM_FOLDS = 10
"""Folds of the cross-validation."""
_MAX_ROWS = 5000
"""Maximum number of rows of the cross-validation; of more rows, evenly spaced ones are taken."""
_MIN_ERRORS = 2.0
"""A mean difference of log losses counts if it is above this multiple of its standard error."""
_MIN_ROWS_PER_CLASS = 5
"""Rows per class, on average, from which a bias is fitted. Banking77 has 3.3, and a bias made its
model worse."""
_DECIMALS = 3
"""Decimals of temperature and bias. Rounding changes far less than their standard errors, and hides
the rounding errors by which machines differ."""


class Calibration(NamedTuple):
    """A temperature and biases: probabilities p become softmax(log p / temperature + bias)."""

    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    """C numbers whose mean is 0; empty if all are 0."""

    @classmethod
    def read(cls, record: Mapping[str, Any], classes: Sequence[str]) -> "Calibration | None":
        """Read the calibration of a model of these classes from its manifest; None if it has none.

        Example:
            >>> Calibration.read({"temperature": 1.5, "bias": {"b": 0.25}}, ["a", "b"])
            Calibration(temperature=1.5, bias=(0.0, 0.25))
        """
        if "temperature" not in record:
            return None
        biases = record.get("bias")
        if not biases:
            return cls(record["temperature"])
        return cls(record["temperature"], tuple(biases.get(name, 0.0) for name in classes))


def calibrate(probabilities: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Apply temperature and bias to the probabilities of C classes.

    Temperature scaling (C. Guo et al., "On calibration of modern neural networks", ICML 2017), and
    a bias for each class (A. M. Alexandari et al., "Maximum likelihood with bias-corrected
    calibration is hard-to-beat at label shift adaptation", ICML 2020). A softmax does not change if
    a number is added to all logits of a row, so log p takes the place of the logits. Probabilities
    below ``PROBABILITY_FLOOR`` are raised to it. A temperature changes no prediction; a bias may
    change some.

    Shape: (N rows, C classes)
        - probabilities: ``(N, C)``.
        - returns: ``(N, C)`` float64.

    Example:
        Temperature 2 takes the square root of the odds: 1 to 9 becomes 1 to 3.

        >>> calibrate(np.array([[0.5, 0.5], [0.1, 0.9]]), Calibration(2.0)).round(2).tolist()
        [[0.5, 0.5], [0.25, 0.75]]
    """
    return softmax(_scale(_log(probabilities), calibration))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits ``(N, C)`` into probabilities: exp(z) / Σ exp(z) in each row.

    Example:
        >>> softmax(np.log([[1.0, 3.0]])).round(4).tolist()
        [[0.25, 0.75]]
    """
    from scipy import special

    return np.asarray(special.softmax(logits, axis=1))


def _log(probabilities: np.ndarray) -> np.ndarray:
    """Return log p; probabilities below ``PROBABILITY_FLOOR`` are raised to it."""
    return np.log(np.asarray(probabilities, dtype=np.float64).clip(PROBABILITY_FLOOR))


def _scale(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Divide logits by the temperature, and add the biases."""
    bias = calibration.bias or 0.0  # an empty tuple stands for zeros
    return logits / calibration.temperature + bias


def fit_calibration(*, label: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """Find the temperature, and a bias for each class, that make the labels most probable.

    Temperature scaling (Guo et al., "On calibration of modern neural networks", ICML 2017) corrects
    how sure a model is. A bias for each class ("bias-corrected temperature scaling", Alexandari et
    al., ICML 2020) corrects how often it predicts each class. Normal priors, around 0 for the log
    temperature and for the biases, keep changes small where rows are few.

    Cross-validation may reject the bias, and then the temperature: if it makes the log loss of
    held-out rows higher by more than ``_MIN_ERRORS`` standard errors of the mean difference. With
    fewer than ``_MIN_ROWS_PER_CLASS`` rows per class there is no bias. Choosing the lowest of the
    log losses instead is worse, because networks nearly always need both: benchmarks/LOG.md.

    Args:
        label: N positions among the classes; rows with another number are left out.
        probabilities: ``(N, C)`` of a model that is not calibrated.

    Returns:
        A calibration with a temperature from ``MIN_TEMPERATURE`` to ``MAX_TEMPERATURE``. It changes
        nothing if there are fewer than ``_NUM_FOLDS`` rows or only one label. Numbers are rounded
        to 3 decimals.

    Example:
        A model gives every label 0.9, but is right in 3 of 4 cases: the odds of 9 become 3 at a
        temperature of ln 9 / ln 3 = 2. The prior draws it a little towards 1.

        >>> label = np.tile([0, 0, 0, 1, 1, 1, 1, 0], 250)
        >>> probabilities = np.tile(np.repeat([[0.9, 0.1], [0.1, 0.9]], 4, axis=0), (250, 1))
        >>> fit_calibration(label=label, probabilities=probabilities)
        Calibration(temperature=1.988, bias=())
    """
    num_classes = probabilities.shape[1]
    is_known = (label >= 0) & (label < num_classes)
    label = label[is_known]
    logits = _log(probabilities[is_known])
    if len(label) < _NUM_FOLDS or len(np.unique(label)) < 2:
        return Calibration()
    losses = _cross_validate(logits, label)
    is_bias_rejected = (
        len(label) < _MIN_ROWS_PER_CLASS * num_classes
        or _is_above_zero(losses.with_bias - losses.with_temperature)
        or _is_above_zero(losses.with_bias - losses.unchanged)
    )
    if not is_bias_rejected:
        return _fit(logits, label, has_bias=True)
    if _is_above_zero(losses.with_temperature - losses.unchanged):
        return Calibration()
    return _fit(logits, label, has_bias=False)


class _Losses(NamedTuple):
    """The log loss of each held-out row by three calibrations."""

    unchanged: np.ndarray
    with_temperature: np.ndarray
    with_bias: np.ndarray
    """With temperature and bias."""


def _cross_validate(logits: np.ndarray, label: np.ndarray) -> _Losses:
    """Measure the log loss of the rows of each fold by calibrations fitted to the other folds."""
    num_rows = min(len(label), _MAX_ROWS)
    rows = np.linspace(0, len(label) - 1, num_rows).astype(np.int64)
    fold = np.arange(num_rows) % _NUM_FOLDS
    losses = _Losses(np.zeros(num_rows), np.zeros(num_rows), np.zeros(num_rows))
    for number in range(_NUM_FOLDS):
        is_held_out = fold == number
        fitted = rows[~is_held_out]
        held_out = rows[is_held_out]
        with_temperature = _fit(logits[fitted], label[fitted], has_bias=False)
        with_bias = _fit(logits[fitted], label[fitted], has_bias=True)
        losses.unchanged[is_held_out] = _measure_losses(
            logits[held_out], label[held_out], Calibration()
        )
        losses.with_temperature[is_held_out] = _measure_losses(
            logits[held_out], label[held_out], with_temperature
        )
        losses.with_bias[is_held_out] = _measure_losses(
            logits[held_out], label[held_out], with_bias
        )
    return losses


def fit_weight(*, label: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Find the share of a linear model in the logits that makes the labels most probable.

    With ``first`` and ``second`` the logits of a network and the linear model, the logits are
    a · first + b · second, and the share is b / (a + b). The log loss is convex in both factors,
    which are 0 or more. This is the logarithmic opinion pool (C. Genest and J. V. Zidek, "Combining
    probability distributions", Statistical Science 1, 1986). A normal prior of the factors keeps
    the share from depending on few rows; its mean is typical for small corpora: benchmarks/LOG.md.

    Args:
        label: N positions among the classes; rows with another number are left out.
        first: ``(N, C)`` logits of the network.
        second: ``(N, C)`` logits of the linear model.

    Returns:
        The share, from 0 to 1, rounded to 2 decimals; and the sum of the rows' log losses with the
        fitted factors.

    Example:
        Without rows the factors are the means of their priors, 0.4 and 1: 1 / 1.4 = 0.71.

        >>> none = np.zeros((0, 2))
        >>> fit_weight(label=np.zeros(0, int), first=none, second=none)
        (0.71, 0.0)
    """
    is_known = (label >= 0) & (label < first.shape[1])
    label = label[is_known]
    both = np.stack([first[is_known], second[is_known]])
    factors = _fit_factors(label, both)
    share = 0.5  # if both factors are 0, the share is undefined
    if factors.any():
        share = round(float(factors[1] / factors.sum()), 2)
    return share, float(_measure_mixture(factors, both, label).sum())


def measure_gain(
    *, label: np.ndarray, first: np.ndarray, seconds: Sequence[np.ndarray]
) -> tuple[float, float]:
    """Measure how much a network lowers the log loss of a linear model, per row.

    The best mixture of the network with one of several linear models is compared with the best of
    these models alone, each with fitted factors, see :func:`fit_weight`.

    Args:
        label: N positions among the classes.
        first: ``(N, C)`` logits of the network.
        seconds: Logits of each linear model.

    Returns:
        The mean of the differences of the rows' log losses, and its standard error.

    Example:
        A network whose logits are all 0 changes nothing.

        >>> linear = np.array([[0.0, 1.0], [2.0, 0.0]])
        >>> measure_gain(label=np.array([1, 0]), first=np.zeros((2, 2)), seconds=[linear])
        (0.0, 0.0)
    """
    mixed = []
    alone = []
    for second in seconds:
        both = np.stack([first, second])
        mixed.append(_measure_mixture(_fit_factors(label, both), both, label))
        alone.append(_measure_mixture(_fit_factors(label, both, max_first=0.0), both, label))
    gains = min(alone, key=np.sum) - min(mixed, key=np.sum)
    error = gains.std(ddof=1) / math.sqrt(len(gains))
    return float(gains.mean()), float(error)


def _fit_factors(label: np.ndarray, both: np.ndarray, max_first: float = _MAX_FACTOR) -> np.ndarray:
    """Fit the factors of the logits of a network and a linear model, ``both`` ``(2, N, C)``.

    Args:
        label: N positions among the classes.
        both: The logits of the network, then of the linear model.
        max_first: Upper bound of the factor of the network.
    """
    from scipy import optimize

    of_label = np.take_along_axis(both, label[None, :, None], axis=2)
    logits = both - of_label  # 0 for the label: the log loss is the log of the sum

    def loss(factors: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute loss and gradient, given the factors of both models."""
        mixed = np.tensordot(factors, logits, axes=1)
        losses = np.logaddexp.reduce(mixed, axis=1)
        gradient = (np.exp(mixed - losses[:, None]) * logits).sum(axis=(1, 2))
        surplus = factors - _PRIOR_FACTORS
        prior = _PRIOR_PRECISION * surplus
        return losses.sum() + (prior * surplus).sum() / 2, gradient + prior

    bounds = [(0, max_first), (0, _MAX_FACTOR)]
    start = np.minimum(_PRIOR_FACTORS, [max_first, _MAX_FACTOR])
    found = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B")
    return np.asarray(found.x)


def _measure_mixture(factors: np.ndarray, both: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Compute the log loss of each row for the sum of both logits times their factors."""
    mixed = factors[0] * both[0] + factors[1] * both[1]
    return _measure_losses(mixed, label, Calibration())


def _is_above_zero(differences: np.ndarray) -> bool:
    """Whether the mean difference is above 0 by more than ``_MIN_ERRORS`` standard errors."""
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return bool(differences.mean() > _MIN_ERRORS * error)


def _measure_losses(logits: np.ndarray, label: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Compute the log loss of each row."""
    scaled = _scale(logits, calibration)
    return np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(label)), label]


def _fit(logits: np.ndarray, label: np.ndarray, *, has_bias: bool) -> Calibration:
    """Find the most probable log temperature and biases, given their priors and the labels.

    Minimizes the log loss, summed over the rows, plus half the square of each parameter divided by
    its prior's standard deviation. With T the temperature, the log loss is convex in 1 / T and the
    biases; the prior of log T is convex in 1 / T for T above 1 / e.
    """
    from scipy import optimize

    num_rows, num_classes = logits.shape
    is_label = np.eye(num_classes)[label]
    deviations = [_PRIOR_LOG_TEMPERATURE]
    bounds = [(math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE))]
    if has_bias:
        deviations += [_PRIOR_BIAS] * num_classes
        bounds += [(-MAX_BIAS, MAX_BIAS)] * num_classes
    prior_variances = np.square(deviations)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute loss and gradient, given the log temperature, which biases may follow."""
        scaled = logits * math.exp(-values[0])
        bias = values[1:] if has_bias else 0.0
        logs = scaled + bias
        logs -= np.logaddexp.reduce(logs, axis=1)[:, None]
        error = np.exp(logs) - is_label
        total = -logs[np.arange(num_rows), label].sum()
        gradient = np.array([-(error * scaled).sum()])
        if has_bias:
            gradient = np.append(gradient, error.sum(axis=0))
        prior = (values**2 / prior_variances).sum() / 2
        return total + prior, gradient + values / prior_variances

    solution = optimize.minimize(
        loss, np.zeros(len(deviations)), jac=True, bounds=bounds, method="L-BFGS-B",
        options={"ftol": 1e-12, "gtol": 1e-6},
    ).x  # fmt: skip
    temperature = round(math.exp(solution[0]), _DECIMALS)
    bias = solution[1:]
    if has_bias:
        bias = (bias - bias.mean()).round(_DECIMALS)
    if not bias.any():
        return Calibration(temperature)
    return Calibration(temperature, tuple(bias.tolist()))


def describe(calibration: Calibration, before: Predicted, after: Predicted) -> dict[str, Any]:
    """Measure what a calibration changes; return fields of ``manifest_types.CalibrationRecord``.

    Args:
        calibration: The calibration that was applied.
        before: Labelled rows with the probabilities of the model.
        after: The same rows with the calibrated probabilities.

    Example:
        >>> label = np.array([0, 1])
        >>> before = Predicted(("a", "b"), label, label, np.array([[0.9, 0.1], [0.1, 0.9]]))
        >>> after = Predicted(("a", "b"), label, label, np.array([[0.75, 0.25], [0.25, 0.75]]))
        >>> found = describe(Calibration(2.0), before, after)
        >>> round(found["before"]["log_loss"], 4), round(found["after"]["log_loss"], 4)
        (0.1054, 0.2877)
    """
    return {
        "temperature": calibration.temperature,
        "bias": dict(zip(after.classes, calibration.bias, strict=False)),
        "num_rows": len(after.label),
        "before": measure_probabilities(before),
        "after": measure_probabilities(after),
    }
