"""Labels of two annotators -> how far they agree, and what this means for a model.

Cohen's kappa (J. Cohen, "A coefficient of agreement for nominal scales", Educational and
Psychological Measurement 20, 1960) compares the agreement with the agreement by chance. Its
standard error is by J. L. Fleiss, J. Cohen and B. S. Everitt, "Large sample standard errors of
kappa and weighted kappa", Psychological Bulletin 72 (1969). It is 0 if all rows agree, and too
small if few do not. So the interval of kappa also holds the kappas of the exact interval of the
agreement (Clopper and Pearson 1934).
"""

from typing import NamedTuple

import numpy as np

from sentiflow.metrics.intervals import share_interval

_QUANTILE = 1.959964
"""Quantile of the normal distribution for a 95% interval."""


class Agreement(NamedTuple):
    """How far two annotators agree."""

    rows: int
    """Rows that both have labelled."""
    agreement: float
    """Share of these rows with the same label twice."""
    kappa: float
    """From -1 to 1; 0: as by chance. NaN if both give one label to all rows."""
    low: float
    """Lower bound of the 95% interval of kappa."""
    high: float
    ceiling: float
    """The highest accuracy that a model can be expected to show on the labels of one annotator: the
    accuracy of an annotator, see :func:`find_ceiling`."""
    ceiling_low: float
    """Lower bound of the 95% interval of the ceiling."""
    ceiling_high: float


def measure(first: np.ndarray, second: np.ndarray, num_classes: int) -> Agreement:
    """Measure how far two annotators agree.

    Args:
        first: N positions among C classes, N at least 1.
        second: The labels of the other annotator.
        num_classes: C.

    Example:
        The table of 20 yes-yes, 5 yes-no, 10 no-yes and 15 no-no: 0.7 agree, 0.5 by chance.

        >>> first = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])
        >>> second = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])
        >>> found = measure(first, second, 2)
        >>> round(found.agreement, 3), round(found.kappa, 3), round(found.ceiling, 3)
        (0.7, 0.4, 0.816)
    """
    num_rows = len(first)
    cells = np.bincount(first * num_classes + second, minlength=num_classes**2)
    table = cells.reshape(num_classes, num_classes) / num_rows
    agreement = float(np.trace(table))
    of_first = table.sum(axis=1)
    of_second = table.sum(axis=0)
    by_chance = float(of_first @ of_second)
    least, most = share_interval(int(np.trace(cells.reshape(table.shape))), num_rows)
    kappa = low = high = float("nan")
    if by_chance < 1:
        kappa = (agreement - by_chance) / (1 - by_chance)
        reach = _QUANTILE * _find_error(table, kappa, by_chance) / np.sqrt(num_rows)
        kappa_of_least = (least - by_chance) / (1 - by_chance)
        kappa_of_most = (most - by_chance) / (1 - by_chance)
        low = max(min(kappa - reach, kappa_of_least), -1)
        high = max(kappa, min(max(kappa + reach, kappa_of_most), 1))
    return Agreement(
        rows=num_rows,
        agreement=agreement,
        kappa=float(kappa),
        low=float(low),
        high=float(high),
        ceiling=find_ceiling(agreement, num_classes),
        ceiling_low=find_ceiling(least, num_classes),
        ceiling_high=find_ceiling(most, num_classes),
    )


def _find_error(table: np.ndarray, kappa: float, by_chance: float) -> float:
    """Return the standard error of kappa times √N, by equation 13 of Fleiss, Cohen and Everitt."""
    of_first = table.sum(axis=1)
    of_second = table.sum(axis=0)
    diagonal = np.diag(table)
    margins = of_first[None, :] + of_second[:, None]
    is_off = ~np.eye(len(table), dtype=bool)
    agreed = diagonal @ (1 - (of_first + of_second) * (1 - kappa)) ** 2
    apart = (1 - kappa) ** 2 * (table * margins**2)[is_off].sum()
    chance = (kappa - by_chance * (1 - kappa)) ** 2
    return float(np.sqrt(max(agreed + apart - chance, 0)) / (1 - by_chance))


def find_ceiling(agreement: float, num_classes: int) -> float:
    """Find the accuracy of annotators who agree in a share of the rows.

    Both are assumed to be equally accurate, to err independently of each other, and to take any
    wrong class equally often: with a the accuracy, a² + (1 - a)² / (C - 1) of the labels agree. A
    model that is always right has the accuracy a on the labels of one of them. Where both err in
    the same way, the true accuracy is lower.

    Example:
        >>> round(find_ceiling(0.82, 2), 3), round(find_ceiling(1.0, 3), 3)
        (0.9, 1.0)
    """
    others = num_classes - 1
    # a² C - 2 a + 1 - agreement · (C - 1) = 0; below the agreement by chance there is no root
    root = 1 - num_classes * (1 - agreement * others)
    return float((1 + np.sqrt(max(root, 0))) / num_classes)
