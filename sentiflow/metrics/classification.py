"""Labels, predictions and probabilities -> accuracy, F1, log loss and the like."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from sentiflow.config.classes import BINARY
from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.predicted import Predicted

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
class Metrics:
    """Predictions of C classes measured against labels.

    A metric is None where it is undefined, as is the precision of a class that is never predicted.
    """

    num_rows: int
    accuracy: float
    accuracy_low: float
    """Lower end of the exact 95 % interval."""
    accuracy_high: float
    f1_macro: float | None
    """Mean of the F1 of the classes that occur in the labels or predictions."""
    roc_auc: float | None
    """Of positive; with other classes the mean of the one-vs-rest ROC AUC of those that have one.
    None unless two labels occur."""
    log_loss: float
    brier: float
    """Mean squared difference of probability and label; with other classes than negative and
    positive summed over them: 0 to 2."""
    expected_calibration_error: float
    """Of positive; with other classes of the one that is predicted (Guo et al. 2017)."""
    by_class: dict[str, ClassMetrics]
    confusion: dict[str, dict[str, int]]
    """Rows by label, then by prediction."""
    matthews: float | None
    """Matthews correlation coefficient, of negative and positive alone."""
    average_precision: float | None
    """Of positive, likewise."""

    @property
    def is_binary(self) -> bool:
        """Say whether the classes are negative and positive."""
        return tuple(self.confusion) == BINARY

    @property
    def most_frequent(self) -> tuple[str, float]:
        """Name the most frequent label and its share: the accuracy of always predicting it."""
        counts = {name: found.num_rows for name, found in reversed(self.by_class.items())}
        name = max(counts, key=lambda name: counts[name])
        return name, counts[name] / self.num_rows

    @property
    def scalars(self) -> dict[str, float | None]:
        """The metrics that are one number; those of a class end with its name."""
        of_class = fields(LabelMetrics if self.is_binary else ClassMetrics)
        found = {
            f"{each.name}_{label}": getattr(metrics, each.name)
            for label, metrics in self.by_class.items()
            for each in of_class
        }
        if self.is_binary:
            (tn, fp), (fn, tp) = (counts.values() for counts in self.confusion.values())
            found |= {
                "positive_fraction": (tp + fn) / self.num_rows,
                "matthews": self.matthews,
                "average_precision": self.average_precision,
                "true_positive": tp,
                "false_positive": fp,
                "true_negative": tn,
                "false_negative": fn,
            }
        left_out = ("by_class", "confusion", "matthews", "average_precision")
        return {k: value for k, value in vars(self).items() if k not in left_out} | found

    def to_json(self) -> dict[str, Any]:
        """Write the metrics; those of negative and positive are one number each."""
        if self.is_binary:
            return self.scalars
        found = asdict(self)
        del found["matthews"], found["average_precision"]
        return found


def measure(predicted: Predicted) -> Metrics:
    """Measure predictions against labels."""
    classes, num_rows = predicted.classes, len(predicted.label)
    counts = predicted.confusion
    if predicted.is_binary:  # each has the area of the other
        areas = [_roc_auc(predicted.label == 1, predicted.positive)] * 2
    else:
        columns = enumerate(predicted.probabilities.T)
        areas = [_roc_auc(predicted.label == code, column) for code, column in columns]
    by_class = [
        ClassMetrics(shares.precision, shares.recall, shares.f1, *numbers)
        for shares, *numbers in zip(
            measure_labels(counts),
            counts.sum(axis=1).tolist(),
            counts.sum(axis=0).tolist(),
            areas,
            strict=True,
        )
    ]
    num_right, known = int(counts.trace()), [area for area in areas if area is not None]
    return Metrics(
        num_rows,
        num_right / num_rows,
        *share_interval(num_right, num_rows),
        macro_f1(counts),
        float(np.mean(known)) if known else None,
        **vars(measure_probabilities(predicted)),
        by_class=dict(zip(classes, by_class, strict=True)),
        confusion={
            name: dict(zip(classes, row, strict=True))
            for name, row in zip(classes, counts.tolist(), strict=True)
        },
        matthews=_matthews(counts) if predicted.is_binary else None,
        average_precision=_average_precision(predicted) if predicted.is_binary else None,
    )


def label_shares(confusion: np.ndarray) -> np.ndarray:
    """Measure precision, recall and F1 of each of C labels: ``(3, C)``; NaN for one of nothing."""
    right = np.diagonal(confusion)
    predicted, labelled = confusion.sum(axis=0), confusion.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.stack([right / predicted, right / labelled, 2 * right / (predicted + labelled)])


def macro_f1(confusion: np.ndarray) -> float | None:
    """Average the F1 of the classes that labels or predictions have, as scikit-learn does.

    Args:
        confusion: The counts of :func:`count_confusion`.

    Returns:
        None if there is none.
    """
    found = label_shares(confusion)[2]
    return None if np.isnan(found).all() else float(np.nanmean(found))


def measure_labels(confusion: np.ndarray) -> list[LabelMetrics]:
    """Measure each label, given the counts of :func:`count_confusion`."""
    return [LabelMetrics(*map(_defined, shares)) for shares in label_shares(confusion).T]


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def measure_probabilities(predicted: Predicted) -> ProbabilityMetrics:
    """Measure probabilities against labels."""
    return ProbabilityMetrics(
        float(predicted.log_losses.mean()),
        float(predicted.squared_errors.mean()),
        expected_calibration_error(label=predicted.outcome, probability=predicted.probability),
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


def _roc_auc(is_class: np.ndarray, probability: np.ndarray) -> float | None:
    """Measure the area by ranks; scikit-learn's takes four times as long, for each class."""
    from scipy.stats import rankdata

    num_inside = int(is_class.sum())
    pairs = num_inside * (len(is_class) - num_inside)
    if not pairs:
        return None
    wins = rankdata(probability)[is_class].sum() - num_inside * (num_inside + 1) / 2
    return float(wins / pairs)


def _average_precision(predicted: Predicted) -> float | None:
    from sklearn.metrics import average_precision_score

    if len(np.unique(predicted.label)) < 2:
        return None
    return float(average_precision_score(predicted.label, predicted.positive))
