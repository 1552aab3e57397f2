"""Values of ordered classes -> numbers from 0 to 1, which the estimators of shares take."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class RatingScale:
    """The values of C ordered classes, such as 1 to 5 stars.

    A share is the mean of a label that is 1 or 0. A mean rating is the mean of the value of a
    label. With 0 for the lowest value and 1 for the highest, both have the same estimator.

    Example:
        >>> stars = RatingScale((1.0, 2.0, 3.0, 4.0, 5.0))
        >>> stars.units.tolist(), stars.step
        ([0.0, 0.25, 0.5, 0.75, 1.0], 0.25)
        >>> float(stars.to_rating(0.625)), stars.to_points(0.25)
        (3.5, 1.0)
    """

    values: tuple[float, ...]
    """The value of each class. At least two differ."""

    @property
    def lowest(self) -> float:
        """The lowest value."""
        return min(self.values)

    @property
    def span(self) -> float:
        """The highest value minus the lowest."""
        return max(self.values) - min(self.values)

    @property
    def units(self) -> np.ndarray:
        """The value of each class, from 0 to 1: ``(C,)``."""
        return (np.array(self.values) - self.lowest) / self.span

    @property
    def step(self) -> float:
        """The mean distance between neighboring classes, if the values reach from 0 to 1."""
        return 1 / (len(self.values) - 1)

    @property
    def decimals(self) -> int:
        """The number of decimals by which means are written: two for stars."""
        distance = self.span * self.step
        return max(2 - round(math.log10(distance)), 0)

    def round_outward(self, low: float, high: float) -> tuple[float, float]:
        """Widen a range of means from 0 to 1 so that its ends are round numbers of the values."""
        unit = 10 ** math.floor(math.log10(self.span)) / 10
        first = math.floor(self.to_rating(low) / unit) * unit
        last = math.ceil(self.to_rating(high) / unit) * unit
        return (first - self.lowest) / self.span, (last - self.lowest) / self.span

    def to_rating(self, mean: Any) -> Any:
        """Convert a mean from 0 to 1, or an array of means, to means of the values."""
        return self.lowest + self.span * mean

    def to_points(self, difference: float) -> float:
        """Convert a difference of means from 0 to 1 to a difference of means of the values."""
        return self.span * difference
