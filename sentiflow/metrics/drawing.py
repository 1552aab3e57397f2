"""Rows of a corpus -> the rows that a sample draws: their chances, ranks and order.

The random numbers of a row are hashes of its number, so the same rows are drawn again.
"""

import numpy as np
import pandas as pd

_DRAW_SALT = np.uint64(0x9E3779B97F4A7C15)
"""Added to row numbers before they are hashed, so that the random numbers differ from other hashes
of row numbers. 2^64 / golden ratio. With another value another sample would be drawn."""
_ORDER_SALT = np.uint64(0xC2B2AE3D27D4EB4F)
"""The same for the order of drawn rows, which must not depend on the numbers that drew them."""


def find_odds(row_id: np.ndarray) -> np.ndarray:
    """Compute u / (1 - u) of N rows, with the random number u of each row in [0, 1).

    Of rows that have the same inclusion probability, the lowest odds are drawn first.
    """
    uniform = _draw_uniform(row_id, _DRAW_SALT)
    return np.asarray(uniform / (1 - uniform))


def rank_odds(inclusion_probability: np.ndarray, odds: np.ndarray) -> np.ndarray:
    """Rank rows for a sample: the n lowest ranks are drawn.

    Each row is drawn with about its inclusion probability.

    Pareto sampling (B. Rosén, "On sampling with probability proportional to size", Journal of
    Statistical Planning and Inference 62, 1997) draws exactly n rows in one pass. With u uniform in
    [0, 1) and c the inclusion probability of a row, its rank is u / (1 - u) · (1 - c) / c. The
    random numbers are hashes of the row numbers, so the same rows are drawn in any order.

    Args:
        inclusion_probability: The probability of each of N rows to be drawn, above 0 and up to 1;
            they add up to n.
        odds: Their u / (1 - u), results of :func:`find_odds`.

    Example:
        The random number of row 1 is 0.5666; a row with a probability of 1 is always drawn.

        >>> odds = find_odds(np.array([1, 1, 1]))
        >>> rank_odds(np.array([0.5, 0.1, 1.0]), odds).round(4).tolist()
        [1.3071, 11.7642, 0.0]
    """
    return np.asarray(odds * (1 - inclusion_probability) / inclusion_probability)


def order_rows(row_id: np.ndarray) -> np.ndarray:
    """Give each row a number in [0, 1), by which the drawn rows are sorted.

    A row has the same number in each draw, so the order of a draw is known whatever a spreadsheet
    has done to its file.

    Example:
        >>> order_rows(np.array([1, 2, 3])).round(4).tolist()
        [0.2245, 0.9372, 0.2416]
    """
    return _draw_uniform(row_id, _ORDER_SALT)


def _draw_uniform(row_id: np.ndarray, salt: np.uint64) -> np.ndarray:
    """Draw a number in [0, 1) for each row: the same for the same row number and salt."""
    hashed = pd.util.hash_array(row_id.astype(np.uint64) + salt)
    # The upper 53 bits, as many as a float holds.
    return np.asarray((hashed >> np.uint64(11)) * 2.0**-53)


def find_rate(num_rows: np.ndarray, group_rows: np.ndarray, before: np.ndarray, size: int) -> float:
    """Find the rate of a draw, so that ``size`` further rows are expected.

    The chance of a row becomes at least rate / sqrt(rows of its group), so small groups get more
    than their share (M. D. Bankier, "Power allocations", American Statistician 42, 1988). It is at
    most 1, and never less than before. So rows that were added to a corpus catch up with earlier
    rows. :func:`find_least_chances` gives the chances for a rate.

    Args:
        num_rows: Number of rows in each of N cells. Rows of a cell have equal chances.
        group_rows: Number of rows in the group of each cell.
        before: The chance of a row of each cell to be drawn before; 0 in the first draw.
        size: Number of rows to draw.

    Returns:
        The rate; infinite if all rows are drawn.

    Example:
        10 of 100 rows were drawn. 100 rows were added to their group, and 10 more rows are drawn:
        the new rows catch up. When all have the same chance, further draws raise all chances.

        >>> rows, group = np.array([100, 100]), np.array([200, 200])
        >>> before = np.array([0.1, 0.0])
        >>> for _ in range(2):
        ...     rate = find_rate(rows, group, before, 10)
        ...     before = np.maximum(before, find_least_chances(group, rate))
        ...     print(before.round(4).tolist())
        [0.1, 0.1]
        [0.15, 0.15]
    """
    from scipy.optimize import brentq

    total = float((num_rows * before).sum() + size)
    if total >= num_rows.sum():
        return np.inf
    relative = 1 / np.sqrt(group_rows)
    chances = np.empty_like(relative)

    def count_excess(rate: float) -> float:
        # In place, as new arrays for each of many draws and rates take most of the time.
        _limit_chances(relative, rate, out=chances)
        np.maximum(before, chances, out=chances)
        np.multiply(num_rows, chances, out=chances)
        return float(chances.sum() - total)

    return float(brentq(count_excess, 0, 1 / relative.min()))


def find_least_chances(group_rows: np.ndarray, rate: float) -> np.ndarray:
    """Find the chance that a row of each group has at least, after a draw with a rate.

    Args:
        group_rows: Number of rows in each group, above 0.
        rate: Result of :func:`find_rate`.
    """
    return _limit_chances(1 / np.sqrt(group_rows), rate)


def _limit_chances(relative: np.ndarray, rate: float, out: np.ndarray | None = None) -> np.ndarray:
    """Return the rate times relative chances, at most 1."""
    chances = np.multiply(relative, rate, out=out)
    return np.minimum(chances, 1, out=chances)
