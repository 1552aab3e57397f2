"""Shares -> the most important results in words, and one self-contained HTML page.

A difference is claimed only if it is beyond chance.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sentiflow.config.class_names import set_apart
from sentiflow.config.sections import TrendsSettings
from sentiflow.errors import MOST_LISTED
from sentiflow.evaluation.page_templates import open_template
from sentiflow.evaluation.report import Axis
from sentiflow.metrics.paired import SIGNIFICANCE, write_p
from sentiflow.metrics.share_changes import MIN_LABELS, Change, Looks
from sentiflow.metrics.share_comparison import compare_with_each
from sentiflow.metrics.shares import (
    COUNTED,
    METHODS,
    MIN_COMPARED_LABELS,
    MIN_COMPARED_ROWS,
    MIN_LABELLED,
    UNCORRECTED,
)
from sentiflow.shares.rows import VERSION
from sentiflow.shares.table import MAX_SHOWN, Breakdown, ShareTable, choose_focus


class Conclusion(NamedTuple):
    """A result in words."""

    number: str
    meaning: str
    """The rest of the sentence, after the number."""
    section: str
    """The section of the page that shows it."""


_FORMATS = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m"}
"""How the beginning of a period is written, by unit."""
MAX_OPEN = 20
"""A table by both of ``trends.by`` is folded if it has more than this number of lines."""
MAX_ROWS = 500
"""Maximum number of periods in a table of the page."""
MINIMUM = f"{MIN_COMPARED_ROWS} texts and {MIN_COMPARED_LABELS} labels"
"""What a group or period needs, so that it is compared with others; for messages."""


def choose_class(trends: ShareTable) -> str:
    """Choose the class that groups and periods are compared by: negative, or else the largest."""
    return choose_focus(trends.classes, trends.whole["share"])


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
    focus = choose_class(trends)
    conclusions = _describe_shares(trends, focus)
    if trends.method == UNCORRECTED or not trends.is_random:
        return conclusions
    for item in trends.breakdowns[1:]:
        lines = item.of(focus)
        is_by_column = not item.unit and not item.is_by_both and item.by != VERSION
        is_by_time = item.unit and not item.has_groups
        if len(lines) < 2:
            continue
        if is_by_time:
            conclusions += _describe_changes(trends, item, focus)
        elif is_by_column:
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
    p_values = compare_with_each(
        lines["share"].to_numpy(), lines["error"].to_numpy(), lines["rows"].to_numpy(), top
    )
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
        return f"it has fewer than {MINIMUM.replace(' and ', ' or ')} that measure the error"
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


@dataclass(frozen=True)
class Section:
    """A table of the page: the shares of one class, by group or period."""

    title: str
    lines: pd.DataFrame
    """Lines of the table, as ``Breakdown.of`` returns them, with four more columns: ``name``, the
    group or period; ``has_interval``; ``is_higher``, whether the share is higher than in all other
    groups together, beyond chance; ``is_known``, whether the interval is narrower than 0 to 1."""
    num_left_out: int = 0
    """Lines that are not shown."""
    reference: float = 0
    """The share in all rows, which the page marks; 0 if the page marks nothing."""
    is_open: bool = True
    """Whether the table is shown at once."""

    @property
    def axis(self) -> Axis:
        """Choose an axis that holds every share and interval; it ends at multiples of 0.1."""
        lines = self.lines
        if lines["is_known"].any():
            lines = lines[lines["is_known"]]
        ends = lines[["share", "predicted_share", "low", "high"]]
        low = np.floor(10 * ends.min().min()) / 10
        high = np.ceil(10 * ends.max().max()) / 10
        return Axis(low, high)


def render(
    trends: ShareTable,
    plots: dict[str, bytes],
    *,
    name: str,
    created: datetime,
    conclusions: Sequence[Conclusion],
    settings: TrendsSettings,
    model: str,
    corpus: str,
) -> str:
    """Write one HTML page with everything inside: styles, images, no scripts.

    A content security policy in it forbids scripts and any use of the network. Names of groups are
    not trusted.

    Args:
        trends: The shares.
        plots: Results of ``share_charts.render``.
        name: The name of the experiment.
        created: When the page is made, in UTC.
        conclusions: The results in words.
        settings: The section ``trends``.
        model: The model in a line.
        corpus: The texts in a line.
    """
    focus = choose_class(trends)
    share = float(trends.whole["share"][focus])
    breakdowns = trends.breakdowns[1:]
    used = set(pd.concat(item.table["method"] for item in trends.breakdowns))
    template = open_template(
        "trends.html.j2", package="sentiflow.shares", autoescape=True, lstrip_blocks=True
    )
    return template.render(
        name=name,
        created=created,
        conclusions=conclusions,
        min_labelled=MIN_LABELLED,
        minimum=MINIMUM.replace(" and ", " or "),
        is_by_hand=bool(settings.labels),
        time_zone=settings.time_zone,
        model=model,
        corpus=corpus,
        trends=trends,
        focus=focus,
        shares=Section("Shares", _mark(trends.whole, trends.whole["class"])),
        is_corrected=trends.method != UNCORRECTED,
        sections=[_list_groups(item, item.of(focus), share) for item in breakdowns],
        methods={method: meaning for method, meaning in METHODS.items() if method in used},
        plots={file: base64.b64encode(image).decode() for file, image in plots.items()},
    )


def _list_groups(item: Breakdown, lines: pd.DataFrame, reference: float) -> Section:
    """List the largest groups and the other ones together, or the last periods.

    Args:
        item: A breakdown by column or time.
        lines: Its shares of a class.
        reference: The share of this class in all rows.
    """
    names = lines["group"]
    if item.unit:
        periods = lines["period"].map(lambda period: write_period(period, item.unit))
        names = names + ", " + periods if item.has_groups else periods
    lines = _mark(lines, names, reference)
    if not item.unit:
        shown = arrange_groups(lines)
        num_left_out = 0
        if item.other is not None:
            other = item.other[item.other["class"] == lines["class"][0]]
            shown = pd.concat([shown, _mark(other, other["group"])])
            num_left_out = len(lines) - MAX_SHOWN
    else:
        shown = _choose_periods(lines)
        num_left_out = len(lines) - len(shown)
    return Section(
        f"By {item.by.replace(', ', ' and ')}",
        shown,
        num_left_out=num_left_out,
        reference=reference,
        is_open=len(shown) <= MAX_OPEN or not item.is_by_both,
    )


def arrange_groups(lines: pd.DataFrame) -> pd.DataFrame:
    """Arrange the ``MAX_SHOWN`` groups with the most texts.

    First those with enough texts and labels, the highest share first; then the others, the largest
    first.
    """
    largest = lines.nlargest(MAX_SHOWN, "rows")
    ranked = largest[largest["is_comparable"]]
    ranked = ranked.sort_values("share", ascending=False, kind="stable")
    return pd.concat([ranked, largest[~largest["is_comparable"]]])


def _choose_periods(lines: pd.DataFrame) -> pd.DataFrame:
    """Choose the last ``MAX_ROWS`` periods; or all periods of the groups with the most texts."""
    if len(lines) <= MAX_ROWS or lines["group"].isna().all():
        return lines.tail(MAX_ROWS)
    of_group = lines.groupby("group")["rows"].agg(["sum", "size"])
    largest = of_group.sort_values("sum", ascending=False, kind="stable")
    is_shown = largest["size"].cumsum() <= MAX_ROWS
    is_shown.iloc[0] = True  # even if it has more periods
    return lines[lines["group"].isin(largest.index[is_shown])].tail(MAX_ROWS)


def _mark(lines: pd.DataFrame, names: pd.Series, reference: float = 0) -> pd.DataFrame:
    """Add the columns of ``Section.lines``."""
    return lines.assign(
        name=names,
        has_interval=lines["low"].notna(),
        is_higher=(lines["p_adjusted"] < SIGNIFICANCE) & (lines["share"] > reference),
        is_known=~tells_nothing(lines),
    )
