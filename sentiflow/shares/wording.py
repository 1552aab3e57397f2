"""Shares of a class, or mean ratings -> numbers, times and parts of sentences."""

from dataclasses import dataclass
from datetime import datetime

import pandas as pd

from sentiflow.config.class_names import set_apart
from sentiflow.metrics.rating_scale import RatingScale
from sentiflow.metrics.shares import COUNTED, UNCORRECTED

_MINUS = "\u2212"
_FORMATS = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m"}
"""How the beginning of a period is written, by unit."""


def write_period(period: datetime, unit: str) -> str:
    """Write the beginning of a period.

    Example:
        >>> write_period(datetime(2024, 5, 1), "month")
        '2024-05'
    """
    return period.strftime(_FORMATS[unit])


@dataclass(frozen=True)
class Wording:
    """How one class, or the mean rating, is written about."""

    name: str
    """The class, or ``ratings.MEAN``."""
    scale: RatingScale | None = None
    """The values of ordered classes, for the mean rating; None for a share."""

    @property
    def step(self) -> float:
        """By how much the share or the mean of one text moves: ``RatingScale.step``."""
        return 1.0 if self.scale is None else self.scale.step

    def write(self, share: float) -> str:
        """Write a share in percent, or a mean as a number.

        Example:
            >>> Wording("negative").write(0.25)
            '25.0%'
            >>> Wording("mean rating", RatingScale((1.0, 2.0, 3.0, 4.0, 5.0))).write(0.25)
            '2.00'
        """
        if self.scale is None:
            return f"{share:.1%}"
        return f"{self.scale.to_rating(share):.{self.scale.decimals}f}".replace("-", _MINUS)

    def write_difference(self, difference: float) -> str:
        """Write a difference of shares in points, or of means, with its sign."""
        written = f"{100 * difference:+.1f}"
        if self.scale is not None:
            written = f"{self.scale.to_points(difference):+.{self.scale.decimals}f}"
        return written.replace("-", _MINUS)

    def describe_whole(self, line: pd.Series) -> tuple[str, str]:
        """Say the share or the mean in all rows: a number, and the rest of the sentence.

        Args:
            line: Its line of the table.
        """
        name = set_apart(self.name)
        is_mean = self.scale is not None
        predicted = self.write(line.predicted_share)
        share = self.write(line.share)
        interval = f"95% interval {self.write(line.low)} to {self.write(line.high)}"
        if line.method == UNCORRECTED:
            if is_mean:
                meaning = "is the mean expected rating of the texts: uncorrected"
                if predicted != share:
                    meaning += f"; predicted labels give {predicted}"
                return share, meaning
            return predicted, f"of the texts are predicted {name}: uncorrected"
        if line.method == COUNTED:
            if is_mean:
                return share, f"is the {self.name} of the texts: all labels are known"
            return share, f"of the texts are labelled {name}: all labels are known"
        if is_mean:
            return (
                share,
                f"is the {self.name} of the texts ({interval}); predicted labels give {predicted}",
            )
        return share, f"of the texts are {name} ({interval}); {predicted} are predicted so"

    def describe_top(self, extreme: str, where: str, p_value: str) -> str:
        """Say that a group is the highest or the lowest beyond chance."""
        what = self.name if self.scale is not None else f"share of {set_apart(self.name)}"
        return f"is the {extreme} {what}: {where} ({p_value})"

    def describe_estimate(self, extreme: str, where: str, num_others: int) -> str:
        """Say that a group has the highest or the lowest estimate, but not beyond chance."""
        what = f"the {self.name}" if self.scale is not None else set_apart(self.name)
        comparative = {"highest": "higher", "lowest": "lower"}[extreme]
        kind = "one" if self.scale is not None else "share"
        groups = "groups" if num_others > 1 else "group"
        others = f"{num_others:,} other {groups} may have a {comparative} {kind}"
        return f"is the {extreme} estimate of {what}: {where}; {others}"

    def describe_change(self, period: str) -> str:
        """Begin the sentence on a change around a period, after the size of the change."""
        if self.scale is not None:
            return f"in the {self.name}, changed around {period}"
        return f"points of {set_apart(self.name)}, changed around {period}"

    def describe_last(self, period: str) -> str:
        """Begin the sentence on the last period, after its share or mean."""
        if self.scale is not None:
            return f"is the {self.name} of {period}"
        return f"of the texts of {period} are {set_apart(self.name)}"
