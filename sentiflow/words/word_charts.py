"""Words and their points in a plane -> a map of the words, as PNG."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sentiflow.plotting import BLUE, GRAY, PLOT_STYLE, to_png

_RINGS = np.array([5, 16, 28, 42])
"""Distances of a label from its point, in typographic points."""
_DIRECTIONS = np.array(
    [(1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)]
)
"""Directions from a point to its label."""
_DOT = 4.0
"""Half of the width that is kept free for a point, in pixels."""


def draw_map(words: Sequence[str], points: np.ndarray, explained: np.ndarray) -> bytes:
    """Draw words as labelled points, as PNG; both axes have the same scale.

    Labels do not cover each other or the points if there is room. A line connects a label with a
    distant point. The same words and the same matplotlib give the same bytes.

    Args:
        words: N words.
        points: (N, 2), the point of each word.
        explained: (2,), the share of the variance along each axis.
    """
    scale = min(np.sqrt(max(1, len(words) / 30)), 3)  # a larger map for more than 30 words
    first, second = explained
    xlabel = f"First principal component ({first:.0%} of the variance)"
    ylabel = f"Second principal component ({second:.0%} of the variance)"
    with mpl.rc_context(PLOT_STYLE):
        figure = Figure(figsize=(6.4 * scale, 4.8 * scale))
        axes = figure.subplots()
        axes.plot(*points.T, "o", color=BLUE, markersize=5)
        axes.margins(0.12)
        axes.set_aspect("equal", adjustable="datalim")
        axes.set(xlabel=xlabel, ylabel=ylabel)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.yaxis.set_major_locator(MaxNLocator(6))
        figure.draw_without_rendering()
        _draw_labels(axes, words, points)
        return to_png(figure)


def _draw_labels(axes: Axes, words: Sequence[str], points: np.ndarray) -> None:
    """Put each label at the place around its point where it covers least; first the nearest places.

    Shape: (P places around a point, T boxes that are taken)
        - offsets: ``(P, 2)``, from a point to its label, in typographic points.
        - boxes: ``(P, 2, 2)``, the label at each place: lower left and upper right, in pixels.
        - taken: ``(T, 2, 2)``, boxes of points and earlier labels, in the same form.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()
    dots_per_point = figure.dpi / 72
    offsets = (_RINGS[:, None, None] * _DIRECTIONS).reshape(-1, 2)
    pixels = axes.transData.transform(points)
    taken = np.stack([pixels - _DOT, pixels + _DOT], axis=1)
    for word, point, pixel in zip(words, points, pixels, strict=True):
        label = axes.annotate(word, point, (0, 0), textcoords="offset points", va="bottom")
        label.set_in_layout(False)
        size = np.array(label.get_window_extent(renderer).size) + 1
        # a label to the left of its point ends at the offset, one to the right begins there
        shift = (np.sign(offsets.round(6)) - 1) / 2 * size
        corners = dots_per_point * offsets + shift
        boxes = np.stack([pixel + corners, pixel + corners + size], axis=1)
        is_below = (boxes < axes.bbox.min).any((1, 2))
        is_above = (boxes > axes.bbox.max).any((1, 2))
        is_outside = is_below | is_above
        low = np.maximum(boxes[:, None, 0], taken[:, 0])
        high = np.minimum(boxes[:, None, 1], taken[:, 1])
        covered = np.clip(high - low, 0, None).prod(axis=2).sum(axis=1)
        costs = covered + size.prod() * is_outside
        best = int(np.argmin(costs.round()))
        label.set_position(tuple(corners[best] / dots_per_point))
        taken = np.concatenate([taken, boxes[[best]]])
        if best >= len(_DIRECTIONS):  # beyond the first ring
            line = {"arrowstyle": "-", "color": GRAY, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3}
            end = tuple(offsets[best])
            axes.annotate("", tuple(point), end, textcoords="offset points", arrowprops=line)
