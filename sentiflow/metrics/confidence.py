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

LOWEST = 0.25
"""Lowest temperature."""
HIGHEST = 10.0
"""Highest temperature; also the largest factor of logits."""
MAX_BIAS = 10.0
"""Largest bias of a class, up or down."""

_PRIOR_LOG_TEMPERATURE = 0.5
"""Standard deviation of the normal prior of the log temperature around 0."""
_PRIOR_BIAS = 0.3
"""Standard deviation of the normal prior of a bias around 0. With 1, few rows of equal classes cost
up to 1.2 points of macro F1: benchmarks/LOG.md."""
_PRIOR_FACTORS = np.array([0.4, 1.0])
"""Mean of the normal prior of the factors for the logits of a network and a linear model."""
_PRIOR_ROWS = 30.0
"""Precision of that prior."""
_NUM_PARTS = 10
"""Parts of the cross-validation."""
_MOST = 5000
"""Rows that the cross-validation takes at most."""
_SURE = 2.0
"""Standard errors of a mean difference that convince."""
_MIN_ROWS_PER_CLASS = 5
"""On average, for a bias: Banking77 with 3.3 rows a class was worse with one."""
_DIGITS = 3
"""Digits of temperature and bias: far below their standard errors, and the same on every
machine."""

COVERAGES = tuple(percent / 100 for percent in range(100, 0, -5))
"""Shares of the texts that are answered, of the points of :func:`accuracy_by_coverage`."""
_MISS = 0.05
"""Chance that more errors are answered than was promised."""
_NUM_TESTED = 50
"""Thresholds that are tested."""


class Calibration(NamedTuple):
    """A temperature and biases: probabilities p become softmax(log p / temperature + bias)."""

    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    """C numbers whose mean is 0; empty if all are 0."""

    @classmethod
    def read(cls, record: Mapping[str, Any], classes: Sequence[str]) -> "Calibration | None":
        """Read what a manifest says of a model of these classes; None if it says nothing.

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


@dataclass(frozen=True)
class CoveragePoint(Accuracy):
    """The accuracy of a model that answers only the texts of which it is most certain."""

    coverage: float
    """Share of the texts that are answered."""
    confidence: float
    """The lowest probability of a prediction among them."""


def calibrate(probabilities: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Apply temperature and bias to the probabilities of C classes.

    Temperature scaling (C. Guo et al., "On calibration of modern neural networks", ICML 2017), and
    a bias for each class (A. M. Alexandari et al., "Maximum likelihood with bias-corrected
    calibration is hard-to-beat at label shift adaptation", ICML 2020). A softmax does not change if
    a number is added to all logits, so log p stands for them.
    Probabilities are taken to be at least ``PROBABILITY_FLOOR``. A temperature changes no
    prediction, a bias may.

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
    """Take logarithms, of ``PROBABILITY_FLOOR`` at least."""
    return np.log(np.asarray(probabilities, dtype=np.float64).clip(PROBABILITY_FLOOR))


def _scale(logits: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Divide logits by the temperature, and add the biases."""
    return logits / calibration.temperature + (calibration.bias or 0.0)


def fit_calibration(*, label: np.ndarray, probabilities: np.ndarray) -> Calibration:
    """Find the temperature, and a bias for each class, that make the labels most probable.

    Temperature scaling (Guo et al., "On calibration of modern neural networks", ICML 2017) corrects
    how sure a model is, and a bias for each class ("bias-corrected temperature scaling", Alexandari
    et al., ICML 2020) how often it predicts each class. Normal priors around 1 and 0 keep both
    small where rows are few.

    The bias is left out with fewer than ``_MIN_ROWS_PER_CLASS`` rows a class, and where
    cross-validation shows that it does not pay: where the log loss of rows that it was not fitted
    to is higher with it, by more than ``_SURE`` standard errors of the mean difference. Then the
    temperature likewise. Networks need both so often that the lower of the two log losses decides
    worse: benchmarks/LOG.md.

    Args:
        label: N positions among the classes; rows with another number are left out.
        probabilities: ``(N, C)`` of a model that is not calibrated.

    Returns:
        The temperature is within ``LOWEST`` and ``HIGHEST``. Nothing is changed where there are
        fewer than ``_NUM_PARTS`` rows, or one label only. Numbers are rounded to 3 digits.

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
    if len(label) < _NUM_PARTS or len(np.unique(label)) < 2:
        return Calibration()
    losses = _cross_validate(logits, label)
    is_bias_worse = _is_worse(losses.with_bias - losses.with_temperature) or _is_worse(
        losses.with_bias - losses.unchanged
    )
    if not is_bias_worse and len(label) >= _MIN_ROWS_PER_CLASS * num_classes:
        return _fit(logits, label, has_bias=True)
    if _is_worse(losses.with_temperature - losses.unchanged):
        return Calibration()
    return _fit(logits, label, has_bias=False)


class _Losses(NamedTuple):
    """The log loss of each row by three calibrations that were not fitted to it."""

    unchanged: np.ndarray
    with_temperature: np.ndarray
    with_bias: np.ndarray
    """With temperature and bias."""


def _cross_validate(logits: np.ndarray, label: np.ndarray) -> _Losses:
    """Measure the log loss of rows by calibrations that were fitted to the other parts."""
    num_rows = min(len(label), _MOST)
    rows = np.linspace(0, len(label) - 1, num_rows).astype(np.int64)
    part = np.arange(num_rows) % _NUM_PARTS
    losses = _Losses(np.zeros(num_rows), np.zeros(num_rows), np.zeros(num_rows))
    for number in range(_NUM_PARTS):
        inside = part == number
        fitted = rows[~inside]
        others = rows[inside]
        temperature = _fit(logits[fitted], label[fitted], has_bias=False)
        bias = _fit(logits[fitted], label[fitted], has_bias=True)
        losses.unchanged[inside] = _measure_losses(logits[others], label[others], Calibration())
        losses.with_temperature[inside] = _measure_losses(
            logits[others], label[others], temperature
        )
        losses.with_bias[inside] = _measure_losses(logits[others], label[others], bias)
    return losses


def fit_weight(*, label: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """Find the share of a linear model in the logits that makes the labels most probable.

    The log loss of a · first + b · second is convex in both factors, which are 0 or more; the share
    is b / (a + b). This is the logarithmic opinion pool (C. Genest and J. V. Zidek, "Combining
    probability distributions", Statistical Science 1, 1986). A normal prior around the factors that
    small corpora have keeps the share from depending on few rows: benchmarks/LOG.md.

    Args:
        label: N positions among the classes; rows with another number are left out.
        first: ``(N, C)`` logits of the network.
        second: The same of the linear model.

    Returns:
        The share, from 0 to 1, rounded to 2 digits; and the log loss of the labels, summed.

    Example:
        Without rows the factors are the means of their priors, 0.4 and 1: 1 / 1.4 = 0.71.

        >>> none = np.zeros((0, 2))
        >>> fit_weight(label=np.zeros(0, int), first=none, second=none)
        (0.71, 0.0)
    """
    from scipy import optimize

    is_known = (label >= 0) & (label < first.shape[1])
    label = label[is_known]
    both = np.stack([first[is_known], second[is_known]])
    of_label = np.take_along_axis(both, label[None, :, None], axis=2)
    logits = both - of_label  # 0 for the label: the log loss is the log of the sum

    def loss(factors: np.ndarray) -> tuple[float, np.ndarray]:
        mixed = np.tensordot(factors, logits, axes=1)
        losses = np.logaddexp.reduce(mixed, axis=1)
        gradient = (np.exp(mixed - losses[:, None]) * logits).sum(axis=(1, 2))
        surplus = factors - _PRIOR_FACTORS
        prior = _PRIOR_ROWS * surplus
        return losses.sum() + (prior * surplus).sum() / 2, gradient + prior

    bounds = [(0, HIGHEST), (0, HIGHEST)]
    factors = optimize.minimize(loss, _PRIOR_FACTORS, jac=True, bounds=bounds, method="L-BFGS-B").x
    share = 0.5
    if factors.any():
        share = round(float(factors[1] / factors.sum()), 2)
    mixed = factors[0] * both[0] + factors[1] * both[1]
    return share, float(_measure_losses(mixed, label, Calibration()).sum())


def _is_worse(differences: np.ndarray) -> bool:
    """Say whether the mean difference of log losses is above 0 by more than chance."""
    error = differences.std(ddof=1) / math.sqrt(len(differences))
    return bool(differences.mean() > _SURE * error)


def _measure_losses(logits: np.ndarray, label: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Compute the log loss of each row."""
    scaled = _scale(logits, calibration)
    return np.logaddexp.reduce(scaled, axis=1) - scaled[np.arange(len(label)), label]


def _fit(logits: np.ndarray, label: np.ndarray, *, has_bias: bool) -> Calibration:
    """Minimize the log loss of some rows plus what the priors add; both are convex in 1 / T."""
    from scipy import optimize

    num_rows, num_classes = logits.shape
    is_label = np.eye(num_classes)[label]
    deviations = [_PRIOR_LOG_TEMPERATURE]
    bounds = [(math.log(LOWEST), math.log(HIGHEST))]
    if has_bias:
        deviations += [_PRIOR_BIAS] * num_classes
        bounds += [(-MAX_BIAS, MAX_BIAS)] * num_classes
    prior = np.square(deviations)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        """Compute the loss of a log temperature, and of the biases that follow it."""
        scaled = logits * math.exp(-values[0])
        bias = values[1:] if has_bias else 0.0
        logs = scaled + bias
        logs -= np.logaddexp.reduce(logs, axis=1)[:, None]
        error = np.exp(logs) - is_label
        total = -logs[np.arange(num_rows), label].sum()
        gradient = np.array([-(error * scaled).sum(), *error.sum(axis=0)])[: len(values)]
        return total + (values**2 / prior).sum() / 2, gradient + values / prior

    solution = optimize.minimize(
        loss, np.zeros(len(prior)), jac=True, bounds=bounds, method="L-BFGS-B",
        options={"ftol": 1e-12, "gtol": 1e-6},
    ).x  # fmt: skip
    temperature = round(math.exp(solution[0]), _DIGITS)
    bias = solution[1:]
    if has_bias:
        bias = (bias - bias.mean()).round(_DIGITS)
    if not bias.any():
        return Calibration(temperature)
    return Calibration(temperature, tuple(bias.tolist()))


def describe(calibration: Calibration, before: Predicted, after: Predicted) -> dict[str, Any]:
    """Measure what a calibration changes; returns fields of ``manifest_types.CalibrationRecord``.

    Args:
        calibration: What was applied.
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


def accuracy_by_coverage(*, right: np.ndarray, confidence: np.ndarray) -> list[CoveragePoint]:
    """Measure a model that answers only the texts of which it is most certain.

    The risk-coverage curve of R. El-Yaniv and Y. Wiener, "On the foundations of noise-free
    selective classification", JMLR 11 (2010), with accuracy for 1 - risk. Texts are taken in the
    order of their confidence; texts of equal confidence are taken together.

    Args:
        right: Which of N predictions are right; at least one.
        confidence: Probability of each prediction.

    Returns:
        A point for each of ``COVERAGES``, whose coverage is at least that.

    Example:
        The two texts above 0.7 are right, the other two are not.

        >>> right = np.array([True, True, False, False])
        >>> curve = accuracy_by_coverage(right=right, confidence=np.array([0.9, 0.8, 0.6, 0.6]))
        >>> [(curve[at].coverage, curve[at].accuracy, curve[at].confidence) for at in (0, 10)]
        [(1.0, 0.5, 0.6), (0.5, 1.0, 0.8)]
    """
    falling = np.sort(confidence)[::-1]
    points = []
    for coverage in COVERAGES:
        num_answered = math.ceil(round(coverage * len(right), 6))
        lowest = float(falling[num_answered - 1])
        answered = right[confidence >= lowest]
        point = CoveragePoint.of(
            int(answered.sum()),
            len(answered),
            coverage=len(answered) / len(right),
            confidence=lowest,
        )
        points.append(point)
    return points


def count_least(max_error: float) -> int:
    """Count the errorless rows from which :func:`choose_threshold` can answer anything.

    The "rule of three" (J. A. Hanley and A. Lippman-Hand, JAMA 249, 1983) in its exact form: the
    least n with (1 - max_error)ⁿ ≤ 0.05.

    Example:
        0.95⁵⁸ = 0.0510, 0.95⁵⁹ = 0.0485

        >>> count_least(0.05)
        59
    """
    return math.ceil(math.log(_MISS) / math.log1p(-max_error))


def choose_threshold(*, right: np.ndarray, confidence: np.ndarray, max_error: float) -> float:
    """Choose the confidence above which predictions are given, so that few of these are wrong.

    Fixed-sequence testing, as in Angelopoulos et al., "Learn then Test: Calibrating predictive
    algorithms to achieve risk control", Annals of Applied Statistics 19 (2025). The thresholds are
    quantiles of the confidence, which no error decides. Each is tested, the strictest first. A
    threshold fails if the exact upper bound of Clopper and Pearson (95%, one-sided) for the error
    above it is larger than ``max_error``. The last one before the first failure is chosen. So in at
    most 1 of 20 samples of rows its error on other texts of the same kind is larger.

    The strictest threshold answers a quarter of the rows, but at least :func:`count_least` rows, as
    fewer cannot pass, and at most three times as many. With fewer rows, one or two errors would end
    the sequence. Texts of equal confidence are answered together.

    Args:
        right: Which of N predictions are right, for texts that the model was not trained on.
        confidence: Probability of each prediction; 0 for those that are never given.
        max_error: The largest share of wrong predictions among those above the threshold.

    Returns:
        From 0 to 1, rounded down to 4 digits; 1 answers nothing.

    Example:
        Of 200 rows the 100 with a confidence above 0.75 are right, of the others half. With an
        error of 10% the chance of at most 4 errors in 108 rows is 0.0135; of at most 6 in 112 it
        is 0.0609, which is too large.

        >>> confidence = np.linspace(1, 0.5, 201)[:-1]
        >>> right = (np.arange(200) < 100) | (np.arange(200) % 2 == 0)
        >>> threshold = choose_threshold(right=right, confidence=confidence, max_error=0.1)
        >>> threshold, int((confidence > threshold).sum())
        (0.73, 108)
    """
    from scipy import special

    size = len(right)
    least = count_least(max_error)
    strictest = np.clip(size / 4, least, 3 * least)
    sizes = np.ceil(np.linspace(0, size, _NUM_TESTED, endpoint=False)).astype(np.int64)
    tested = sizes[(sizes >= strictest) & (sizes < size)]
    falling = np.sort(confidence)[::-1]
    thresholds = np.floor(1e4 * falling[tested].astype(np.float64)) / 1e4
    chosen = 1.0
    for threshold in [*thresholds.tolist(), 0.0]:
        answered = right[confidence > threshold]
        num_errors = len(answered) - int(answered.sum())
        if special.bdtr(num_errors, len(answered), max_error) >= _MISS:
            break
        chosen = threshold
    return chosen
