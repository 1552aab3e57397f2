"""Labels and probabilities -> how far a model's certainty can be trusted.

A temperature and a bias for each class calibrate the probabilities. A calibrated model can leave
uncertain texts to people, with a promise about its errors on the others.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from sentiflow.metrics.classification import measure_probabilities
from sentiflow.metrics.intervals import Accuracy
from sentiflow.metrics.predicted import PROBABILITY_FLOOR, Predicted

LOWEST, HIGHEST = 0.25, 10.0
"""Of a temperature."""
MAX_BIAS = 10.0

_PRIOR_LOG_TEMPERATURE, _PRIOR_BIAS = 0.5, 0.3
"""Standard deviations of the normal priors around temperature 1 and bias 0. With 1 for the bias,
few rows of equal classes cost up to 1.2 points of macro F1: benchmarks/LOG.md."""
_PRIOR_FACTORS, _PRIOR_ROWS = np.array([0.4, 1.0]), 30.0
"""Mean of the prior for the logits of a network and a linear model, and its precision."""
_NUM_PARTS, _MOST, _SURE = 10, 5000, 2.0
"""Parts of the cross-validation, the rows that it takes, and standard errors that convince."""
_MIN_ROWS_PER_CLASS = 5
"""On average, for a bias: Banking77 with 3.3 rows a class was worse with one."""
_DIGITS = 3
"""Of temperature and bias: far below their standard errors, and the same on every machine."""

COVERAGES = tuple(percent / 100 for percent in range(100, 0, -5))
_MISS, _NUM_TESTED = 0.05, 50
"""Chance that more errors are answered than was promised; thresholds that are tested."""


class Calibration(NamedTuple):
    """What calibrates the probabilities p of C classes: softmax(log p / temperature + bias)."""

    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    """C numbers whose mean is 0; empty if all are 0."""

    @classmethod
    def read(cls, record: Mapping[str, Any], classes: Sequence[str]) -> "Calibration | None":
        """Read what a manifest says of a model of these classes; None if that is nothing."""
        if "temperature" not in record:
            return None
        bias = record.get("bias") or {}
        return cls(record["temperature"], tuple(bias.get(n, 0.0) for n in classes if bias))


@dataclass(frozen=True)
class CoveragePoint(Accuracy):
    """The accuracy of a model that answers only the texts of which it is most certain."""

    coverage: float
    """Share of the texts that are answered."""
    confidence: float
    """The lowest probability of a prediction among them."""


def calibrate(probabilities: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Apply temperature and bias to the probabilities of C classes.

    A softmax does not change if a number is added to all logits, so log p stands for them.
    Probabilities are taken to be at least ``PROBABILITY_FLOOR``. A temperature changes no
    prediction, a bias may.

    Shape: (N rows, C classes)
        - probabilities: ``(N, C)``.
        - returns: ``(N, C)`` float64.

    Example:
        >>> calibrate(np.array([[0.5, 0.5], [0.1, 0.9]]), Calibration(2.0)).round(2).tolist()
        [[0.5, 0.5], [0.25, 0.75]]
    """
    return softmax(_log(probabilities) / calibration.temperature + (calibration.bias or 0.0))


def softmax(logits: np.ndarray) -> np.ndarray:
    """Turn logits ``(N, C)`` into probabilities."""
    from scipy import special

    return np.asarray(special.softmax(logits, axis=1))


def _log(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.asarray(probabilities, dtype=np.float64).clip(PROBABILITY_FLOOR))


def fit_calibration(*, label: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """Find the temperature, and a bias for each class, that make the labels most probable.

    Temperature scaling (Guo et al., "On calibration of modern neural networks", ICML 2017) corrects
    how sure a model is, and a bias for each class ("bias-corrected temperature scaling", Alexandari
    et al., ICML 2020) how often it predicts each class. Normal priors around 1 and 0 keep both
    small where rows are few. The bias is left out with fewer than ``_MIN_ROWS_PER_CLASS`` rows a
    class, and where cross-validation shows that it does not pay: where the log loss of rows that it
    was not fitted to is higher with it, by more than ``_SURE`` standard errors of the mean
    difference. Then the temperature likewise. Networks need both so often that the lower of the two
    log losses decides worse: benchmarks/LOG.md.

    Args:
        label: N positions among the classes; rows with another number are left out.
        probabilities: (N, C) of a model that is not calibrated.

    Returns:
        The temperature is within ``LOWEST`` and ``HIGHEST``. Nothing is changed where there are
        fewer than ``_NUM_PARTS`` rows, or one label only. Numbers are rounded to 3 digits.
    """
    is_known = (label >= 0) & (label < probabilities.shape[1])
    chosen, logits = label[is_known], _log(probabilities[is_known])
    if len(chosen) < _NUM_PARTS or len(np.unique(chosen)) < 2:
        return Calibration()
    some = np.linspace(0, len(chosen) - 1, min(len(chosen), _MOST)).astype(np.int64)
    part, losses = np.arange(len(some)) % _NUM_PARTS, np.zeros((3, len(some)))
    for number in range(_NUM_PARTS):
        fitted, others = some[part != number], some[part == number]
        tried = [Calibration(), *(_fit(logits[fitted], chosen[fitted], b) for b in (False, True))]
        for losses_of_one, each in zip(losses, tried, strict=True):
            losses_of_one[part == number] = _losses(logits[others], chosen[others], each)
    pays = not _is_worse(losses[2] - losses[1]) and not _is_worse(losses[2] - losses[0])
    if pays and len(chosen) >= _MIN_ROWS_PER_CLASS * logits.shape[1]:
        return _fit(logits, chosen, True)
    return Calibration() if _is_worse(losses[1] - losses[0]) else _fit(logits, chosen, False)


def fit_weight(*, label: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Find the share of a linear model in the logits that makes the labels most probable.

    The log loss of ``a * first + b * second`` is convex in both factors, which are 0 or more; the
    share is b / (a + b). A normal prior around the factors that small corpora have keeps it from
    depending on few rows: benchmarks/LOG.md.

    Args:
        label: N positions among the classes; rows with another number are left out.
        first: (N, C) logits of the network.
        second: The same of the linear model.

    Returns:
        The share, from 0 to 1, rounded to 2 digits; and the log loss of the labels.
    """
    from scipy import optimize

    is_known = (label >= 0) & (label < first.shape[1])
    chosen, logits = label[is_known], np.stack([first[is_known], second[is_known]])
    logits = logits - np.take_along_axis(logits, chosen[None, :, None], axis=2)

    def loss(factors: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.tensordot(factors, logits, axes=1)
        logs, surplus = np.logaddexp.reduce(mixed, axis=1), factors - _PRIOR_FACTORS
        gradient = (np.exp(mixed - logs[:, None]) * logits).sum(axis=(1, 2))
        prior = _PRIOR_ROWS * surplus
        return logs.sum() + (prior * surplus).sum() / 2, gradient + prior

    solved = optimize.minimize(
        loss, _PRIOR_FACTORS, jac=True, bounds=[(0, HIGHEST)] * 2, method="L-BFGS-B"
    ).x
    share = round(float(solved[1] / solved.sum()), 2) if solved.any() else 0.5
    mixed = solved[0] * first[is_known] + solved[1] * second[is_known]
    return share, float(_losses(mixed, chosen, Calibration()).sum())


def _is_worse(differences: np.ndarray) -> bool:
    """Say whether the mean difference of log losses is above 0 by more than chance."""
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return bool(differences.mean() > _SURE * error)


def _losses(logits: np.ndarray, label: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Compute the log loss of each row."""
    scaled = logits / calibration.temperature + (calibration.bias or 0.0)
    return np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(label)), label]


def _fit(logits: np.ndarray, label: np.ndarray, has_bias: bool) -> Calibration:
    """Minimize the log loss of some rows plus what the priors add; both are convex in 1 / T."""
    from scipy import optimize

    num_classes = logits.shape[1]
    is_label = np.eye(num_classes)[label]

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        log_temperature, bias = values[0], values[1:] if has_bias else np.zeros(num_classes)
        scaled = logits * math.exp(-log_temperature)
        logs = scaled + bias
        logs -= np.logaddexp.reduce(logs, axis=1)[:, None]
        error = np.exp(logs) - is_label
        total = -logs[np.arange(len(label)), label].sum()
        gradient = np.array([-(error * scaled).sum(), *error.sum(axis=0)])[: len(values)]
        return total + (values**2 / prior).sum() / 2, gradient + values / prior

    prior = np.square([_PRIOR_LOG_TEMPERATURE, *[_PRIOR_BIAS] * (num_classes * has_bias)])
    bounds = [(math.log(LOWEST), math.log(HIGHEST)), *[(-MAX_BIAS, MAX_BIAS)] * (len(prior) - 1)]
    solution = optimize.minimize(
        loss, np.zeros(len(prior)), jac=True, bounds=bounds, method="L-BFGS-B",
        options={"ftol": 1e-12, "gtol": 1e-6},
    ).x  # fmt: skip
    bias = (solution[1:] - solution[1:].mean()).round(_DIGITS) if has_bias else solution[1:]
    return Calibration(
        round(math.exp(solution[0]), _DIGITS), tuple(bias.tolist()) if bias.any() else ()
    )


def describe(calibration: Calibration, before: Predicted, after: Predicted) -> dict[str, Any]:
    """Measure what a calibration changes, as ``manifest_types.Calibration`` says it."""
    return {
        "temperature": calibration.temperature,
        "bias": dict(zip(after.classes, calibration.bias, strict=False)),
        "num_rows": len(after.label),
        "before": measure_probabilities(before),
        "after": measure_probabilities(after),
    }


def accuracy_by_coverage(*, right: np.ndarray, confidence: np.ndarray) -> list[CoveragePoint]:
    """Measure a model that answers only the texts of which it is most certain.

    The risk-coverage curve of El-Yaniv and Wiener (JMLR 2010), with accuracy for 1 - risk. Texts
    are taken in the order of their confidence; where that is equal they are taken together.

    Args:
        right: Which of N predictions are right; at least one.
        confidence: Probability of each prediction.

    Returns:
        A point for each of ``COVERAGES``, whose coverage is at least that.
    """
    falling, points = np.sort(confidence)[::-1], []
    for aim in COVERAGES:
        last = float(falling[math.ceil(round(aim * len(right), 6)) - 1])
        answered = right[confidence >= last]
        points.append(
            CoveragePoint.of(
                int(answered.sum()),
                len(answered),
                coverage=len(answered) / len(right),
                confidence=last,
            )
        )
    return points


def count_least(max_error: float) -> int:
    """Count the errorless rows from which :func:`choose_threshold` can answer anything.

    Example:
        >>> count_least(0.05)
        59
    """
    return math.ceil(math.log(_MISS) / math.log1p(-max_error))


def choose_threshold(*, right: np.ndarray, confidence: np.ndarray, max_error: float) -> float:
    """Choose the confidence above which predictions are given, so that few of these are wrong.

    Fixed-sequence testing, as in Angelopoulos et al., "Learn then Test: Calibrating predictive
    algorithms to achieve risk control", Annals of Applied Statistics 19 (2025). The thresholds are
    quantiles of the confidence, which no error decides. From the strictest on, each is tested: the
    error above it is larger than ``max_error`` if the exact upper bound of Clopper and Pearson
    (95 %, one-sided) is. The last one before the first failure is chosen, so in at most 1 of 20
    samples of rows is its error on other texts of the same kind larger.

    The strictest answers a quarter of the rows, but no fewer than errorless ones can pass, and no
    more than three times as many: with fewer, one or two errors end the sequence. Where confidences
    are equal, texts are answered together.

    Args:
        right: Which of N predictions are right, for texts that the model was not trained on.
        confidence: Probability of each prediction; 0 for those that are never given.
        max_error: The largest share of wrong predictions among those above the threshold.

    Returns:
        From 0 to 1, rounded down to 4 digits; 1 answers nothing.
    """
    from scipy import special

    chosen, least, size = 1.0, count_least(max_error), len(right)
    sizes = np.ceil(np.linspace(0, size, _NUM_TESTED, endpoint=False)).astype(np.int64)
    tested = sizes[(sizes >= np.clip(size / 4, least, 3 * least)) & (sizes < size)]
    thresholds = np.floor(1e4 * np.sort(confidence)[::-1][tested].astype(np.float64)) / 1e4
    for threshold in [*thresholds.tolist(), 0.0]:
        answered = right[confidence > threshold]
        num_errors = len(answered) - int(answered.sum())
        if special.bdtr(num_errors, len(answered), max_error) >= _MISS:
            break
        chosen = threshold
    return chosen
