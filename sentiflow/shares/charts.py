"""Shares -> plots, as PNG on white."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentiflow.errors import shorten
from sentiflow.metrics.shares import CORRECTED, COUNTED
from sentiflow.plotting import BLUE, GRAY, INK, ORANGE, PLOT_STYLE, percent, to_png
from sentiflow.shares.page import choose_class, tells_nothing, write_period
from sentiflow.shares.table import Breakdown, Trends

MAX_BARS, MAX_PANELS = 30, 12
"""Groups and panels that are drawn, the largest."""
_COLORS = (ORANGE, BLUE, GRAY, "#009e73")
_STYLES = ("-", "--", "-.", ":")
"""Of the classes that are drawn."""
_MAX_NAME, _WIDTH = 24, 6.4
"""Characters; inches."""


def render(trends: Trends) -> dict[str, bytes]:
    """Draw the plots, by file name: ``periods.png``, ``groups.png``, ``groups_by_period.png``."""
    focus, drawn = choose_class(trends), dict[str, Figure]()
    with mpl.rc_context(PLOT_STYLE):
        for item in trends.breakdowns[1:]:
            if item.has_groups and item.unit:
                drawn["groups_by_period.png"] = _draw_panels(trends, item, focus)
            elif item.unit:
                drawn["periods.png"] = _draw_periods(trends, item, focus)
            elif "groups.png" not in drawn:
                drawn["groups.png"] = _draw_groups(trends, item, focus)
        return {name: to_png(figure) for name, figure in drawn.items()}


def _draw_periods(trends: Trends, item: Breakdown, focus: str) -> Figure:
    figure = Figure(figsize=(_WIDTH, 3.4))
    axes = figure.add_subplot(ylabel="Share of the texts")
    others = trends.whole.drop(focus).sort_values("share", ascending=False, kind="stable")
    for name, color, style in zip([focus, *others.index], _COLORS, _STYLES, strict=False):
        _draw_line(axes, item.of(name), color, style, name)
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    _finish_times(axes, item, 6 if item.unit != "hour" else 4)
    return figure


def _known(lines: pd.DataFrame) -> pd.DataFrame:
    """Take out shares whose interval tells nothing."""
    return lines.assign(**lines[["share", "low", "high"]].mask(tells_nothing(lines)))


def _draw_line(axes: Axes, line: pd.DataFrame, color: str, style: str, name: str = "") -> None:
    """Draw shares with their intervals, and a gap where an interval tells nothing."""
    line = _known(line)
    axes.fill_between(
        line["period"], line["low"], line["high"], color=color, alpha=0.15, linewidth=0
    )
    marker = "o" if len(line) <= 40 else ""
    axes.plot(
        line["period"], line["share"], style, color=color, marker=marker, markersize=3, label=name
    )


def _finish_times(axes: Axes, item: Breakdown, most: int) -> None:
    """Mark some of the periods, and limit the shares to those that there can be."""
    periods = item.table["period"].drop_duplicates().sort_values()
    marked = periods[:: -(-len(periods) // most)]
    axes.set_xticks(marked, [write_period(period, item.unit) for period in marked])
    axes.yaxis.set_major_formatter(percent)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], -0.01), top=min(axes.get_ylim()[1], 1.01))


def _draw_groups(trends: Trends, item: Breakdown, focus: str) -> Figure:
    """Draw a bar for each of the largest groups, the highest share first."""
    largest = item.of(focus).nlargest(MAX_BARS, "rows")
    chosen = _known(largest.sort_values("share", ascending=False, kind="stable"))
    figure = Figure(figsize=(_WIDTH, 1.1 + 0.34 * len(chosen)))
    axes = figure.add_subplot(xlabel=f"Share of {focus}")
    share, place = chosen["share"], np.arange(len(chosen))
    axes.barh(place, share, color=BLUE, alpha=0.35, height=0.7)
    reach = np.maximum(np.stack([share - chosen["low"], chosen["high"] - share]), 0)
    name = COUNTED if (chosen["method"] == COUNTED).all() else CORRECTED
    axes.errorbar(share, place, xerr=reach, fmt="o", color=BLUE, markersize=4, label=name)
    axes.plot(chosen["predicted_share"], place, "d", color=ORANGE, markersize=5, label="predicted")
    axes.axvline(trends.whole["share"][focus], color=GRAY, linestyle="--", linewidth=1)
    axes.set_yticks(place, [shorten(name, _MAX_NAME) for name in chosen["group"]])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(percent)
    axes.set_xlim(left=0)
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _draw_panels(trends: Trends, item: Breakdown, focus: str) -> Figure:
    """Draw a small plot for each of the largest groups, with the line of all rows behind it."""
    line = item.of(focus)
    chosen = line.groupby("group")["rows"].sum().nlargest(MAX_PANELS).index
    columns = min(3, len(chosen))
    lines = -(-len(chosen) // columns)
    figure = Figure(figsize=(_WIDTH, 0.6 + 1.7 * lines))
    panels = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat)
    (every,) = (one.of(focus) for one in trends.breakdowns if one.unit and not one.has_groups)
    for axes, name in zip(panels, chosen, strict=False):
        axes.plot(every["period"], every["share"], color=GRAY, linewidth=1)
        _draw_line(axes, line[line["group"] == name], BLUE, "-")
        axes.set_title(shorten(name, _MAX_NAME), fontsize=10, color=INK)
    for axes in panels[: len(chosen)]:  # the panels share a limit, that of all lines
        _finish_times(axes, item, 2)
        axes.tick_params(labelsize=8)
        axes.tick_params(axis="x", labelbottom=True)
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
    figure.supylabel(f"Share of {focus}", fontsize=10)
    return figure
