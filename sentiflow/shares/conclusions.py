"""Shares -> the most important results in words, each claimed only beyond chance."""

from datetime import datetime

import numpy as np

from sentiflow.config.classes import BINARY
from sentiflow.metrics.paired import SURE, adjust, write_p
from sentiflow.metrics.shares import COUNTED, UNCORRECTED, compare_with
from sentiflow.shares.table import Breakdown, Trends

Conclusion = tuple[str, str, str]
"""A number, what it means, and the section of the page."""

_FORMATS = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m"}


def choose_class(trends: Trends) -> int:
    """Choose the class that groups and periods are compared by: negative, else the largest."""
    if BINARY[0] in trends.classes:
        return trends.classes.index(BINARY[0])
    return int(np.argmax(best(trends.whole)[0]))


def best(item: Breakdown) -> np.ndarray:
    """Return the corrected shares, or those of predicted labels where there are none."""
    found = item.shares
    return np.where(np.isnan(found.share), found.predicted, found.share)


def write_period(period: datetime, unit: str) -> str:
    """Write the beginning of a period.

    Example:
        >>> write_period(datetime(2024, 5, 1), "month")
        '2024-05'
    """
    return period.strftime(_FORMATS[unit])


def draw_conclusions(trends: Trends) -> list[Conclusion]:
    """List the results: the share of each class, the highest group, the change over time."""
    focus = choose_class(trends)
    order = [focus, *(at for at in range(len(trends.classes)) if at != focus)]
    found = [_describe_share(trends, number) for number in order]
    if trends.whole.shares.method[0] == UNCORRECTED:
        return found
    for item in trends.breakdowns[1:]:
        has_groups, has_periods = item.groups[0] is not None, item.periods[0] is not None
        if has_groups and not has_periods and "," not in item.by and len(item.groups) > 1:
            found.append(_describe_highest(trends, item, focus))
        if has_periods and not has_groups and len(item.periods) > 1:
            found.append(_describe_change(trends, item, focus))
    return found


def _describe_share(trends: Trends, number: int) -> Conclusion:
    shares, name = trends.whole.shares, trends.classes[number]
    predicted = f"{shares.predicted[0, number]:.1%}"
    method = shares.method[0]
    if method == UNCORRECTED:
        return predicted, f"of the texts are predicted {name}: uncorrected", "shares"
    share = f"{shares.share[0, number]:.1%}"
    if method == COUNTED:
        return share, f"of the texts are labelled {name}: all labels are known", "shares"
    low, high = shares.low[0, number], shares.high[0, number]
    interval = f"95% interval {low:.1%} to {high:.1%}"
    return share, f"of the texts are {name} ({interval}); {predicted} are predicted so", "shares"


def _describe_highest(trends: Trends, item: Breakdown, number: int) -> Conclusion:
    share, name = best(item)[:, number], trends.classes[number]
    top = int(np.nanargmax(share))
    p_value = float(np.nanmax(compare_with(item.shares, top, number)))
    at = f"{share[top]:.1%}"
    where = f"{item.by} {item.groups[top]}"
    if p_value < SURE:
        return at, f"is the highest share of {name}: {where} ({write_p(p_value)})", "groups"
    others = int((compare_with(item.shares, top, number) >= SURE).sum())
    also = f"{others} other{'s' if others > 1 else ''} may be as high"
    return (
        at,
        f"is the share of {name} for {where}, but {also}: no highest {item.by} beyond chance",
        "groups",
    )


def _describe_change(trends: Trends, item: Breakdown, number: int) -> Conclusion:
    """Compare the last period with each earlier one."""
    share, name = best(item)[:, number], trends.classes[number]
    last = len(share) - 1
    p_values = compare_with(item.shares, last, number)[:last]
    sure = np.array(adjust(p_values.tolist())) < SURE
    periods = [write_period(period, item.unit) for period in item.periods if period]
    gaps = share[last] - share[:last]
    if not sure.any():
        text = f"of the texts of {periods[last]} are {name}: no change beyond chance"
        return f"{share[last]:.1%}", text, "periods"
    at = int(np.argmax(np.where(sure, np.abs(gaps), 0)))
    points = f"{100 * gaps[at]:+.1f}".replace("-", "\u2212")
    text = (
        f"points of {name} from {periods[at]} ({share[at]:.1%}) to {periods[last]} "
        f"({share[last]:.1%})"
    )
    return points, text, "periods"
