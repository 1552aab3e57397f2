"""Shares of classes in groups -> tests that a group differs from others.

A group is compared by its own labels (:attr:`Shares.compared`), whatever its share leans on. It is
said to be higher only if its share is, too.

The question is whether the groups would also differ in further texts, so the texts of a group are a
sample themselves. The variance of a difference has two parts:

- The error of the estimated shares among the texts there are.
- Chance in which texts were written. If both groups had the same share s, its variance would be
  s (1 - s) (1 / n + 1 / m) for n and m texts; as s is estimated, n - 1 and m - 1 take the places of
  n and m. s is the share of one of the two groups, with one text of the class and one text of
  another class added: of the two, the share with the larger variance. So a group of few texts is no
  evidence if all or none of them are of the class, and neither is a group with a share of 0 if the
  other share is not 0.

As shares of few texts move in steps, half a text of each group is taken off their difference (F.
Yates, Supplement to the Journal of the Royal Statistical Society 1, 1934).

Mean ratings of ordered classes, from 0 to 1, are compared in the same way. The variance of a value
is the part ``Shares.spread`` of s (1 - s), and a text moves the mean by ``RatingScale.step``.
"""

import numpy as np
from scipy import special

from sentiflow.metrics.paired import adjust
from sentiflow.metrics.shares import Shares


def compare_with_others(shares: Shares, *, step: float = 1.0) -> np.ndarray:
    """Test each group against all others together: ``(G, C)`` p-values, adjusted by Holm.

    The z-test of the difference of two independent estimates: the group's ``compared`` share, and
    the mean of the others weighted by rows. It is 1 if ``share`` differs in the other direction.
    NaN if there is no other group, if a share is NaN, or if the group is not comparable
    (:attr:`Shares.is_comparable`). The others may be groups that are not.

    Args:
        shares: The shares in G groups.
        step: By how much the share of a group of one text moves: ``RatingScale.step`` for means.

    Example:
        Shares of 60%, 50% and 52% of groups of the same size, with many texts. The first differs
        from the mean of the others, 51%, by 9 points; the standard error is √(3² + (4² + 4²) / 4) =
        4.12 points: p = 0.029, times 3.

        >>> from sentiflow.metrics.shares import CORRECTED
        >>> of_class = np.array([[0.6], [0.5], [0.52]])
        >>> found = compare_with_others(
        ...     Shares(
        ...         rows=np.full(3, 10**6), labelled=np.full(3, 50), measured=np.full(3, 50),
        ...         method=np.full(3, CORRECTED), predicted=of_class, share=of_class,
        ...         low=of_class, high=of_class, compared=of_class,
        ...         error=np.array([[0.03], [0.04], [0.04]]), spread=np.ones((3, 1)),
        ...     )
        ... )
        >>> found[:, 0].round(3).tolist()
        [0.087, 0.407, 0.525]
    """
    rows = shares.rows[:, None]
    variance = (rows * shares.error) ** 2
    num_others = rows.sum() - rows
    rest = _average_others(shares.compared, rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        rest_variance = (variance.sum(axis=0) - variance) / num_others**2
    error = np.hypot(shares.error, np.sqrt(rest_variance))
    p_values = _test(
        shares.compared, rest, error, rows, num_others, spread=shares.spread, step=step
    )
    shown = shares.share - _average_others(shares.share, rows)
    p_values[(shares.compared - rest) * shown < 0] = 1
    p_values[~shares.is_comparable] = np.nan
    for of_class in p_values.T:
        is_tested = ~np.isnan(of_class)
        of_class[is_tested] = adjust(of_class[is_tested].tolist())
    return p_values


def _average_others(share: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Average the shares of all other groups, weighted by rows: ``(G, C)``."""
    weighted = rows * share
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((weighted.sum(axis=0) - weighted) / (rows.sum() - rows))


def compare_with_each(
    share: np.ndarray,
    error: np.ndarray,
    rows: np.ndarray,
    group: int,
    *,
    spread: np.ndarray | None = None,
    step: float = 1.0,
) -> np.ndarray:
    """Test a group against each of the other groups: G p-values, NaN for the group itself.

    The z-test of the difference of two independent estimates. If the group's share is the highest
    and all p-values are below 0.05, it is significantly the highest. No adjustment is needed: the
    largest of these p-values is the p-value of that statement (K. Hung and W. Fithian, "Rank
    verification for exponential families", Annals of Statistics 47, 2019).

    Args:
        share: The share of a class in each of G groups by which they are compared, see
            :class:`Shares`.
        error: The standard error of each share.
        rows: The number of rows of each group.
        group: The position of the group among the G groups.
        spread: ``Shares.spread`` of each group. Default: 1, as for classes.
        step: By how much the share of a group of one text moves: ``RatingScale.step`` for means.

    Example:
        Shares of 60% and 50% with standard errors of 3 and 4 points differ by two of their
        standard errors, √(3² + 4²) = 5. If both groups have 100 texts, √(s (1 - s) · 2 / 99)
        = 7.11 points are added to these 5, with s = 51 / 102: √(5² + 7.11²) = 8.69. Half a text of
        each is taken off the 10 points.

        >>> share = np.array([0.6, 0.5])
        >>> error = np.array([0.03, 0.04])
        >>> compare_with_each(share, error, np.array([10**9, 10**9]), 0).round(4).tolist()
        [nan, 0.0455]
        >>> compare_with_each(share, error, np.array([100, 100]), 0).round(4).tolist()
        [nan, 0.3003]
    """
    error_of_difference = np.hypot(error[group], error)
    of_pairs = np.ones(1) if spread is None else np.maximum(spread[group], spread)
    p_values = _test(
        share[group], share, error_of_difference, rows[group], rows, spread=of_pairs, step=step
    )
    p_values[group] = np.nan
    return p_values


def _test(
    share: np.ndarray,
    other: np.ndarray,
    error: np.ndarray,
    rows: np.ndarray,
    other_rows: np.ndarray,
    *,
    spread: np.ndarray,
    step: float,
) -> np.ndarray:
    """Return the two-sided p-value of the normal test of a difference.

    Args:
        share: The share of a group.
        other: The share it is compared with.
        error: The standard error of their difference, among the texts there are.
        rows: Texts of the group.
        other_rows: Texts of the other share.
        spread: The variance of a text, by s (1 - s).
        step: By how much the share of a group of one text moves.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        largest = np.maximum(_vary(share, rows), _vary(other, other_rows))
        of_texts = spread * largest * (1 / (rows - 1) + 1 / (other_rows - 1))
        deviation = np.sqrt(error**2 + of_texts)
        half_texts = step * (1 / rows + 1 / other_rows) / 2
        gap = np.maximum(np.abs(share - other) - half_texts, 0)
        return np.asarray(2 * special.ndtr(-gap / deviation))


def _vary(share: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return s (1 - s), where s is the share with a text of the class and of another added."""
    smooth = (share * rows + 1) / (rows + 2)
    return np.asarray(smooth * (1 - smooth))
