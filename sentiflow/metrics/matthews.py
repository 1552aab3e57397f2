"""Rows by label and prediction of two classes -> the Matthews correlation, and its 95% interval.

Variance, step and effective rows of the interval: see ``intervals``.
"""

from typing import Any

import numpy as np

from sentiflow.metrics.intervals import metric_interval


def matthews_interval(confusion: np.ndarray, *, factor: float = 1.0) -> tuple[Any, Any]:
    """Bound the Matthews correlation of two classes, by the delta method.

    The derivatives are differences. A quarter of a row is added to each of the four counts, which
    keeps them finite. The correlation, from -1 to 1, is bounded as a metric from 0 to 1.

    Shape: confusion ``(..., 2, 2)``, rows by label and prediction.

    Args:
        confusion: The rows.
        factor: By which dependent rows widen the variance.

    Example:
        >>> low, high = matthews_interval(np.array([[40, 10], [10, 40]]))
        >>> f"{low:.4f} {high:.4f}"
        '0.4141 0.7481'
    """
    counts = confusion.reshape(*confusion.shape[:-2], 4)
    num_rows = counts.sum(axis=-1)
    slopes = matthews_slopes(counts)
    mean = (counts * slopes).sum(axis=-1) / num_rows
    variance = factor * ((counts * slopes**2).sum(axis=-1) / num_rows - mean**2) / num_rows
    step = np.abs(slopes).max(axis=-1) / 2 / num_rows
    value = (1 + correlate(counts)) / 2
    low, high = metric_interval(value, variance=variance / 4, step=step)
    return 2 * low - 1, 2 * high - 1


def matthews_slopes(counts: np.ndarray) -> np.ndarray:
    """Differentiate the Matthews correlation by the share of each of the four counts.

    Shape: counts and result ``(..., 4)``, rows by label and prediction.

    Example:
        A right row raises the correlation, a wrong one lowers it.

        >>> matthews_slopes(np.array([40, 10, 10, 40])).round(1).tolist()
        [0.4, -1.6, -1.6, 0.4]
    """
    smooth = counts + 0.25
    change = 1e-4  # of a count, as a share of all rows, for the derivatives
    moved = smooth[..., None, :] + change * smooth.sum(axis=-1)[..., None, None] * np.eye(4)
    return np.asarray((correlate(moved) - correlate(smooth)[..., None]) / change)


def correlate(counts: np.ndarray) -> np.ndarray:
    """Compute the Matthews correlation, given rows by label and prediction, ``(..., 4)``.

    B. W. Matthews, Biochimica et Biophysica Acta 405 (1975): Pearson's correlation of two
    variables that are 0 or 1.

    Example:
        (40 · 40 - 10 · 10) / √(50 · 50 · 50 · 50)

        >>> round(float(correlate(np.array([40, 10, 10, 40]))), 4)
        0.6
    """
    tn, fp, fn, tp = np.moveaxis(counts, -1, 0)
    root = np.sqrt((tp + fp) * (tp + fn)) * np.sqrt((tn + fp) * (tn + fn))
    return np.asarray((tp * tn - fp * fn) / root)
