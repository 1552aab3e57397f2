"""Shares -> plots, as PNG on white."""

import math

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sentiflow.errors import shorten
from sentiflow.metrics.rating_scale import RatingScale
from sentiflow.metrics.shares import CORRECTED, COUNTED, UNCORRECTED
from sentiflow.plotting import BLUE, GRAY, ORANGE, PLOT_STYLE, format_percent, to_png
from sentiflow.shares.breakdowns import Breakdown
from sentiflow.shares.conclusions import tells_nothing
from sentiflow.shares.page import arrange_groups
from sentiflow.shares.table import ShareTable
from sentiflow.shares.wording import write_period

_COLORS = (ORANGE, BLUE, GRAY, "#009e73")
"""Colors of the classes that are drawn."""
_STYLES = ("-", "--", "-.", ":")
"""Line styles of the classes that are drawn."""
_MAX_NAME = 24
"""Maximum number of characters in the name of a group; a longer name is cut."""
_WIDTH = 6.4
"""Width of a plot in inches."""
_MAX_MARKED = 40
"""Maximum number of periods with markers at the points; more markers would hide the line."""
_OFFSETS = {
    "hour": pd.DateOffset(hours=1),
    "day": pd.DateOffset(days=1),
    "week": pd.DateOffset(weeks=1),
    "month": pd.DateOffset(months=1),
}
"""Time from the beginning of a period to the next one, by unit."""
_FREQUENCIES = {"hour": "h", "day": "D", "week": "7D", "month": "MS"}
"""The same, as names of pandas."""
_MAX_TICKS = {"hour": 4, "day": 6, "week": 6, "month": 8}
"""Maximum number of periods that are named on the axis, by unit: as many names have a place."""


def render(trends: ShareTable) -> dict[str, bytes]:
    """Draw the plots, by file name.

    ``periods.png`` is drawn if rows are grouped by time, ``groups.png`` by the first other column.
    Of ordered classes, ``mean_periods.png`` and ``mean_groups.png`` show the mean rating.
    """
    of_means = {}
    if trends.means is not None:
        of_means = {f"mean_{name}": image for name, image in render(trends.means).items()}
    focus = trends.focus
    drawn: dict[str, Figure] = {}
    with mpl.rc_context(PLOT_STYLE):
        for item in trends.breakdowns[1:]:
            if item.unit and not item.has_groups:
                drawn["periods.png"] = _draw_periods(trends, item, focus)
            elif not item.unit and "groups.png" not in drawn:
                drawn["groups.png"] = _draw_groups(trends, item, focus)
        return {name: to_png(figure) for name, figure in drawn.items()} | of_means


def _draw_periods(trends: ShareTable, item: Breakdown, focus: str) -> Figure:
    """Draw lines with their intervals, and a gap where an interval tells nothing or no text is."""
    figure = Figure(figsize=(_WIDTH, 3.4))
    label = "Share of the texts" if trends.scale is None else trends.focus.capitalize()
    axes = figure.add_subplot(ylabel=label)
    others = trends.whole.drop(focus).sort_values("share", ascending=False, kind="stable")
    # There are as many lines as colors: the class in focus, then the largest others.
    for name, color, style in zip([focus, *others.index], _COLORS, _STYLES, strict=False):
        line = _break_line(_prepare(item.of(name), trends.scale), item.unit)
        period = line["period"]
        axes.fill_between(period, line["low"], line["high"], color=color, alpha=0.15, linewidth=0)
        axes.plot(
            period,
            line["share"],
            style,
            color=color,
            marker="o",
            markersize=3,
            markevery=_choose_marked(line["share"]),
            label=name,
        )
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    marked = _choose_ticks(item.table["period"], item.unit)
    axes.set_xticks(marked, [write_period(period, item.unit) for period in marked])
    low, high = axes.get_ylim()
    if trends.scale is None:
        axes.yaxis.set_major_formatter(format_percent)
        axes.set_ylim(bottom=max(low, -0.01), top=min(high, 1.01))
    return figure


def _break_line(lines: pd.DataFrame, unit: str) -> pd.DataFrame:
    """Add a line of NaN after each period that no period with texts follows."""
    lines = lines.sort_values("period")
    following = lines["period"] + _OFFSETS[unit]
    has_gap = lines["period"].shift(-1) > following
    gaps = pd.DataFrame({"period": following[has_gap]})
    return pd.concat([lines, gaps], ignore_index=True).sort_values("period", ignore_index=True)


def _choose_marked(share: pd.Series) -> list[int]:
    """Choose the points with markers: all of few, or those without a neighbor to draw a line to."""
    is_drawn = share.notna()
    if len(share) <= _MAX_MARKED:
        return list(np.flatnonzero(is_drawn))
    has_neighbor = is_drawn.shift(1, fill_value=False) | is_drawn.shift(-1, fill_value=False)
    return list(np.flatnonzero(is_drawn & ~has_neighbor))


def _choose_ticks(periods: pd.Series, unit: str) -> pd.DatetimeIndex:
    """Choose the periods that the axis names: all, every second, and so on, up to the last one.

    Periods without texts count, too, so the distances are equal. The first period is among them if
    a step of at most twice the shortest one allows it.
    """
    every = pd.date_range(periods.min(), periods.max(), freq=_FREQUENCIES[unit])
    num_steps = len(every) - 1
    shortest = max(math.ceil(num_steps / (_MAX_TICKS[unit] - 1)), 1)
    step = shortest
    for longer in range(shortest, 2 * shortest + 1):
        if num_steps % longer == 0:
            step = longer
            break
    return every[num_steps % step :: step]


def _prepare(lines: pd.DataFrame, scale: RatingScale | None) -> pd.DataFrame:
    """Replace shares whose interval tells nothing by NaN, which is not drawn; convert means."""
    shown = lines[["share", "low", "high"]].mask(tells_nothing(lines))
    shown["predicted_share"] = lines["predicted_share"]
    if scale is not None:
        shown = shown.apply(scale.to_rating)
    return lines.assign(**shown)


def _draw_groups(trends: ShareTable, item: Breakdown, focus: str) -> Figure:
    """Draw a bar for each of the largest groups, in the order of the table, and for the others."""
    chosen = arrange_groups(item.of(focus))
    if item.other is not None:
        chosen = pd.concat([chosen, item.other[item.other["class"] == focus]])
    chosen = _prepare(chosen, trends.scale)
    figure = Figure(figsize=(_WIDTH, 1.1 + 0.34 * len(chosen)))
    scale = trends.scale
    axes = figure.add_subplot(xlabel=f"Share of {focus}" if scale is None else focus.capitalize())
    share = chosen["share"]
    place = np.arange(len(chosen))
    if scale is None:
        axes.barh(place, share, color=BLUE, alpha=0.35, height=0.7)
    if trends.method != UNCORRECTED:
        reach = np.maximum(np.stack([share - chosen["low"], chosen["high"] - share]), 0)
        is_counted = (chosen["method"] == COUNTED).all()
        label = COUNTED if is_counted else CORRECTED
        axes.errorbar(share, place, xerr=reach, fmt="o", color=BLUE, markersize=4, label=label)
    is_expected = scale is not None and trends.method == UNCORRECTED
    marked, label = (share, "expected") if is_expected else (chosen["predicted_share"], "predicted")
    axes.plot(marked, place, "d", color=ORANGE, markersize=5, label=label)
    whole = trends.whole["share"][focus]
    if scale is not None:
        whole = scale.to_rating(whole)
    axes.axvline(whole, color=GRAY, linestyle="--", linewidth=1)
    axes.set_yticks(place, [shorten(name, _MAX_NAME) for name in chosen["group"]])
    axes.set_ylim(len(chosen) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    if scale is None:
        axes.xaxis.set_major_formatter(format_percent)
        axes.set_xlim(left=0)
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure
