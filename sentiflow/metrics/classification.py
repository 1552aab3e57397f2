"""Labels, predictions and probabilities -> accuracy, F1, log loss and the like."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiflow.data.schema import POSITIVE

PROBABILITY_FLOOR = 1e-7
"""The log loss clips probabilities to this distance from 0 and 1."""

NUM_CALIBRATION_BINS = 15
"""Bins of the expected calibration error, as in Guo et al. (2017)."""


@dataclass(frozen=True)
class LabelMetrics:
    """How well the texts of one label are found; None where a share is one of nothing."""

    precision: float | None
    """Share of the texts with this prediction that have the label."""
    recall: float | None
    """Share of the texts with the label that have this prediction."""
    f1: float | None
    """Harmonic mean of the two."""


@dataclass(frozen=True)
class ClassMetrics(LabelMetrics):
    """How well the texts of one class are found among those of all classes."""

    num_rows: int
    """Rows that have the label."""
    num_predicted: int
    """Rows that have the prediction."""
    roc_auc: float | None
    """Area under the ROC curve of this class against the others."""


@dataclass(frozen=True)
class ProbabilityMetrics:
    """How good probabilities are, whatever threshold is applied to them."""

    log_loss: float
    """Natural logarithm; probabilities are clipped at ``PROBABILITY_FLOOR``."""
    brier: float
    """Mean squared difference of probability and label."""
    expected_calibration_error: float
    """See the function of that name."""


@dataclass(frozen=True)
class BinaryMetrics:
    """Predictions measured against labels, ready for JSON.

    A metric is None where it is undefined, as is the precision without a positive prediction.
    """

    num_rows: int
    positive_fraction: float
    """Share of the labels that are positive."""
    accuracy: float
    accuracy_low: float
    """Lower end of the 95 % Wilson interval."""
    accuracy_high: float
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
    log_loss: float
    brier: float
    expected_calibration_error: float
    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int

    @property
    def confusion(self) -> dict[str, dict[str, int]]:
        """Return the rows by label, then by prediction."""
        return {
            "negative": {"negative": self.true_negative, "positive": self.false_positive},
            "positive": {"negative": self.false_negative, "positive": self.true_positive},
        }

    @property
    def most_frequent(self) -> tuple[str, float]:
        """Name the most frequent label and its share: the accuracy of always predicting it."""
        if self.positive_fraction >= 0.5:
            return "positive", self.positive_fraction
        return "negative", 1 - self.positive_fraction

    @property
    def by_class(self) -> dict[str, ClassMetrics]:
        """Return the metrics of each class."""
        counts, known = self.confusion, vars(self)
        return {
            name: ClassMetrics(
                precision=known[f"precision_{name}"],
                recall=known[f"recall_{name}"],
                f1=known[f"f1_{name}"],
                num_rows=sum(counts[name].values()),
                num_predicted=sum(row[name] for row in counts.values()),
                roc_auc=self.roc_auc,
            )
            for name in counts
        }


def wilson_interval(successes: int, total: int) -> tuple[float, float]:
    """Bound the share behind ``successes`` out of ``total`` (95 %), which is at least 1.

    The score interval of E. B. Wilson, "Probable inference, the law of succession, and
    statistical inference", JASA 22 (1927). It stays within [0, 1] and is valid for few rows and
    for shares near 0 or 1, where the textbook's p ± z √(p(1 - p)/n) is not.

    Example:
        >>> low, high = wilson_interval(8, 10)
        >>> f"{low:.4f} {high:.4f}"
        '0.4902 0.9433'
    """
    from scipy.stats import binomtest

    share = successes / total
    found = binomtest(successes, total).proportion_ci(method="wilson")
    return min(share, float(found.low)), max(share, float(found.high))  # rounding may pass it


def binary_metrics(
    *, label: np.ndarray, probability: np.ndarray, prediction: np.ndarray
) -> BinaryMetrics:
    """Measure predictions against labels.

    Args:
        label: N labels, 0 or 1; at least one.
        probability: Probability of positive.
        prediction: Taken as it is, whatever threshold made it.
    """
    counts = count_confusion(label, prediction, num_labels=2)
    (tn, fp), (fn, tp) = counts.tolist()
    low, high = wilson_interval(tp + tn, len(label))
    negative, positive = measure_labels(counts)
    roc_auc, average_precision = _ranking_metrics(label=label, probability=probability)
    return BinaryMetrics(
        num_rows=len(label),
        positive_fraction=(tp + fn) / len(label),
        accuracy=(tp + tn) / len(label),
        accuracy_low=low,
        accuracy_high=high,
        **{f"{name}_positive": value for name, value in vars(positive).items()},
        **{f"{name}_negative": value for name, value in vars(negative).items()},
        f1_macro=_defined(label_shares(counts)[2].mean()),
        matthews=_matthews(counts),
        roc_auc=roc_auc,
        average_precision=average_precision,
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
    counts = np.bincount(np.int64(label) * num_labels + prediction, minlength=num_labels**2)
    return counts.reshape(num_labels, num_labels)


def label_shares(confusion: np.ndarray) -> np.ndarray:
    """Measure precision, recall and F1 of each label; NaN where a share is one of nothing.

    scikit-learn measures one confusion matrix at a time, this function those of many draws.

    Shape: (C labels)
        - confusion: ``(..., C, C)``, rows by label and prediction.
        - returns: ``(3, ..., C)`` float64.
    """
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    predicted, labelled = confusion.sum(axis=-2), confusion.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.stack([right / predicted, right / labelled, 2 * right / (predicted + labelled)])


def macro_f1(
    label: np.ndarray, prediction: np.ndarray, *, num_labels: int, num_compared: int | None = None
) -> float | None:
    """Average the F1 of the first ``num_compared`` labels that occur; None if there is none."""
    counts = count_confusion(label, prediction, num_labels=num_labels)
    found = label_shares(counts)[2][:num_compared]
    return None if np.isnan(found).all() else float(np.nanmean(found))


def measure_labels(confusion: np.ndarray) -> list[LabelMetrics]:
    """Measure each label, given the counts of :func:`count_confusion`."""
    return [LabelMetrics(*map(_defined, shares)) for shares in label_shares(confusion).T]


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def probability_metrics(*, label: np.ndarray, probability: np.ndarray) -> ProbabilityMetrics:
    """Measure the probabilities of positive against labels, 0 or 1."""
    return ProbabilityMetrics(
        float(log_losses(label=label, probability=probability).mean()),
        float(squared_errors(label=label, probability=probability).mean()),
        expected_calibration_error(label=label, probability=probability),
    )


def expected_calibration_error(*, label: np.ndarray, probability: np.ndarray) -> float:
    """Average the gap between the probability of positive and the share of positive labels.

    Over 15 equal bins of the probability of positive: the sum of n_b / n · |mean probability
    in b - share of positive labels in b|. This is the estimator of Naeini et al. (AAAI 2015),
    on the probability of one class; Guo et al. (ICML 2017) bin the probability of the
    predicted class instead, which gives another number.
    """
    bins = reliability_bins(label=label, probability=probability, num_bins=NUM_CALIBRATION_BINS)
    gap = (bins["mean_probability"] - bins["positive_fraction"]).abs()
    return float((gap * bins["num_rows"]).sum() / len(label))


def log_losses(*, label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return -ln(probability of the label) of N rows, clipped at ``PROBABILITY_FLOOR``."""
    clipped = np.float64(probability).clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return -np.log(np.where(label == POSITIVE, clipped, 1 - clipped))


def squared_errors(*, label: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return the squared difference of probability and label of N rows."""
    return np.square(np.float64(probability) - label)


def bin_probabilities(
    probability: np.ndarray, *, num_bins: int = NUM_CALIBRATION_BINS
) -> np.ndarray:
    """Number the equal bin of each probability, from 0; the last bin holds 1 too."""
    edges = np.linspace(0, 1, num_bins + 1)
    return np.minimum(np.searchsorted(edges, probability, side="right"), num_bins) - 1


def reliability_bins(
    *, label: np.ndarray, probability: np.ndarray, num_bins: int = 10
) -> pd.DataFrame:
    """Compare predicted with observed shares of positive in equal bins of the probability.

    Bins are those of :func:`bin_probabilities`; a bin without rows is left out.

    Columns:
        added: ``num_rows``, ``mean_probability``, ``positive_fraction``.
    """
    bins = bin_probabilities(probability, num_bins=num_bins)
    _, number, num_rows = np.unique(bins, return_inverse=True, return_counts=True)
    return pd.DataFrame(
        {
            "num_rows": num_rows,
            "mean_probability": np.bincount(number, np.float64(probability)) / num_rows,
            "positive_fraction": np.bincount(number, label) / num_rows,
        }
    )


def _matthews(confusion: np.ndarray) -> float | None:
    from sklearn.metrics import matthews_corrcoef

    if not (confusion.any(axis=0) & confusion.any(axis=1)).all():
        return None
    label, prediction = np.indices(confusion.shape).reshape(2, -1)
    return float(matthews_corrcoef(label, prediction, sample_weight=confusion.ravel()))


def _ranking_metrics(
    *, label: np.ndarray, probability: np.ndarray
) -> tuple[float | None, float | None]:
    """Measure the area under the ROC curve, and the average precision."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    if len(np.unique(label)) < 2:
        return None, None
    return (
        float(roc_auc_score(label, probability)),
        float(average_precision_score(label, probability)),
    )
