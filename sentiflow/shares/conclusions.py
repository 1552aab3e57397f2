"""Shares -> the most important results in words.

A difference is claimed only if it is beyond chance.
"""

from collections.abc import Sequence
from math import isnan
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sentiflow.errors import MOST_LISTED
from sentiflow.metrics.look_boundaries import MIN_LABELS
from sentiflow.metrics.paired import SIGNIFICANCE, write_p
from sentiflow.metrics.share_changes import Change, Looks
from sentiflow.metrics.share_comparison import compare_with_each
from sentiflow.metrics.shares import MIN_COMPARED_LABELS, MIN_COMPARED_ROWS, UNCORRECTED
from sentiflow.shares.breakdowns import Breakdown
from sentiflow.shares.rows import VERSION
from sentiflow.shares.table import ShareTable
from sentiflow.shares.wording import Wording, write_period

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


def tells_nothing(lines: Any) -> Any:
    """Say whether an interval covers 0 to 1, and so tells nothing.

    Args:
        lines: A line with ``low`` and ``high``; or a table of lines, for a boolean of each.
    """
    return (lines["low"] <= 0) & (lines["high"] >= 1)


def draw_conclusions(trends: ShareTable) -> list[Conclusion]:
    """List the results: the share of each class, the highest group, the change over time.

    Of ordered classes the mean rating comes first, with the highest and the lowest group. Without
    labels or with labels that are no random sample, groups and periods are not compared.
    """
    focus = trends.focus
    conclusions = []
    if trends.means is not None:
        conclusions += draw_conclusions(trends.means)
    conclusions += _describe_shares(trends, focus)
    if trends.method == UNCORRECTED or not trends.is_random:
        return conclusions
    for item in trends.breakdowns[1:]:
        lines = item.of(focus)
        if len(lines) < 2 or item.is_by_both or item.by == VERSION:
            continue
        if item.unit:
            conclusions += _describe_changes(trends, item, focus)
        else:
            conclusions += _describe_groups(lines, item, trends.wording(focus))
    return conclusions


def _describe_groups(lines: pd.DataFrame, item: Breakdown, wording: Wording) -> list[Conclusion]:
    """Compare the group with the highest share of a class with the others, if there are enough.

    Args:
        lines: The shares of the class, a line for each of two groups or more.
        item: Their breakdown.
        wording: How the class, or the mean rating, is written about.
    """
    comparable = lines[lines["is_comparable"] & ~tells_nothing(lines)].reset_index(drop=True)
    if len(comparable) > 1:
        num_left_out = len(lines) - len(comparable)
        conclusions = [_describe_highest(comparable, item.by, num_left_out, wording)]
        if wording.scale is not None:
            conclusions.append(
                _describe_highest(comparable, item.by, num_left_out, wording, is_lowest=True)
            )
        return conclusions
    meaning = (
        f"groups by {item.by} have at least {MINIMUM} that measure the error: none is compared"
    )
    return [Conclusion(f"{len(comparable)} of {len(lines):,}", meaning, "groups")]


def _describe_shares(trends: ShareTable, focus: str) -> list[Conclusion]:
    """Say the share of each class; of many classes, only the largest shares.

    Ordered classes stand in their order. Of others the focus comes first.
    """
    num_more = len(trends.classes) - MOST_LISTED
    if num_more > 0:
        order = list(trends.whole["share"].nlargest(MOST_LISTED).index)
    else:
        order = [focus, *(name for name in trends.classes if name != focus)]
    if trends.means is not None:
        order = [name for name in trends.classes if name in order]
    conclusions = []
    for name in order:
        number, meaning = trends.wording(name).describe_whole(trends.whole.loc[name])
        conclusions.append(Conclusion(number, meaning, "shares"))
    if num_more > 0:
        conclusions.append(Conclusion(f"{num_more}", "more classes are in the table", "shares"))
    return conclusions


def _describe_highest(
    lines: pd.DataFrame,
    by: str,
    num_left_out: int,
    wording: Wording,
    *,
    is_lowest: bool = False,
) -> Conclusion:
    """Compare the group with the highest share of a class, or mean, with each other group.

    Args:
        lines: The shares of the class, a line for each of two comparable groups or more.
        by: The column of the groups.
        num_left_out: Number of groups that are not comparable.
        wording: How the class, or the mean rating, is written about.
        is_lowest: Take the group with the lowest share.
    """
    extreme = "lowest" if is_lowest else "highest"
    direction = -1 if is_lowest else 1
    top = int((direction * lines["share"]).argmax())
    share = wording.write(lines["share"][top])
    where = f"{by} {lines['group'][top]}"
    if num_left_out:
        where += f", of {len(lines):,} groups with at least {MINIMUM}"
    compared = lines["compared"].to_numpy()
    p_values = compare_with_each(
        compared,
        lines["error"].to_numpy(),
        lines["rows"].to_numpy(),
        top,
        spread=lines["spread"].to_numpy(),
        step=wording.step,
    )
    p_values[direction * (compared - compared[top]) > 0] = 1
    # The group is the highest only if its difference from each other group is significant. Its own
    # p-value is NaN.
    p_value = float(np.nanmax(p_values))
    if p_value < SIGNIFICANCE:
        meaning = wording.describe_top(extreme, where, write_p(p_value))
        return Conclusion(share, meaning, "groups")
    num_others = int((p_values >= SIGNIFICANCE).sum())
    meaning = wording.describe_estimate(extreme, where, num_others)
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
        wording = trends.wording(name)
        if change and name == focus:
            conclusions.insert(0, _describe_change(wording, change, looks, periods))
        elif change and len(trends.classes) > 2:  # of two classes, one tells the other
            conclusions.append(_describe_change(wording, change, looks, periods))
    if trends.classes.index(focus) not in looks.changes:
        last = item.of(focus).iloc[-1]
        clearest = looks.clearest.get(trends.classes.index(focus))
        wording = trends.wording(focus)
        conclusions.insert(0, _describe_last(last, looks, clearest, periods, wording))
    return conclusions[:MOST_LISTED]


def _describe_change(
    wording: Wording, change: Change, looks: Looks, periods: Sequence[str]
) -> Conclusion:
    """Describe the change of the share of a class, given all periods as they are written."""
    gain = wording.write_difference(change.since - change.before)
    low = wording.write_difference(change.low)
    high = wording.write_difference(change.high)
    end = "since"
    if change.look != looks.last:
        end = f"until {periods[change.look]}"
    meaning = (
        f"{wording.describe_change(periods[change.first])}: "
        f"{wording.write(change.before)} before, "
        f"{wording.write(change.since)} {end} "
        f"(95% interval of the change {low} to {high}, at every look)"
    )
    if change.look != looks.last:
        meaning += "; with the texts after that, no change is beyond chance"
    return Conclusion(gain, meaning, "periods")


def _describe_last(
    last: pd.Series,
    looks: Looks,
    clearest: Change | None,
    periods: Sequence[str],
    wording: Wording,
) -> Conclusion:
    """Say the share of the last period, that no change is beyond chance, and what it may be.

    Args:
        last: The line of the last period.
        looks: What the looks have found.
        clearest: The clearest difference of the class, or of the mean rating; None for none.
        periods: All periods as they are written.
        wording: How the class, or the mean rating, is written about.
    """
    meaning = wording.describe_last(periods[-1])
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
    if clearest is not None and not isnan(clearest.low):
        gain = wording.write_difference(clearest.since - clearest.before)
        low = wording.write_difference(clearest.low)
        high = wording.write_difference(clearest.high)
        points = " points" if wording.scale is None else ""
        meaning += (
            f"; the clearest difference is around {periods[clearest.first]}: {gain}{points} "
            f"(95% interval {low} to {high})"
        )
    return Conclusion(wording.write(last["share"]), meaning, "periods")
