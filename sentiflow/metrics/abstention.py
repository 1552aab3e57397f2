"""Labels and probabilities -> when a model had better not answer, and what it gains by that."""

import math
from typing import Any

import numpy as np
import pandas as pd

from sentiflow.data.schema import LABEL_NAMES, NEGATIVE, NEUTRAL, POSITIVE
from sentiflow.metrics.classification import wilson_interval

COVERAGES = tuple(percent / 100 for percent in range(100, 0, -5))
UNANSWERED_FRACTION = 0.2
"""Of validation texts, where none of them is labelled neutral."""
MIN_NEUTRAL = 20
"""As many neutral validation texts decide where neutral begins."""

_PER_UNIT = 1000
"""Steps of a margin: the same on every machine. It is rounded down, never past a text."""


def accuracy_by_coverage(*, label: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """Measure a model that answers only the texts of which it is most certain.

    The risk-coverage curve of El-Yaniv and Wiener (JMLR 2010), with accuracy for 1 - risk. Texts
    are taken in the order of max(p, 1 - p); where that is equal they are taken together.

    Args:
        label: N labels, 0 or 1.
        probability: Of positive.

    Columns:
        added: ``coverage`` (share of texts answered, at least what was aimed at), ``confidence``
            (the lowest max(p, 1 - p) among them), ``num_rows``, ``accuracy``, ``low``, ``high``
            (95 % Wilson interval). A row for each of ``COVERAGES``; none without rows.
    """
    certainty = _certainty(probability)
    order = np.argsort(-certainty, kind="stable")
    right = ((probability >= 0.5) == (label == POSITIVE))[order].cumsum()
    rows = []
    for aim in COVERAGES if len(label) else ():
        last = certainty[order[math.ceil(round(aim * len(label), 6)) - 1]]
        answered = int((certainty >= last).sum())
        low, high = wilson_interval(int(right[answered - 1]), answered)
        rows.append(
            {
                "coverage": answered / len(label),
                "confidence": 0.5 + float(last),
                "num_rows": answered,
                "accuracy": right[answered - 1] / answered,
                "low": low,
                "high": high,
            }
        )
    return pd.DataFrame(rows)


def choose_margin(*, label: np.ndarray, probability: np.ndarray) -> float:
    """Choose how far from one half a probability must be to count as an answer.

    Where at least ``MIN_NEUTRAL`` texts are labelled neutral, and others are not, the margin has
    the highest macro F1 over the three labels. Else nothing says where neutral begins, and the
    margin leaves ``UNANSWERED_FRACTION`` of the texts without an answer.

    Args:
        label: N labels, 0, 1 or 2, of texts that the model was not trained on.
        probability: Of positive.

    Returns:
        From 0 to 1/2; 0 without rows. Rounded down to three digits.
    """
    certainty = _certainty(probability)
    if not len(label):
        return 0.0
    num_neutral = (label == NEUTRAL).sum()
    if not MIN_NEUTRAL <= num_neutral < len(label):
        return float(_round_down(np.quantile(certainty, UNANSWERED_FRACTION)))
    tried = np.unique(_round_down(np.quantile(certainty, np.linspace(0, 1, 101))))
    found = [three_class_figures(label=label, probability=probability, margin=m) for m in tried]
    return float(tried[int(np.argmax([figures["f1_macro"] for figures in found]))])


def three_class_figures(
    *, label: np.ndarray, probability: np.ndarray, margin: float
) -> dict[str, Any]:
    """Measure a model that calls neutral what is nearer to one half than ``margin``.

    Args:
        label: N labels, 0, 1 or 2; at least one.
        probability: Of positive.
        margin: From 0 to 1/2.

    Returns:
        ``num_rows``, ``accuracy`` with its 95 % Wilson interval ``low`` and ``high``, ``f1_macro``
        (a label with neither texts nor predictions counts as 0), ``by_label`` (precision, recall,
        f1 by name, None where undefined) and ``confusion`` (rows by label, then by prediction).
    """
    prediction = np.where(probability >= 0.5, POSITIVE, NEGATIVE)
    prediction = np.where(_certainty(probability) < margin, NEUTRAL, prediction)
    counts = np.zeros((3, 3), np.int64)
    np.add.at(counts, (label, prediction), 1)
    right, labelled, predicted = counts.diagonal(), counts.sum(axis=1), counts.sum(axis=0)
    low, high = wilson_interval(int(right.sum()), int(labelled.sum()))
    f1 = 2 * right / np.maximum(1, labelled + predicted)
    return {
        "num_rows": int(labelled.sum()),
        "accuracy": float(right.sum() / labelled.sum()),
        "low": low,
        "high": high,
        "f1_macro": float(f1.mean()),
        "by_label": {
            name: {
                "precision": right[k] / predicted[k] if predicted[k] else None,
                "recall": right[k] / labelled[k] if labelled[k] else None,
                "f1": float(f1[k]) if labelled[k] + predicted[k] else None,
            }
            for k, name in enumerate(LABEL_NAMES)
        },
        "confusion": {
            name: dict(zip(LABEL_NAMES, counts[k].tolist(), strict=True))
            for k, name in enumerate(LABEL_NAMES)
        },
    }


def _round_down(margin: np.ndarray) -> np.ndarray:
    return np.floor(margin * _PER_UNIT + 1e-9) / _PER_UNIT


def _certainty(probability: np.ndarray) -> np.ndarray:
    """Say how far from one half probabilities are."""
    return np.abs(np.asarray(probability, dtype=np.float64) - 0.5)
