"""Shares and what was said when rows were drawn -> how wide the intervals became."""

from typing import NamedTuple

from sentiflow.config.class_names import set_apart
from sentiflow.config.sections import Config
from sentiflow.metrics.shares import COUNTED, UNBOUNDED, UNCORRECTED
from sentiflow.shares import sample_log
from sentiflow.shares.conclusions import Conclusion
from sentiflow.shares.sample_log import SaidWidth
from sentiflow.shares.table import ShareTable


class ReachedWidth(NamedTuple):
    """How wide the widest interval of a class in all rows became, in points."""

    wanted: float
    """The half-width that the last draw with ``--width`` was for."""
    labels: int
    """The labels that were said to be needed for it."""
    reached: float
    """The half-width now."""
    widest: str
    """The class with the widest interval."""
    labelled: int
    """The labels of the sample now."""


def find_said(config: Config) -> SaidWidth | None:
    """Find what was said with the last draw for a width; None if no rows were drawn for one.

    Raises:
        UserError: A file of a draw is damaged.
    """
    if not config.trends.labels:
        return None
    for draw in reversed(sample_log.read_each(config)):
        if draw.width is not None:
            return draw.width
    return None


def compare(trends: ShareTable, said: SaidWidth | None) -> ReachedWidth | None:
    """Compare the widest interval in all rows with what was said; None if there is no interval."""
    if said is None or trends.method in (COUNTED, UNBOUNDED, UNCORRECTED):
        return None
    half_widths = (trends.whole["high"] - trends.whole["low"]) / 2
    return ReachedWidth(
        wanted=said.wanted,
        labels=said.labels,
        reached=round(100 * float(half_widths.max()), 2),
        widest=str(half_widths.idxmax()),
        labelled=trends.num_sample,
    )


def describe(found: ReachedWidth) -> Conclusion:
    """Say how wide the interval became.

    Example:
        >>> found = ReachedWidth(3, labels=600, reached=3.12, widest="neutral", labelled=598)
        >>> print(*describe(found)[:2])
        ±3.1 points: the widest interval, of neutral, by 598 labels; ±3 was wanted, by 600 labels
    """
    widest = set_apart(found.widest)
    meaning = (
        f"points: the widest interval, of {widest}, by {found.labelled:,} labels; "
        f"±{found.wanted:g} was wanted, by {found.labels:,} labels"
    )
    return Conclusion(f"±{found.reached:.1f}", meaning, "shares")
