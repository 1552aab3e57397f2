"""Several models measured on the same test rows -> how much the best of them looks too good."""

import math

import numpy as np
from scipy import special


def expected_maximum(number: int) -> float:
    """Return the mean of the largest of some independent standard normal numbers.

    H. A. David and H. N. Nagaraja, Order Statistics, 2003, section 3.1: the integral of
    1 - Φ(x)^n - (1 - Φ(x))^n over x from 0 on, by the trapezoidal rule.

    Example:
        Of two, 1 / √π.

        >>> [round(expected_maximum(number), 3) for number in (1, 2, 20)]
        [0.0, 0.564, 1.867]
    """
    x = np.linspace(0, 10, 10_001)
    below = special.ndtr(x)
    above = special.ndtr(-x)
    mean = float(np.trapezoid(1 - below**number - above**number, x))
    return max(0.0, mean)  # of a single one, 0 up to rounding


def selection_bias(number: int, *, disagreement: float, num_rows: int) -> float:
    """Return by how much the best of several equal models looks too accurate, on average.

    Models of one accuracy are measured on the same rows. What differs between them by chance has
    half the variance of the difference of two, disagreement / rows. The highest measured accuracy
    is above the true one by the mean of the largest of that number of normal numbers. This holds
    for models that are alike; if one is better than the others, it is less.

    Args:
        number: How many models.
        disagreement: Fraction of the rows on which exactly one of two models is right.
        num_rows: Test rows.

    Example:
        20 models, of which each two disagree on 12% of 2,000 rows: 1.867 · √(0.12 / 4,000).

        >>> round(selection_bias(20, disagreement=0.12, num_rows=2000), 4)
        0.0102
    """
    return expected_maximum(number) * math.sqrt(disagreement / (2 * num_rows))
