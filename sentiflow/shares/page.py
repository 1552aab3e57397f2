"""Shares -> the most important results in words, and one self-contained HTML page.

Each result is claimed only beyond chance.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from sentiflow.config.class_names import BINARY
from sentiflow.config.sections import TrendsSettings
from sentiflow.errors import MOST_LISTED
from sentiflow.evaluation.report import Axis, open_template
from sentiflow.metrics.paired import SURE, adjust, write_p
from sentiflow.metrics.shares import (
    COUNTED,
    METHODS,
    MIN_LABELLED,
    UNCORRECTED,
    UNLABELLED,
    compare_with,
)
from sentiflow.shares.rows import VERSION
from sentiflow.shares.table import Breakdown, ShareTable

Conclusion = tuple[str, str, str]
"""A number, what it means, and the section of the page."""

_FORMATS = {"hour": "%Y-%m-%d %H:00", "day": "%Y-%m-%d", "week": "%Y-%m-%d", "month": "%Y-%m"}
MAX_OPEN = 20
"""Lines that the table of two columns has without being folded."""
MAX_ROWS = 500
"""Groups or periods in a table of the page."""


def choose_class(trends: ShareTable) -> str:
    """Choose the class that groups and periods are compared by: negative, else the largest."""
    return BINARY[0] if BINARY[0] in trends.classes else str(trends.whole["share"].idxmax())


def write_period(period: datetime, unit: str) -> str:
    """Write the beginning of a period.

    Example:
        >>> write_period(datetime(2024, 5, 1), "month")
        '2024-05'
    """
    return period.strftime(_FORMATS[unit])


def tells_nothing(lines: Any) -> Any:
    """Say whether an interval, or which of several, holds every share that there can be."""
    return (lines["low"] <= 0) & (lines["high"] >= 1)


def draw_conclusions(trends: ShareTable) -> list[Conclusion]:
    """List the results: the share of each class, the highest group, the change over time."""
    focus = choose_class(trends)
    order = [focus, *(name for name in trends.classes if name != focus)]
    if (num_more := len(order) - MOST_LISTED) > 0:
        order = list(trends.whole["share"].nlargest(MOST_LISTED).index)
    conclusions = [_describe_share(line) for _, line in trends.whole.loc[order].iterrows()]
    if num_more > 0:
        conclusions.append((f"{num_more}", "more classes are in the table", "shares"))
    if trends.method == UNCORRECTED or not trends.is_random:
        return conclusions
    for item in trends.breakdowns[1:]:
        line = item.of(focus)
        is_single = item.has_groups and not item.unit and "," not in item.by
        told = line[~tells_nothing(line)].reset_index(drop=True)
        if is_single and item.by != VERSION and len(told) > 1:
            conclusions.append(_describe_highest(told, item.by))
        if item.unit and not item.has_groups and len(line) > 1:
            conclusions.append(_describe_change(line, item.unit))
    return conclusions


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
    if why := _find_gap(line.iloc[top]):
        return share, f"is the highest estimate of {name}: {where}, but {why}", "groups"
    if (p_value := float(np.nanmax(p_values))) < SURE:
        return share, f"is the highest share of {name}: {where} ({write_p(p_value)})", "groups"
    others = int((p_values >= SURE).sum())
    also = f"{others} other group{'s' if others > 1 else ''} may have a higher share"
    return share, f"is the highest estimate of {name}: {where}; {also}", "groups"


def _find_gap(line: pd.Series) -> str:
    """Say why nothing is claimed of a group or period: nobody has labelled it, or too few texts."""
    too_few = "its labels are too few to tell" if tells_nothing(line) else ""
    return (
        "it has no labelled text that is new to the model" if line.method == UNLABELLED else too_few
    )


def _describe_change(line: pd.DataFrame, unit: str) -> Conclusion:
    """Compare the last period with each earlier one."""
    name, share, last = line["class"][0], line["share"].to_numpy(), len(line) - 1
    p_values = compare_with(share, line["error"].to_numpy(), last)[:last]
    is_sure = np.array(adjust(p_values.tolist())) < SURE
    has_label = (line["method"] != UNLABELLED).to_numpy()
    is_sure &= has_label[:last] & has_label[last]
    periods = [write_period(period, unit) for period in line["period"]]
    if not is_sure.any():
        why = _find_gap(line.iloc[last])
        text = f"of the texts of {periods[last]} are {name}"
        text += f", but {why}" if why else ": no change beyond chance"
        return f"{share[last]:.1%}", text, "periods"
    gaps = share[last] - share[:last]
    at = int(np.argmax(np.where(is_sure, np.abs(gaps), 0)))
    points = f"{100 * gaps[at]:+.1f}".replace("-", "\u2212")
    text = (
        f"points of {name} from {periods[at]} ({share[at]:.1%}) to {periods[last]} "
        f"({share[last]:.1%})"
    )
    return points, text, "periods"


@dataclass(frozen=True)
class Section:
    """A table of the page: the shares of one class, by group or period."""

    title: str
    lines: pd.DataFrame
    """As ``Breakdown.of`` returns them, with ``name``, the group or period; ``is_corrected``,
    whether there is an interval; and ``is_higher``, than in all other groups together, beyond
    chance; and ``is_known``, whether its interval tells anything."""
    num_left_out: int = 0
    reference: float = 0
    """The share in all rows; 0 for none."""
    is_open: bool = True
    """Whether the table is shown at once."""

    @property
    def axis(self) -> Axis:
        """Choose an axis that holds every share and interval."""
        known = self.lines[self.lines["is_known"]] if self.lines["is_known"].any() else self.lines
        ends = known[["share", "predicted_share", "low", "high"]]
        return Axis(np.floor(10 * ends.min().min()) / 10, np.ceil(10 * ends.max().max()) / 10)


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
        plots: Those of ``charts.render``.
        name: That of the experiment.
        created: In UTC.
        conclusions: The results in words.
        settings: The section ``trends``.
        model: The model in a line.
        corpus: The texts in a line.
    """
    focus = choose_class(trends)
    methods = set(pd.concat(item.table["method"] for item in trends.breakdowns))
    return open_template(
        "trends.html.j2", package="sentiflow.shares", autoescape=True, lstrip_blocks=True
    ).render(
        name=name,
        created=created,
        conclusions=conclusions,
        min_labelled=MIN_LABELLED,
        is_by_hand=bool(settings.labels),
        time_zone=settings.time_zone,
        model=model,
        corpus=corpus,
        trends=trends,
        focus=focus,
        shares=Section("Shares", _mark(trends.whole, trends.whole["class"])),
        is_corrected=trends.method != UNCORRECTED,
        sections=[
            _list_groups(item, item.of(focus), float(trends.whole["share"][focus]))
            for item in trends.breakdowns[1:]
        ],
        methods={name: text for name, text in METHODS.items() if name in methods},
        plots={file: base64.b64encode(image).decode() for file, image in plots.items()},
    )


def _list_groups(item: Breakdown, lines: pd.DataFrame, reference: float) -> Section:
    """List the groups with the highest shares, or the last periods."""
    names = lines["group"]
    if item.unit:
        periods = lines["period"].map(lambda period: write_period(period, item.unit))
        names = names + ", " + periods if item.has_groups else periods
    lines = _mark(lines, names, reference)
    highest = lines.sort_values("share", ascending=False, kind="stable")
    shown = lines.tail(MAX_ROWS) if item.unit else highest.head(MAX_ROWS)
    return Section(
        f"By {item.by.replace(', ', ' and ')}",
        shown,
        num_left_out=len(lines) - len(shown),
        reference=reference,
        is_open=len(shown) <= MAX_OPEN or "," not in item.by,
    )


def _mark(lines: pd.DataFrame, names: pd.Series, reference: float = 0) -> pd.DataFrame:
    is_higher = (lines["p_adjusted"] < SURE) & (lines["share"] > reference)
    is_corrected = lines["method"] != UNCORRECTED
    return lines.assign(
        name=names, is_corrected=is_corrected, is_higher=is_higher, is_known=~tells_nothing(lines)
    )
