"""Labels, predictions and probabilities -> 95% intervals, for few rows and accurate models too.

Every interval is the interval of a share of rows. Any other metric counts as a share of its
*effective* rows: the number of rows with which a share has the metric's variance (E. L. Korn and B.
I. Graubard, "Confidence intervals for proportions with small expected number of positive counts
estimated from survey data", Survey Methodology 24, 1998). If hardly a row is a mistake, the
variance in the rows is too small. So the square of a *step* is added to each variance: how far one
more row could change the metric.

Variances are by the delta method: a metric is approximated by a sum of effects, one of each row (A.
W. van der Vaart, Asymptotic Statistics, 1998, chapter 3).
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from sentiflow.metrics.average_precision import AveragePrecision
from sentiflow.metrics.dependence import RowGroups
from sentiflow.metrics.predicted import PROBABILITY_FLOOR, Predicted
from sentiflow.metrics.roc_area import area_effects, area_parts

_NEARLY_ZERO = 1e-300
"""Stands for a count of 0, for which the beta distribution has no quantile; the bound is then 0 or
1."""

Interval = tuple[float, float]
"""Lower and upper bound."""


def share_interval(successes: Any, total: Any) -> tuple[Any, Any]:
    """Bound the share behind ``successes`` out of ``total`` rows (95%); ``total`` is at least 1.

    The exact interval of C. J. Clopper and E. S. Pearson, "The use of confidence or fiducial limits
    illustrated in the case of the binomial", Biometrika 26 (1934). In at least 95% of samples it
    contains the share, whatever the share and the number of rows. Wilson's interval is narrower,
    and with 50 rows it contains a share of 99.65% in only 84% of samples. Takes numbers or arrays.

    Example:
        >>> low, high = share_interval(8, 10)
        >>> f"{low:.4f} {high:.4f}"
        '0.4439 0.9748'
    """
    from scipy.special import betaincinv

    share = successes / total
    failures = np.maximum(total - successes, 0)
    low = betaincinv(np.maximum(successes, _NEARLY_ZERO), failures + 1, 0.025)
    low = np.where(successes > 0, low, 0.0)
    low = np.minimum(low, share)
    high = betaincinv(successes + 1, np.maximum(failures, _NEARLY_ZERO), 0.975)
    high = np.where(failures > 0, high, 1.0)
    high = np.maximum(high, share)
    if np.ndim(share):
        return low, high
    return low.item(), high.item()


def right_interval(right: np.ndarray, groups: RowGroups | None = None) -> Interval:
    """Bound the share behind N rows that are right or wrong; 0 to 1 if the groups give no interval.

    Rows that depend on each other count as fewer rows, see ``dependence``.

    Args:
        right: Which of the rows are right; at least one row.
        groups: Groups of rows that depend on each other. None: the rows are independent.

    Example:
        Two texts of each author, right or wrong together, count as one: 8 of 10 rows, with t.

        >>> from sentiflow.metrics.dependence import AuthorGroups
        >>> right = np.arange(20) < 16
        >>> low, high = right_interval(right, AuthorGroups(np.arange(20) // 2))
        >>> f"{low:.3f} {high:.3f}"
        '0.369 0.987'
    """
    num_right = int(right.sum())
    if groups is None:
        low, high = share_interval(num_right, len(right))
        return low, high
    if groups.no_interval:
        return 0.0, 1.0
    factor = groups.factor(right - right.mean())
    low, high = share_interval(num_right / factor, len(right) / factor)
    return low, high


@dataclass(frozen=True)
class Accuracy:
    """The share of right predictions among some rows."""

    num_rows: int
    accuracy: float
    low: float
    """Lower end of the exact 95% interval; 0 if the rows give no interval."""
    high: float
    """Its upper end; 1 if the rows give no interval."""

    @classmethod
    def of(cls, num_right: int, num_rows: int, **further: Any) -> Self:
        """Measure at least one row; ``further`` are the fields of a subclass.

        Example:
            >>> found = Accuracy.of(8, 10)
            >>> f"{found.accuracy} {found.low:.4f} {found.high:.4f}"
            '0.8 0.4439 0.9748'
        """
        low, high = share_interval(num_right, num_rows)
        accuracy = num_right / num_rows
        return cls(num_rows=num_rows, accuracy=accuracy, low=low, high=high, **further)

    @classmethod
    def of_rows(cls, right: np.ndarray, groups: RowGroups | None, **further: Any) -> Self:
        """Measure at least one row, see :func:`right_interval`; ``further`` as in :meth:`of`."""
        low, high = right_interval(right, groups)
        accuracy = int(right.sum()) / len(right)
        return cls(num_rows=len(right), accuracy=accuracy, low=low, high=high, **further)


def metric_interval(value: Any, *, variance: Any, step: Any) -> tuple[Any, Any]:
    """Bound a metric from 0 to 1 as a share of its effective rows.

    Korn and Graubard (1998): with v the metric, a share of n rows has the variance v (1 - v) / n,
    so the metric counts as a share of n = v (1 - v) / variance rows, at least 1. For n, v is
    (value + step) / (1 + 2 step), and step² is added to the variance: so n stays above 0 and finite
    where the value is 0 or 1.

    Example:
        The variance of a share of 0.8 of 10 rows is 0.016: the interval is that of 8 of 10.

        >>> low, high = metric_interval(0.8, variance=0.016, step=0)
        >>> f"{low:.4f} {high:.4f}"
        '0.4439 0.9748'
    """
    middle = (value + step) / (1 + 2 * step)
    rows = np.maximum(1, middle * (1 - middle) / (variance + step**2))
    return share_interval(np.clip(value, 0, 1) * rows, rows)


def f1_interval(right: Any, wrong: Any) -> tuple[Any, Any]:
    """Bound the F1 of a class, given its right and its wrong rows.

    Right rows have its label and its prediction, wrong rows one of the two. With J the share of the
    right ones among them (P. Jaccard's coefficient, 1912), F1 = 2 J / (1 + J), which grows with J.
    So the bounds of J give the bounds of F1.

    Example:
        J is 8 of 10, from 0.4439 to 0.9748; the lower bound is 2 · 0.4439 / 1.4439.

        >>> low, high = f1_interval(8, 2)
        >>> f"{low:.4f} {high:.4f}"
        '0.6149 0.9872'
    """
    low, high = share_interval(right, right + wrong)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def area_interval(predicted: Predicted) -> Interval | str:
    """Bound the area under the ROC curve of two classes, or say why it has no interval.

    The variance: E. R. DeLong, D. M. DeLong and D. L. Clarke-Pearson, Biometrics 44 (1988). The
    step: one more row of the rarer label, which ranks at random.

    Example:
        The three positive rows rank above 1, 2 and 2 of the two negative rows: the area is 5 / 6.

        >>> positive = np.array([0.1, 0.6, 0.5, 0.7, 0.9])
        >>> label = np.array([0, 0, 1, 1, 1])
        >>> rows = Predicted.of_positive(label=label, probability=positive, prediction=label)
        >>> low, high = area_interval(rows)
        >>> f"{low:.4f} {high:.4f}"
        '0.0597 1.0000'
    """
    if len(predicted.classes) != 2:
        return "it is the mean of several areas"
    positive = predicted.label == 1
    rarer = min(positive.sum(), (~positive).sum())
    if rarer < 2:
        return "one of the labels has only 1 text"
    parts = area_parts(predicted.positive, positive)
    variance = sum(part.var(ddof=1) / len(part) for part in parts)
    variance *= predicted.factor(lambda: area_effects(positive, *parts))
    return metric_interval(float(parts[0].mean()), variance=variance, step=0.5 / rarer)


def average_precision_interval(predicted: Predicted) -> Interval | str:
    """Bound the average precision of positive, by the delta method.

    The average precision is the mean of the precision at each positive row (C. Buckley and E. M.
    Voorhees, "Evaluating evaluation measure stability", SIGIR 2000). A row changes the precision at
    each positive row with the same or a lower probability. The step: one more positive row, which
    ranks last.

    Example:
        The precision at the three positive rows is 1, 1 and 3 / 4: the mean is 0.9167.

        >>> positive = np.array([0.1, 0.6, 0.5, 0.7, 0.9])
        >>> label = np.array([0, 0, 1, 1, 1])
        >>> rows = Predicted.of_positive(label=label, probability=positive, prediction=label)
        >>> low, high = average_precision_interval(rows)
        >>> f"{low:.4f} {high:.4f}"
        '0.0673 1.0000'
    """
    found = AveragePrecision.of(predicted)
    factor = predicted.factor(lambda: predicted.compute(found.effects))
    variance = factor * found.add_squares(predicted)
    low, high = metric_interval(found.value, variance=variance, step=1 / found.num_positive)
    return low, high


def log_loss_step(predicted: Predicted) -> float:
    """Return the mean log loss that the rows would have if their predictions were wrong.

    The label of a wrong row then has the mean probability of the classes that are not predicted.

    Example:
        >>> probability = np.array([0.9, 0.2])
        >>> right = np.array([1, 0])
        >>> rows = Predicted.of_positive(label=right, probability=probability, prediction=right)
        >>> round(log_loss_step(rows), 4)  # -(ln 0.1 + ln 0.2) / 2
        1.956
    """
    logs = 1 - predicted.confidence
    logs /= len(predicted.classes) - 1
    np.log(logs.clip(PROBABILITY_FLOOR, 1, out=logs), out=logs)
    return -float(logs.mean())


def brier_step(predicted: Predicted) -> float:
    """Return the largest Brier score: a wrong prediction with a probability of 1.

    G. W. Brier, Monthly Weather Review 78 (1950). The sum of squares over C classes is 1 + 1. For
    models of negative and positive, only the square for positive counts.

    Example:
        >>> one = np.array([1])
        >>> brier_step(Predicted.of_positive(label=one, probability=one * 0.5, prediction=one))
        1.0
    """
    return 1.0 if predicted.is_binary else 2.0


def mean_interval(
    values: np.ndarray, *, largest: float, step: float, factor: float = 1.0
) -> Interval | str:
    """Bound the mean of N values from 0 to ``largest``; one more row may have the value ``step``.

    The mean divided by ``largest`` is bounded as a metric from 0 to 1, with the variance of a mean,
    times the factor by which dependent rows widen it.

    Example:
        The variance of the mean is 0.0067 / 4, the step 0.5 / 4.

        >>> low, high = mean_interval(np.array([0.1, 0.2, 0.3, 0.2]), largest=1, step=0.5)
        >>> f"{low:.4f} {high:.4f}"
        '0.0297 0.5348'
    """
    if len(values) < 2:
        return "there is only 1 text"
    low, high = metric_interval(
        float(values.mean()) / largest,
        variance=factor * float(values.var(ddof=1)) / len(values) / largest**2,
        step=step / largest / len(values),
    )
    return low * largest, high * largest
