"""Labels and predictions -> figures, intervals, slices, calibration."""

import math
from statistics import NormalDist

import numpy as np
import pandas as pd

from sentiflow.data.schema import NEGATIVE, POSITIVE

PROBABILITY_FLOOR = 1e-7
"""Nearest to 0 or 1 that the log loss takes a float32 probability to be."""

NUM_CALIBRATION_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. (2017)."""

Figures = dict[str, float | int | None]


def wilson_interval(successes: int, total: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Bound the share behind ``successes`` out of ``total``; ``(nan, nan)`` if ``total`` is 0.

    The score interval of E. B. Wilson, "Probable inference, the law of succession, and
    statistical inference", JASA 22 (1927), with p = successes / n and z the normal quantile:

        (p + z²/2n ± z √(p(1 - p)/n + z²/4n²)) / (1 + z²/n)

    It stays within [0, 1] and is sound for few rows and for shares near 0 or 1, where the
    textbook's p ± z √(p(1 - p)/n) is not.

    Example:
        >>> low, high = wilson_interval(8, 10)
        >>> f"{low:.4f} {high:.4f}"
        '0.4902 0.9433'
    """
    if total == 0:
        return math.nan, math.nan
    share = successes / total
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    center = share + z**2 / (2 * total)
    reach = z * math.sqrt(share * (1 - share) / total + z**2 / (4 * total**2))
    scale = 1 + z**2 / total
    low, high = (center - reach) / scale, (center + reach) / scale
    return max(0.0, min(share, low)), min(1.0, max(share, high))  # rounding may pass the share


def binary_figures(
    *, label: np.ndarray, probability: np.ndarray, prediction: np.ndarray
) -> Figures:
    """Measure predictions against labels, ready for JSON.

    ``probability`` is that of positive; ``prediction`` is taken as it is, whatever threshold
    made it. A figure is None where it is undefined: a share of nothing (precision without a
    positive prediction), everything without rows, and ``roc_auc`` and ``average_precision``
    unless both classes are among the labels.

    ``accuracy_low`` and ``accuracy_high`` are the 95 % Wilson interval. ``log_loss`` (natural
    logarithm) clips probabilities at ``PROBABILITY_FLOOR``. ``brier`` is the mean squared
    difference of probability and label. ``expected_calibration_error`` is explained at the
    function of that name.

    Raises:
        ValueError: A label or prediction is neither 0 nor 1, or a probability not in [0, 1].
    """
    label, prediction = np.asarray(label), np.asarray(prediction)
    probability = np.asarray(probability, dtype=np.float64)
    _check(label=label, probability=probability, prediction=prediction)

    num_rows = len(label)
    counts = _confusion_counts(label=label, prediction=prediction)
    tp, fp = counts["true_positive"], counts["false_positive"]
    tn, fn = counts["true_negative"], counts["false_negative"]
    interval = wilson_interval(tp + tn, num_rows) if num_rows else (None, None)
    positive = _class_figures(right=tp, predicted=tp + fp, labelled=tp + fn)
    negative = _class_figures(right=tn, predicted=tn + fn, labelled=tn + fp)
    root = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    return {
        "num_rows": num_rows,
        "positive_fraction": _ratio(tp + fn, num_rows),
        "accuracy": _ratio(tp + tn, num_rows),
        "accuracy_low": interval[0],
        "accuracy_high": interval[1],
        **{f"{name}_positive": value for name, value in positive.items()},
        **{f"{name}_negative": value for name, value in negative.items()},
        "f1_macro": _mean_of_both(positive["f1"], negative["f1"]),
        "matthews": _ratio(tp * tn - fp * fn, root),
        **_ranking_figures(label=label, probability=probability),
        **_probability_figures(label=label, probability=probability),
        **counts,
    }


def expected_calibration_error(*, label: np.ndarray, probability: np.ndarray) -> float:
    """Average how far the probability of positive is from the share that is positive.

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
        strange = values[~np.isin(values, (NEGATIVE, POSITIVE))]
        if len(strange):
            raise ValueError(f"{name} {strange[0]} is neither {NEGATIVE} nor {POSITIVE}")
    strange = probability[~((probability >= 0) & (probability <= 1))]
    if len(strange):
        raise ValueError(f"probability {strange[0]} is not in [0, 1]")


def _confusion_counts(*, label: np.ndarray, prediction: np.ndarray) -> dict[str, int]:
    right = label == prediction
    positive = prediction == POSITIVE
    return {
        "true_positive": int((right & positive).sum()),
        "false_positive": int((~right & positive).sum()),
        "true_negative": int((right & ~positive).sum()),
        "false_negative": int((~right & ~positive).sum()),
    }


def _class_figures(*, right: int, predicted: int, labelled: int) -> dict[str, float | None]:
    return {
        "precision": _ratio(right, predicted),
        "recall": _ratio(right, labelled),
        "f1": _ratio(2 * right, predicted + labelled),
    }


def _ranking_figures(*, label: np.ndarray, probability: np.ndarray) -> dict[str, float | None]:
    from sklearn.metrics import average_precision_score, roc_auc_score

    if len(np.unique(label)) < 2:
        return {"roc_auc": None, "average_precision": None}
    return {
        "roc_auc": float(roc_auc_score(label, probability)),
        "average_precision": float(average_precision_score(label, probability)),
    }


def _probability_figures(*, label: np.ndarray, probability: np.ndarray) -> dict[str, float | None]:
    if not len(label):
        return {"log_loss": None, "brier": None, "expected_calibration_error": None}
    return {
        "log_loss": float(log_losses(label=label, probability=probability).mean()),
        "brier": float(np.square(probability - label).mean()),
        "expected_calibration_error": expected_calibration_error(
            label=label, probability=probability
        ),
    }


def _ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def _mean_of_both(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else (first + second) / 2
