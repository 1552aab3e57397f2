"""Shares -> the most important results in words, each claimed only beyond chance."""

from datetime import datetime

import numpy as np
import pandas as pd

from sentiflow.config.classes import BINARY
from sentiflow.metrics.paired import SURE, adjust, write_p
from sentiflow.metrics.shares import COUNTED, UNCORRECTED, UNLABELLED, compare_with
from sentiflow.shares.table import Trends

Conclusion = tuple[str, str, str]
"""A number, what it means, and the section of the page."""

_FORMATS = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m"}


def choose_class(trends: Trends) -> str:
    """Choose the class that groups and periods are compared by: negative, else the largest."""
    return BINARY[0] if BINARY[0] in trends.classes else str(trends.whole["share"].idxmax())


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
    order = [focus, *(name for name in trends.classes if name != focus)]
    found = [_describe_share(line) for _, line in trends.whole.loc[order].iterrows()]
    if trends.method == UNCORRECTED or not trends.is_random:
        return found
    for item in trends.breakdowns[1:]:
        line = item.of(focus)
        if item.has_groups and not item.unit and "," not in item.by and len(line) > 1:
            found.append(_describe_highest(line, item.by))
        if item.unit and not item.has_groups and len(line) > 1:
            found.append(_describe_change(line, item.unit))
    return found


def _describe_share(line: pd.Series) -> Conclusion:
    predicted, share, name = f"{line.predicted_share:.1%}", f"{line.share:.1%}", line["class"]
    if line.method == UNCORRECTED:
        return predicted, f"of the texts are predicted {name}: uncorrected", "shares"
    if line.method == COUNTED:
        return share, f"of the texts are labelled {name}: all labels are known", "shares"
    interval = f"95% interval {line.low:.1%} to {line.high:.1%}"
    return share, f"of the texts are {name} ({interval}); {predicted} are predicted so", "shares"


def _describe_highest(line: pd.DataFrame, by: str) -> Conclusion:
    """Compare the group with the highest share of a class with each other one."""
    name, top = line["class"][0], int(line["share"].argmax())
    p_values = compare_with(line["share"].to_numpy(), line["error"].to_numpy(), top)
    share, where = f"{line['share'][top]:.1%}", f"{by} {line['group'][top]}"
    if line["method"][top] == UNLABELLED:
        return share, f"is the share of {name} for {where}, which has no label: no claim", "groups"
    if (p_value := float(np.nanmax(p_values))) < SURE:
        return share, f"is the highest share of {name}: {where} ({write_p(p_value)})", "groups"
    others = int((p_values >= SURE).sum())
    also = f"{others} other{'s' if others > 1 else ''} may be as high"
    text = f"is the share of {name} for {where}, but {also}: no highest {by} beyond chance"
    return share, text, "groups"


def _describe_change(line: pd.DataFrame, unit: str) -> Conclusion:
    """Compare the last period with each earlier one."""
    name, share, last = line["class"][0], line["share"].to_numpy(), len(line) - 1
    p_values = compare_with(share, line["error"].to_numpy(), last)[:last]
    is_sure = np.array(adjust(p_values.tolist())) < SURE
    has_label = (line["method"] != UNLABELLED).to_numpy()
    is_sure &= has_label[:last] & has_label[last]
    periods = [write_period(period, unit) for period in line["period"]]
    if not is_sure.any():
        text = f"of the texts of {periods[last]} are {name}: no change beyond chance"
        return f"{share[last]:.1%}", text, "periods"
    gaps = share[last] - share[:last]
    at = int(np.argmax(np.where(is_sure, np.abs(gaps), 0)))
    points = f"{100 * gaps[at]:+.1f}".replace("-", "\u2212")
    text = (
        f"points of {name} from {periods[at]} ({share[at]:.1%}) to {periods[last]} "
        f"({share[last]:.1%})"
    )
    return points, text, "periods"
