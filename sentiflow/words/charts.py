"""Draws a map of words, and a chart of the bias of word vectors, as PNG."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sentiflow.errors import UserError
from sentiflow.plotting import BLUE, GRAY, INK, ORANGE, PLOT_STYLE, to_png
from sentiflow.words import geometry
from sentiflow.words.word_bias import Association, Direction, Projection, WordBias

_WORDS_ON_A_PAGE = 30
"""Number of words on a map of the usual size; with more words the map is larger."""
_MAX_SCALE = 3
_RINGS = np.array([5, 16, 28, 42])
"""Distances of a label from its point, in typographic points."""
_DIRECTIONS = np.array(
    [(1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)]
)
_DOT = 4.0
"""Half of the width that is kept free for a point, in pixels."""

MAX_AT_AN_END = 30
"""Words drawn at each end of a direction: twice as many stay readable."""

_ON_WHITE: Any = {"facecolor": "white", "edgecolor": "none", "pad": 2}


def draw_map(words: Sequence[str], projection: geometry.Projection) -> bytes:
    """Draw words as labelled points; both axes have the same scale.

    Labels do not cover each other or the points while there is room. A line connects a label with
    a distant point. The same words and the same matplotlib give the same bytes.
    """
    scale = min(np.sqrt(max(1, len(words) / _WORDS_ON_A_PAGE)), _MAX_SCALE)
    names = zip(("First", "Second"), projection.explained, strict=True)
    xlabel, ylabel = (f"{name} principal component ({s:.0%} of the variance)" for name, s in names)
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(6.4 * scale, 4.8 * scale))
        axes = figure.subplots()
        axes.plot(*projection.points.T, "o", color=BLUE, markersize=5)
        axes.margins(0.12)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        figure.draw_without_rendering()
        _label(axes, words, projection.points)
        return to_png(figure)


def _label(axes: Axes, words: Sequence[str], points: np.ndarray) -> None:
    """Put each label at the place around its point where it covers least, the nearest first."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer, dots_per_point = FigureCanvasAgg(figure).get_renderer(), figure.dpi / 72
    offsets = (_RINGS[:, None, None] * _DIRECTIONS).reshape(-1, 2)
    pixels = axes.transData.transform(points)
    taken = np.stack([pixels - _DOT, pixels + _DOT], axis=1)
    for word, point, pixel in zip(words, points, pixels, strict=True):
        label = axes.annotate(word, point, (0, 0), textcoords="offset points", va="bottom")
        label.set_in_layout(False)
        size = np.array(label.get_window_extent(renderer).size) + 1
        corners = dots_per_point * offsets + (np.sign(offsets.round(6)) - 1) / 2 * size
        boxes = np.stack([pixel + corners, pixel + corners + size], axis=1)
        is_outside = (boxes < axes.bbox.min).any((1, 2)) | (boxes > axes.bbox.max).any((1, 2))
        best = int(np.argmin((_cover(boxes, taken) + size.prod() * is_outside).round()))
        label.set_position(tuple(corners[best] / dots_per_point))
        taken = np.concatenate([taken, boxes[[best]]])
        if best >= len(_DIRECTIONS):
            style = {"arrowstyle": "-", "color": GRAY, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3}
            end = tuple(offsets[best])
            axes.annotate("", tuple(point), end, textcoords="offset points", arrowprops=style)


def _cover(boxes: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """Compute the area of (M, 2, 2) taken boxes (lower left, upper right) that each box covers."""
    low = np.maximum(boxes[:, None, 0], taken[:, 0])
    high = np.minimum(boxes[:, None, 1], taken[:, 1])
    return np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)


def draw_bias(bias: WordBias) -> bytes:
    """Draw words on the direction on the left, and effect sizes on the right, as PNG.

    Without known words, or without tests, only the other half is drawn. The same numbers and the
    same matplotlib give the same bytes.

    Raises:
        UserError: There is nothing to draw.
    """
    words = bias.direction.ends(MAX_AT_AN_END) if bias.direction else ()
    widths = [width for width, drawn in ((4.6, words), (6.2, bias.associations)) if drawn]
    if not widths:
        raise UserError("there is nothing to draw", hint="no word is known to the vectors")
    height = max(3.2, 1.2 + 0.19 * len(words), 1.4 + 0.5 * len(bias.associations))
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(sum(widths), height))
        panels = iter(figure.subplots(1, len(widths), squeeze=False, width_ratios=widths).flat)
        if bias.direction and words:
            _draw_direction(next(panels), bias.direction, words)
        if bias.associations:
            _draw_associations(next(panels), bias.associations)
        return to_png(figure)


def _draw_direction(axes: Axes, direction: Direction, words: tuple[Projection, ...]) -> None:
    cosines = np.array([each.cosine for each in words])
    rows = np.arange(len(words))
    colors = np.where(cosines < 0, ORANGE, BLUE)
    axes.hlines(rows, 0, cosines, color=colors, linewidth=1.4)
    axes.scatter(cosines, rows, color=colors, s=22, zorder=3)
    axes.axvline(0, color=GRAY, linewidth=0.8)
    axes.set_yticks(rows, [each.word for each in words], fontsize=9)
    reach = 1.1 * max(0.1, np.abs(cosines).max())
    axes.set(
        xlabel=f"Cosine with the direction from {direction.negative} to {direction.positive}",
        xlim=(-reach, reach),
        ylim=(-0.8, len(words) - 0.2),
    )
    axes.set_title(f"\u2190 {direction.negative}", loc="left", fontsize=11, color=ORANGE)
    axes.set_title(f"{direction.positive} \u2192", loc="right", fontsize=11, color=BLUE)
    _trim(axes)


def _draw_associations(axes: Axes, associations: tuple[Association, ...]) -> None:
    """Draw a line for each test, the first on top; a filled dot means p below 0.05."""
    for row, each in enumerate(associations):
        if each.effect_size is None or each.p_value is None:
            axes.text(0, row, "skipped", size=9, ha="center", va="center", bbox=_ON_WHITE)
            continue
        fill = INK if each.p_value < 0.05 else "white"
        axes.hlines(row, 0, each.effect_size, color=INK, linewidth=1.4)
        axes.plot(each.effect_size, row, "o", color=INK, markerfacecolor=fill, markersize=6)
    axes.axvline(0, color=GRAY, linewidth=0.8, zorder=0)
    axes.set_yticks(
        range(len(associations)), [_describe(each) for each in associations], fontsize=9
    )
    furthest = max((abs(each.effect_size or 0) for each in associations), default=0)
    reach = max(2.1, furthest + 0.1)
    axes.set(xlabel="Effect size d", xlim=(-reach, reach), ylim=(len(associations) - 0.3, -0.7))
    axes.set_title("\u25cf p < 0.05   \u25cb p \u2265 0.05", loc="right", fontsize=10)
    _trim(axes)


def _describe(found: Association) -> str:
    (first, second), (one, other) = found.targets, found.attributes
    return f"{found.name}: {first.name} with {one.name},\n{second.name} with {other.name}"


def _trim(axes: Axes) -> None:
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
