"""Shares -> plots, as PNG on white."""

import textwrap

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentiflow.metrics.shares import CORRECTED, COUNTED
from sentiflow.plotting import BLUE, GRAY, INK, ORANGE, PLOT_STYLE, percent, to_png
from sentiflow.shares.conclusions import best, choose_class, write_period
from sentiflow.shares.table import Breakdown, Trends

MAX_LINES, MAX_BARS, MAX_PANELS = 4, 30, 12
"""Classes, groups and panels that are drawn, the largest."""
_COLORS = (ORANGE, BLUE, GRAY, "#009e73")
_STYLES = ("-", "--", "-.", ":")
_MAX_NAME, _WIDTH = 24, 6.4
"""Characters; inches."""


def render(trends: Trends) -> dict[str, bytes]:
    """Draw the plots, by file name: ``periods.png``, ``groups.png``, ``groups_by_period.png``."""
    focus, drawn = choose_class(trends), dict[str, Figure]()
    with mpl.rc_context(PLOT_STYLE):
        for item in trends.breakdowns[1:]:
            has_groups, has_periods = item.groups[0] is not None, item.periods[0] is not None
            if has_groups and has_periods:
                drawn["groups_by_period.png"] = _draw_panels(trends, item, focus)
            elif has_periods:
                drawn["periods.png"] = _draw_periods(trends, item, focus)
            elif "groups.png" not in drawn:
                drawn["groups.png"] = _draw_groups(trends, item, focus)
        return {name: to_png(figure) for name, figure in drawn.items()}


def _draw_periods(trends: Trends, item: Breakdown, focus: int) -> Figure:
    figure = Figure(figsize=(_WIDTH, 3.4))
    axes = figure.add_subplot(ylabel="Share of the texts")
    by_size = np.argsort(-best(trends.whole)[0], kind="stable").tolist()
    chosen = [focus, *(at for at in by_size if at != focus)][:MAX_LINES]
    every = np.arange(len(item.periods))
    for number, color, style in zip(chosen, _COLORS, _STYLES, strict=False):
        _draw_line(axes, item, every, number, color, style, trends.classes[number])
    axes.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    _finish_times(axes, item, 6 if item.unit != "hour" else 4)
    return figure


def _draw_line(
    axes: Axes, item: Breakdown, at: np.ndarray, number: int, color: str, style: str, name: str = ""
) -> None:
    times = np.array([item.periods[i] for i in at], "datetime64[us]")
    found = item.shares
    low, high = found.low[at, number], found.high[at, number]
    axes.fill_between(times, low, high, color=color, alpha=0.15, linewidth=0)
    marker = "o" if len(at) <= 40 else ""
    axes.plot(
        times, best(item)[at, number],
        style, color=color, marker=marker, markersize=3, label=name,
    )  # fmt: skip


def _finish_times(axes: Axes, item: Breakdown, most: int) -> None:
    """Mark some of the periods, and limit the shares to those that there can be."""
    periods = sorted({period for period in item.periods if period})
    marked = [periods[at] for at in range(0, len(periods), -(-len(periods) // most))]
    axes.set_xticks(
        np.array(marked, "datetime64[us]"), [write_period(p, item.unit) for p in marked]
    )
    axes.yaxis.set_major_formatter(percent)
    axes.set_ylim(bottom=max(axes.get_ylim()[0], -0.01), top=min(axes.get_ylim()[1], 1.01))


def choose_groups(item: Breakdown, number: int, most: int) -> np.ndarray:
    """Choose the largest groups, the highest share first."""
    largest = np.argsort(-item.shares.rows, kind="stable")[:most]
    return largest[np.argsort(-best(item)[largest, number], kind="stable")]


def _draw_groups(trends: Trends, item: Breakdown, focus: int) -> Figure:
    chosen = choose_groups(item, focus, MAX_BARS)
    figure = Figure(figsize=(_WIDTH, 1.1 + 0.34 * len(chosen)))
    axes = figure.add_subplot(xlabel=f"Share of {trends.classes[focus]}")
    share, place = best(item)[chosen, focus], np.arange(len(chosen))
    axes.barh(place, share, color=BLUE, alpha=0.35, height=0.7)
    low, high = item.shares.low[chosen, focus], item.shares.high[chosen, focus]
    reach = np.maximum(np.stack([share - low, high - share]), 0)
    is_counted = bool((item.shares.method[chosen] == COUNTED).all())
    name = COUNTED if is_counted else CORRECTED
    axes.errorbar(share, place, xerr=reach, fmt="o", color=BLUE, markersize=4, label=name)
    predicted = item.shares.predicted[chosen, focus]
    axes.plot(predicted, place, "d", color=ORANGE, markersize=5, label="predicted")
    axes.axvline(best(trends.whole)[0, focus], color=GRAY, linestyle="--", linewidth=1)
    axes.set_yticks(place, [_shorten(item.groups[at]) for at in chosen])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(percent)
    axes.set_xlim(left=0)
    axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0, 1))
    return figure


def _draw_panels(trends: Trends, item: Breakdown, focus: int) -> Figure:
    """Draw a small plot for each of the largest groups, with the line of all rows behind it."""
    names = np.array(item.groups, dtype=object)
    sizes = {name: item.shares.rows[names == name].sum() for name in dict.fromkeys(item.groups)}
    chosen = sorted(sizes, key=lambda name: -sizes[name])[:MAX_PANELS]
    columns = min(3, len(chosen))
    lines = -(-len(chosen) // columns)
    figure = Figure(figsize=(_WIDTH, 0.6 + 1.7 * lines))
    panels = list(figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flat)
    (every,) = (b for b in trends.breakdowns if b.periods[0] is not None and b.groups[0] is None)
    for axes, name in zip(panels, chosen, strict=False):
        line = np.arange(len(every.periods))
        times = np.array(every.periods, "datetime64[us]")
        axes.plot(times, best(every)[line, focus], color=GRAY, linewidth=1)
        _draw_line(axes, item, np.flatnonzero(names == name), focus, BLUE, "-")
        axes.set_title(_shorten(name), fontsize=10, color=INK)
    for axes in panels[: len(chosen)]:
        _finish_times(axes, item, 2)
        axes.tick_params(labelsize=8)
        axes.tick_params(axis="x", labelbottom=True)
    for axes in panels[len(chosen) :]:
        axes.set_visible(False)
    figure.supylabel(f"Share of {trends.classes[focus]}", fontsize=10)
    return figure


def _shorten(name: str | None) -> str:
    return textwrap.shorten(name or "", _MAX_NAME, placeholder="…")
