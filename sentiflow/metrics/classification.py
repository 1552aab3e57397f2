"""Labels, predictions and probabilities -> accuracy, F1, log loss and the like."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiflow.data.schema import NEGATIVE, POSITIVE

PROBABILITY_FLOOR = 1e-7
"""The log loss clips probabilities to this distance from 0 and 1."""

NUM_CALIBRATION_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class LabelMetrics:
    """How well the texts of one label are found; None where a share is one of nothing."""

    precision: float | None
    """Of the texts predicted to have the label, the share that has it."""
    recall: float | None
    """Of the texts with the label, the share that is predicted to have it."""
    f1: float | None
    """Harmonic mean of the two."""


@dataclass(frozen=True)
class ProbabilityMetrics:
    """How good probabilities are, whatever threshold is applied to them; None without rows."""

    log_loss: float | None
    """Natural logarithm; probabilities are clipped at ``PROBABILITY_FLOOR``."""
    brier: float | None
    """Mean squared difference of probability and label."""
    expected_calibration_error: float | None
    """See the function of that name."""


@dataclass(frozen=True)
class BinaryMetrics:
    """Predictions measured against labels, ready for JSON.

    A metric is None where it is undefined: a share of nothing (precision without a positive
    prediction), and everything without rows.
    """

    num_rows: int
    positive_fraction: float | None
    """Among the labels."""
    accuracy: float | None
    accuracy_low: float | None
    """Of the 95 % Wilson interval."""
    accuracy_high: float | None
    precision_positive: float | None
    recall_positive: float | None
    f1_positive: float | None
    precision_negative: float | None
    recall_negative: float | None
    f1_negative: float | None
    f1_macro: float | None
    """Mean of the F1 of both labels."""
    matthews: float | None
    """Matthews correlation coefficient."""
    roc_auc: float | None
    """None unless both labels occur, as is the average precision."""
    average_precision: float | None
    log_loss: float | None
    brier: float | None
    expected_calibration_error: float | None
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """Bound the share behind ``successes`` out of ``total`` (95 %); ``(nan, nan)`` if that is 0.

    The score interval of E. B. Wilson, "Probable inference, the law of succession, and
    statistical inference", JASA 22 (1927). It stays within [0, 1] and is sound for few rows and
    for shares near 0 or 1, where the textbook's p ± z √(p(1 - p)/n) is not.

    Example:
        >>> low, high = wilson_interval(8, 10)
        >>> f"{low:.4f} {high:.4f}"
        '0.4902 0.9433'
    """
    from scipy.stats import binomtest

    if total == 0:
        return math.nan, math.nan
    share = successes / total
    found = binomtest(successes, total).proportion_ci(method="wilson")
    return min(share, float(found.low)), max(share, float(found.high))  # rounding may pass it


def binary_metrics(
    *, label: np.ndarray, probability: np.ndarray, prediction: np.ndarray
) -> BinaryMetrics:
    """Measure predictions against labels.

    Args:
        label: N labels, 0 or 1.
        probability: Of positive.
        prediction: Taken as it is, whatever threshold made it.

    Raises:
        ValueError: A label or prediction is neither 0 nor 1, or a probability not in [0, 1].
    """
    label, prediction = np.asarray(label), np.asarray(prediction)
    probability = np.asarray(probability, dtype=np.float64)
    _check(label=label, probability=probability, prediction=prediction)
    counts = count_confusion(label, prediction, num_labels=2)
    (tn, fp), (fn, tp) = counts.tolist()
    num_rows, num_right = len(label), tp + tn
    low, high = wilson_interval(num_right, num_rows) if num_rows else (None, None)
    negative, positive = measure_labels(counts)
    return BinaryMetrics(
        num_rows=num_rows,
        positive_fraction=(tp + fn) / num_rows if num_rows else None,
        accuracy=num_right / num_rows if num_rows else None,
        accuracy_low=low,
        accuracy_high=high,
        **{f"{name}_positive": value for name, value in vars(positive).items()},
        **{f"{name}_negative": value for name, value in vars(negative).items()},
        f1_macro=_mean_of_both(positive.f1, negative.f1),
        matthews=_matthews(counts),
        **_ranking_metrics(label=label, probability=probability),
        **vars(probability_metrics(label=label, probability=probability)),
        true_positive=tp,
        false_positive=fp,
        true_negative=tn,
        false_negative=fn,
    )


def count_confusion(label: np.ndarray, prediction: np.ndarray, *, num_labels: int) -> np.ndarray:
    """Count rows by label and prediction: ``(num_labels, num_labels)``.

    scikit-learn gets these counts instead of the rows, as it takes a second for a million rows.
    """
    cell = np.int64(label) * num_labels + prediction
    counts = np.bincount(cell.astype(np.int64), minlength=num_labels**2)
    return counts.reshape(num_labels, num_labels)


def measure_labels(confusion: np.ndarray) -> list[LabelMetrics]:
    """Measure each label, given the counts of :func:`count_confusion`."""
    from sklearn.metrics import precision_recall_fscore_support

    if not confusion.any():
        return [LabelMetrics(None, None, None)] * len(confusion)
    label, prediction = np.indices(confusion.shape).reshape(2, -1)
    found = precision_recall_fscore_support(
        label, prediction, sample_weight=confusion.ravel(), zero_division=np.nan
    )
    shares = np.transpose(found[:3]).tolist()
    return [LabelMetrics(*(None if math.isnan(x) else x for x in row)) for row in shares]


def probability_metrics(*, label: np.ndarray, probability: np.ndarray) -> ProbabilityMetrics:
    """Measure the probabilities of positive against labels, 0 or 1."""
    if not len(label):
        return ProbabilityMetrics(None, None, None)
    return ProbabilityMetrics(
        float(log_losses(label=label, probability=probability).mean()),
        float(np.square(np.float64(probability) - label).mean()),
        expected_calibration_error(label=label, probability=probability),
    )


def expected_calibration_error(*, label: np.ndarray, probability: np.ndarray) -> float:
    """Average the gap between the probability of positive and the share of positive labels.

    Over 15 equal bins of the probability of positive: the sum of n_b / n · |mean probability
    in b - share of positive labels in b|. This is the estimator of Naeini et al. (AAAI 2015),
    on the probability of one class; Guo et al. (ICML 2017) bin the probability of the
    predicted class instead, which gives another number. NaN without rows.
    """
    bins = reliability_bins(label=label, probability=probability, num_bins=NUM_CALIBRATION_BINS)
    gap = (bins["mean_probability"] - bins["positive_fraction"]).abs()
    return float((gap * bins["num_rows"]).sum() / len(label)) if len(label) else math.nan


def log_losses(*, label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Give each row's -ln(probability of its label), clipped at ``PROBABILITY_FLOOR``: N floats."""
    clipped = np.float64(probability).clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return -np.log(np.where(label == POSITIVE, clipped, 1 - clipped))


def bin_probabilities(probability: np.ndarray, *, num_bins: int) -> np.ndarray:
    """Number the equal bin of each probability, from 0; the last bin holds 1 too."""
    edges = np.linspace(0, 1, num_bins + 1)
    return np.minimum(np.searchsorted(edges, probability, side="right"), num_bins) - 1


def reliability_bins(
    *, label: np.ndarray, probability: np.ndarray, num_bins: int = 10
) -> pd.DataFrame:
    """Compare predicted with observed shares of positive in equal bins of the probability.

    A bin holds ``low <= probability < high``; the last one holds 1 too. Every bin is listed,
    with NaN for the two shares of an empty one.

    Columns:
        added: ``low``, ``high``, ``num_rows``, ``mean_probability``, ``positive_fraction``.
    """
    probability = np.asarray(probability, dtype=np.float64)
    edges = np.linspace(0, 1, num_bins + 1)
    index = bin_probabilities(probability, num_bins=num_bins)
    num_rows = np.bincount(index, minlength=num_bins)
    sums = {
        "mean_probability": np.bincount(index, weights=probability, minlength=num_bins),
        "positive_fraction": np.bincount(index, weights=label, minlength=num_bins),
    }
    means = {
        name: np.divide(total, num_rows, out=np.full(num_bins, np.nan), where=num_rows > 0)
        for name, total in sums.items()
    }
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "num_rows": num_rows, **means})


def _check(*, label: np.ndarray, probability: np.ndarray, prediction: np.ndarray) -> None:
    if not len(label) == len(probability) == len(prediction):
        raise ValueError(f"{len(label)=}, {len(probability)=}, {len(prediction)=} differ")
    for name, values in (("label", label), ("prediction", prediction)):
        invalid = values[~np.isin(values, (NEGATIVE, POSITIVE))]
        if len(invalid):
            raise ValueError(f"{name} {invalid[0]} is neither {NEGATIVE} nor {POSITIVE}")
    invalid = probability[~((probability >= 0) & (probability <= 1))]
    if len(invalid):
        raise ValueError(f"probability {invalid[0]} is not in [0, 1]")


def _matthews(confusion: np.ndarray) -> float | None:
    from sklearn.metrics import matthews_corrcoef

    if not (confusion.any(axis=0) & confusion.any(axis=1)).all():
        return None
    label, prediction = np.indices(confusion.shape).reshape(2, -1)
    return float(matthews_corrcoef(label, prediction, sample_weight=confusion.ravel()))


def _ranking_metrics(*, label: np.ndarray, probability: np.ndarray) -> dict[str, float | None]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    if len(np.unique(label)) < 2:
        return {"roc_auc": None, "average_precision": None}
    return {
        "roc_auc": float(roc_auc_score(label, probability)),
        "average_precision": float(average_precision_score(label, probability)),
    }


def _mean_of_both(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else (first + second) / 2
