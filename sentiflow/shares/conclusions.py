"""Shares -> the most important results in words.

A difference is claimed only if it is beyond chance.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sentiflow.config.class_names import set_apart
from sentiflow.errors import MOST_LISTED
from sentiflow.metrics.look_boundaries import MIN_LABELS
from sentiflow.metrics.paired import SIGNIFICANCE, write_p
from sentiflow.metrics.share_changes import Change, Looks
from sentiflow.metrics.share_comparison import compare_with_each
from sentiflow.metrics.shares import COUNTED, MIN_COMPARED_LABELS, MIN_COMPARED_ROWS, UNCORRECTED
from sentiflow.shares.breakdowns import Breakdown
from sentiflow.shares.rows import VERSION
from sentiflow.shares.table import ShareTable

_FORMATS = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m"}
"""How the beginning of a period is written, by unit."""
MINIMUM = f"{MIN_COMPARED_ROWS} texts and {MIN_COMPARED_LABELS} labels"
"""What a group or period needs, so that it is compared with others; for messages."""
BELOW_MINIMUM = f"{MIN_COMPARED_ROWS} texts or {MIN_COMPARED_LABELS} labels"
"""The same, as the end of "fewer than"."""


class Conclusion(NamedTuple):
    """A result in words."""

    number: str
    meaning: str
    """The rest of the sentence, after the number."""
    section: str
    """The section of the page that shows it."""


def write_period(period: datetime, unit: str) -> str:
    """Write the beginning of a period.

    Example:
        >>> write_period(datetime(2024, 5, 1), "month")
        '2024-05'
    """
    return period.strftime(_FORMATS[unit])


def tells_nothing(lines: Any) -> Any:
    """Say whether an interval covers 0 to 1, and so tells nothing.

    Args:
        lines: A line with ``low`` and ``high``; or a table of lines, for a boolean of each.
    """
    return (lines["low"] <= 0) & (lines["high"] >= 1)


def draw_conclusions(trends: ShareTable) -> list[Conclusion]:
    """List the results: the share of each class, the highest group, the change over time.

    Without labels or with labels that are no random sample, groups and periods are not compared.
    """
    focus = trends.focus
    conclusions = _describe_shares(trends, focus)
    if trends.method == UNCORRECTED or not trends.is_random:
        return conclusions
    for item in trends.breakdowns[1:]:
        lines = item.of(focus)
        if len(lines) < 2 or item.is_by_both or item.by == VERSION:
            continue
        if item.unit:
            conclusions += _describe_changes(trends, item, focus)
        else:
            conclusions.append(_describe_groups(lines, item))
    return conclusions


def _describe_groups(lines: pd.DataFrame, item: Breakdown) -> Conclusion:
    """Compare the group with the highest share of a class with the others, if there are enough.

    Args:
        lines: The shares of the class, a line for each of two groups or more.
        item: Their breakdown.
    """
    comparable = lines[lines["is_comparable"] & ~tells_nothing(lines)].reset_index(drop=True)
    if len(comparable) > 1:
        num_left_out = len(lines) - len(comparable)
        return _describe_highest(comparable, item.by, num_left_out)
    meaning = (
        f"groups by {item.by} have at least {MINIMUM} that measure the error: none is compared"
    )
    return Conclusion(f"{len(comparable)} of {len(lines):,}", meaning, "groups")


def _describe_shares(trends: ShareTable, focus: str) -> list[Conclusion]:
    """Say the share of each class, ``focus`` first; of many classes, only the largest shares."""
    num_more = len(trends.classes) - MOST_LISTED
    if num_more > 0:
        order = list(trends.whole["share"].nlargest(MOST_LISTED).index)
    else:
        order = [focus, *(name for name in trends.classes if name != focus)]
    conclusions = [_describe_share(line) for _, line in trends.whole.loc[order].iterrows()]
    if num_more > 0:
        conclusions.append(Conclusion(f"{num_more}", "more classes are in the table", "shares"))
    return conclusions


def _describe_share(line: pd.Series) -> Conclusion:
    """Say the share of a class in all rows, given its line of the table."""
    name = set_apart(line["class"])
    predicted = f"{line.predicted_share:.1%}"
    share = f"{line.share:.1%}"
    if line.method == UNCORRECTED:
        meaning = f"of the texts are predicted {name}: uncorrected"
        return Conclusion(predicted, meaning, "shares")
    if line.method == COUNTED:
        meaning = f"of the texts are labelled {name}: all labels are known"
        return Conclusion(share, meaning, "shares")
    interval = f"95% interval {line.low:.1%} to {line.high:.1%}"
    meaning = f"of the texts are {name} ({interval}); {predicted} are predicted so"
    return Conclusion(share, meaning, "shares")


def _describe_highest(lines: pd.DataFrame, by: str, num_left_out: int) -> Conclusion:
    """Compare the group with the highest share of a class with each other group.

    Args:
        lines: The shares of the class, a line for each of two comparable groups or more.
        by: The column of the groups.
        num_left_out: Number of groups that are not comparable.
    """
    name = set_apart(lines["class"][0])
    top = int(lines["share"].argmax())
    share = f"{lines['share'][top]:.1%}"
    where = f"{by} {lines['group'][top]}"
    if num_left_out:
        where += f", of {len(lines):,} groups with at least {MINIMUM}"
    compared = lines["compared"].to_numpy()
    p_values = compare_with_each(compared, lines["error"].to_numpy(), lines["rows"].to_numpy(), top)
    p_values[compared > compared[top]] = 1
    # The group is the highest only if its difference from each other group is significant. Its own
    # p-value is NaN.
    p_value = float(np.nanmax(p_values))
    if p_value < SIGNIFICANCE:
        meaning = f"is the highest share of {name}: {where} ({write_p(p_value)})"
        return Conclusion(share, meaning, "groups")
    num_others = int((p_values >= SIGNIFICANCE).sum())
    groups = "groups" if num_others > 1 else "group"
    others = f"{num_others:,} other {groups} may have a higher share"
    meaning = f"is the highest estimate of {name}: {where}; {others}"
    return Conclusion(share, meaning, "groups")


def _find_reservation(line: pd.Series) -> str:
    """Return why nothing is claimed about a period; empty if there is no such reason."""
    if not line["is_comparable"]:
        measure = "measures" if line["measured"] == 1 else "measure"
        return (
            f"{line['measured']:,} of its {line['rows']:,} texts {measure} the error of the model "
            f"(at least {MINIMUM} are needed)"
        )
    if tells_nothing(line):
        return "its labels are too few to tell"
    return ""


def _describe_changes(trends: ShareTable, item: Breakdown, focus: str) -> list[Conclusion]:
    """Say whether the share of the focus has changed over time, and which others have.

    Args:
        trends: The shares.
        item: The breakdown by time alone, with two periods or more.
        focus: The class that the page is about.
    """
    looks = trends.looks[item.by]
    periods = [write_period(period, item.unit) for period in item.of(focus)["period"]]
    conclusions: list[Conclusion] = []
    for code, name in enumerate(trends.classes):
        change = looks.changes.get(code)
        if change and name == focus:
            conclusions.insert(0, _describe_change(name, change, looks, periods))
        elif change and len(trends.classes) > 2:  # of two classes, one tells the other
            conclusions.append(_describe_change(name, change, looks, periods))
    if trends.classes.index(focus) not in looks.changes:
        conclusions.insert(0, _describe_last(item.of(focus), looks, periods))
    return conclusions[:MOST_LISTED]


def _describe_change(name: str, change: Change, looks: Looks, periods: Sequence[str]) -> Conclusion:
    """Describe the change of the share of a class, given all periods as they are written."""
    gain = _write_points(change.since - change.before)
    low = _write_points(change.low)
    high = _write_points(change.high)
    end = "since"
    if change.look != looks.last:
        end = f"until {periods[change.look]}"
    meaning = (
        f"points of {set_apart(name)}, changed around {periods[change.first]}: "
        f"{change.before:.1%} before, "
        f"{change.since:.1%} {end} (95% interval of the change {low} to {high}, at every look)"
    )
    if change.look != looks.last:
        meaning += "; with the texts after that, no change is beyond chance"
    return Conclusion(gain, meaning, "periods")


def _write_points(difference: float) -> str:
    """Write a difference of shares in points, with its sign."""
    return f"{100 * difference:+.1f}".replace("-", "\u2212")  # a minus sign


def _describe_last(lines: pd.DataFrame, looks: Looks, periods: Sequence[str]) -> Conclusion:
    """Say the share of the last period, and that no change is beyond chance.

    Args:
        lines: The shares of a class, a line for each period.
        looks: What the looks have found.
        periods: All periods as they are written.
    """
    last = lines.iloc[-1]
    meaning = f"of the texts of {periods[-1]} are {set_apart(last['class'])}"
    reservation = _find_reservation(last)
    if reservation:
        meaning += f", but {reservation}"
    if looks.first is None:
        meaning += (
            f"; too few labels to tell a change: {MIN_LABELS} before it and {MIN_LABELS} after it "
            "are the least"
        )
    elif looks.first == looks.last:
        meaning += "; no change beyond chance"
    else:
        meaning += f"; no change beyond chance, as at every look since {periods[looks.first]}"
    return Conclusion(f"{last['share']:.1%}", meaning, "periods")
