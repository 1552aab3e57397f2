"""Labels and probabilities -> 95 % intervals of the metrics, by resampling the rows."""

import numpy as np
from scipy import sparse

from sentiflow.data.schema import NEGATIVE, POSITIVE
from sentiflow.metrics.classification import label_shares
from sentiflow.metrics.predicted import Predicted

NUM_RESAMPLES = 1000
MAX_GROUPS = 1000
"""With more different probabilities than this, nearly equal ones count as equal."""

_Z, _TINY = 1.959963984540054, 1e-9

Interval = tuple[float, float]


def intervals(
    predicted: Predicted, *, num_resamples: int = NUM_RESAMPLES, seed: int = 0
) -> dict[str, Interval]:
    """Bound the metrics of ``classification.measure`` that are no simple share of rows.

    The percentile interval of Efron and Tibshirani (1993): N of N rows are drawn with replacement,
    and the interval is the middle 95 % of a metric's values. Rows with the same probability, label
    and prediction are exchangeable, so the sizes of these groups are drawn, by a multinomial. With
    at most ``MAX_GROUPS`` different probabilities this is the bootstrap itself; with more, the
    bounds differ by less than a twentieth of the interval's width. With other classes than negative
    and positive, rows of a label and prediction are exchangeable if their log losses are nearly
    equal, and the ROC AUC has no interval.

    The average precision has a logit interval, see :func:`_logit_interval`. The calibration error
    has none, see ``calibration.CalibrationError``.

    Args:
        predicted: The labels and predictions.
        num_resamples: How often rows are drawn.
        seed: The same seed gives the same intervals.

    Returns:
        By name of the metric; those of a class are ``precision_<class>`` and so on. One that is
        undefined for the rows, or for a tenth of the draws, is left out.
    """
    groups, num_rows = _Groups(predicted), len(predicted.label)
    rng, shares = np.random.default_rng(seed), groups.num_rows / num_rows
    drawn = groups.measure(rng.multinomial(num_rows, shares, size=num_resamples))
    observed = groups.measure(groups.num_rows[None])
    found = {}
    for name, values in drawn.items():
        defined = values[~np.isnan(values)]
        if np.isnan(observed[name][0]) or len(defined) < 0.9 * num_resamples:
            continue
        low, high = np.quantile(defined, [0.025, 0.975])
        if name == "average_precision" and 0 < observed[name][0] < 1:
            low, high = _logit_interval(observed[name][0], defined)
        found[name] = (float(low), float(high))
    return found


def _logit_interval(observed: float, drawn: np.ndarray) -> np.ndarray:
    """Bound the average precision: ± z standard deviations of the draws, both as logits.

    The percentile interval holds it in 92 to 93 of 100 samples of 500 rows, this one in 95: see
    Boyd, Eng and Page, "Area under the precision-recall curve", ECML 2013.
    """
    logits = np.log(drawn.clip(_TINY, 1 - _TINY)) - np.log1p(-drawn.clip(_TINY, 1 - _TINY))
    reach = _Z * logits.std(ddof=1)
    return 1 / (1 + np.exp(-(np.log(observed) - np.log1p(-observed) + np.array([-reach, reach]))))


class _Groups:
    """Groups of rows with the same label and prediction, and almost the same probabilities."""

    def __init__(self, predicted: Predicted) -> None:
        self.classes, self.is_binary = predicted.classes, predicted.is_binary
        cell = np.int64(predicted.label) * len(self.classes) + predicted.prediction
        if self.is_binary:
            key = _rank(predicted.positive) * 4 + cell
        else:
            key = cell * len(cell) + _number_losses(cell, predicted.log_losses)
        keys, first, member, self.num_rows = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
        self.cell, self.rank = cell[first], keys // 4
        """Of each group; the rank is that of the probability of positive."""
        self.mean_loss, self.mean_error = (
            np.bincount(member, values) / self.num_rows
            for values in (predicted.log_losses, predicted.squared_errors)
        )

    def measure(self, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Measure each of R draws ``(R, groups)``; NaN where a metric is undefined."""
        total, size = counts.sum(axis=1), len(self.classes)
        cells = _sum_by(self.cell, counts, size**2).reshape(-1, size, size)
        shares = label_shares(cells)
        found = {
            f"{metric}_{label}": values[:, code]
            for code, label in enumerate(self.classes)
            for metric, values in zip(("precision", "recall", "f1"), shares, strict=True)
        }
        mean = np.mean if self.is_binary else np.nanmean
        found["f1_macro"] = mean(shares[2], axis=1)
        found["log_loss"] = counts @ self.mean_loss / total
        found["brier"] = counts @ self.mean_error / total
        return found | self._measure_binary(cells, counts) if self.is_binary else found

    def _measure_binary(self, cells: np.ndarray, counts: np.ndarray) -> dict[str, np.ndarray]:
        """Measure what only negative and positive have."""
        tn, fp, fn, tp = cells.reshape(-1, 4).T
        root = np.sqrt(tp + fp) * np.sqrt(tp + fn) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
        negative, positive = (
            _sum_by(self.rank, counts * (self.cell // 2 == code), int(self.rank[-1]) + 1)
            for code in (NEGATIVE, POSITIVE)
        )
        num_positive, num_negative = positive.sum(axis=1), negative.sum(axis=1)
        below = negative.cumsum(axis=1) - negative / 2
        above = positive[:, ::-1].cumsum(axis=1)[:, ::-1]
        all_above = above + negative[:, ::-1].cumsum(axis=1)[:, ::-1]
        precision = np.divide(above, all_above, out=np.zeros_like(above), where=all_above > 0)
        both = num_positive * num_negative
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                "matthews": (tp * tn - fp * fn) / root,
                "roc_auc": (positive * below).sum(axis=1) / both,
                "average_precision": (positive * precision).sum(axis=1) * num_negative / both,
            }


def _rank(probability: np.ndarray) -> np.ndarray:
    """Number the probabilities upward, by at most ``MAX_GROUPS`` numbers."""
    distinct, number = np.unique(probability, return_inverse=True)
    if len(distinct) <= MAX_GROUPS:
        return number
    quantiles = np.quantile(probability, np.linspace(0, 1, MAX_GROUPS + 1)[1:-1])
    return np.unique(np.searchsorted(quantiles, distinct, side="right"), return_inverse=True)[1][
        number
    ]


def _number_losses(cell: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """Number the losses of each cell upward, so that nearly equal ones have the same number."""
    order = np.lexsort((loss, cell))
    _, first, size = np.unique(cell[order], return_index=True, return_counts=True)
    number = np.empty(len(cell), np.int64)
    place = np.arange(len(cell)) - np.repeat(first, size)
    number[order] = place // -(-len(cell) // MAX_GROUPS)
    return number


def _sum_by(key: np.ndarray, counts: np.ndarray, num_keys: int) -> np.ndarray:
    """Sum the columns of each key, as float64: ``(R, groups)`` to ``(R, num_keys)``."""
    is_key = sparse.csr_array((np.ones(len(key)), (np.arange(len(key)), key)), (len(key), num_keys))
    return np.asarray(counts @ is_key)
