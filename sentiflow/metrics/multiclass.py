"""Labels and the probabilities of any number of classes -> accuracy, macro F1, log loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sentiflow.metrics.classification import (
    PROBABILITY_FLOOR,
    BinaryMetrics,
    ClassMetrics,
    ProbabilityMetrics,
    count_confusion,
    expected_calibration_error,
    label_shares,
    measure_labels,
    wilson_interval,
)


@dataclass(frozen=True)
class MulticlassMetrics:
    """Predictions of C classes measured against labels, ready for JSON.

    A metric is None where it is undefined, as is the precision of a class that is never predicted.
    """

    num_rows: int
    accuracy: float
    accuracy_low: float
    """Lower end of the 95 % Wilson interval."""
    accuracy_high: float
    f1_macro: float
    """Mean of the F1 of the classes that occur in the labels or predictions."""
    roc_auc: float | None
    """Mean of the one-vs-rest ROC AUC of the classes that have one."""
    log_loss: float
    brier: float
    """Mean squared difference of probabilities and label, summed over the classes: 0 to 2."""
    expected_calibration_error: float
    """Of the class that is predicted, in 15 equal bins of its probability (Guo et al. 2017)."""
    by_class: dict[str, ClassMetrics]
    confusion: dict[str, dict[str, int]]
    """Rows by label, then by prediction."""

    @property
    def most_frequent(self) -> tuple[str, float]:
        """Name the most frequent label and its share: the accuracy of always predicting it."""
        name, found = max(self.by_class.items(), key=lambda item: item[1].num_rows)
        return name, found.num_rows / self.num_rows


Metrics = BinaryMetrics | MulticlassMetrics


def multiclass_metrics(
    *, classes: Sequence[str], label: np.ndarray, prediction: np.ndarray, probabilities: np.ndarray
) -> MulticlassMetrics:
    """Measure predictions of C classes against N labels; N is at least 1.

    Args:
        classes: Names of the C classes.
        label: N positions in ``classes``.
        prediction: Likewise.
        probabilities: ``(N, C)``.
    """
    counts = count_confusion(label, prediction, num_labels=len(classes))
    num_right = int(counts.trace())
    areas = [_roc_auc(label == code, probabilities[:, code]) for code in range(len(classes))]
    known = [area for area in areas if area is not None]
    num_rows, num_predicted = counts.sum(axis=1).tolist(), counts.sum(axis=0).tolist()
    measured = [
        ClassMetrics(shares.precision, shares.recall, shares.f1, labelled, predicted, area)
        for shares, labelled, predicted, area in zip(
            measure_labels(counts), num_rows, num_predicted, areas, strict=True
        )
    ]
    return MulticlassMetrics(
        len(label),
        num_right / len(label),
        *wilson_interval(num_right, len(label)),
        float(np.nanmean(label_shares(counts)[2])),
        float(np.mean(known)) if known else None,
        **vars(top_class_metrics(label=label, probabilities=probabilities, prediction=prediction)),
        by_class=dict(zip(classes, measured, strict=True)),
        confusion={
            name: dict(zip(classes, row, strict=True))
            for name, row in zip(classes, counts.tolist(), strict=True)
        },
    )


def top_class_metrics(
    *, label: np.ndarray, probabilities: np.ndarray, prediction: np.ndarray
) -> ProbabilityMetrics:
    """Measure probabilities ``(N, C)``; their calibration is that of the predicted class."""
    confidence = probabilities[np.arange(len(label)), prediction]
    return ProbabilityMetrics(
        float(class_log_losses(label=label, probabilities=probabilities).mean()),
        float(class_squared_errors(label=label, probabilities=probabilities).mean()),
        expected_calibration_error(label=prediction == label, probability=confidence),
    )


def class_log_losses(*, label: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return -ln(probability of the label) of N rows, clipped at ``PROBABILITY_FLOOR``."""
    of_label = np.float64(probabilities[np.arange(len(label)), label])
    return -np.log(of_label.clip(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR))


def class_squared_errors(*, label: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the squared differences of N rows, each summed over the classes."""
    is_label = label[:, None] == np.arange(probabilities.shape[1])
    return np.square(np.float64(probabilities) - is_label).sum(axis=1)


def list_scalars(metrics: Metrics) -> dict[str, float | None]:
    """List the metrics that are one number; those of a class end with its name."""
    if isinstance(metrics, BinaryMetrics):
        return vars(metrics)
    whole = {k: v for k, v in vars(metrics).items() if not isinstance(v, Mapping)}
    return whole | {
        f"{name}_{label}": value
        for label, found in metrics.by_class.items()
        for name, value in vars(found).items()
    }


def _roc_auc(is_class: np.ndarray, probability: np.ndarray) -> float | None:
    from sklearn.metrics import roc_auc_score

    if is_class.all() or not is_class.any():
        return None
    return float(roc_auc_score(is_class, probability))
