"""Words in a plane -> a labelled map of them, as PNG on white."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sentiflow.plotting import BLUE, GRAY, PLOT_STYLE, to_png
from sentiflow.words.geometry import Projection

_WORDS_ON_A_PAGE = 30
"""Of a map of the usual size; one of more words is larger."""
_MAX_SCALE = 3
_RINGS = np.array([5, 16, 28, 42])
"""How far a label may stand from its point, in typographic points."""
_DIRECTIONS = np.array(
    [(1, 0), (-1, 0), (0, 1), (0, -1), (0.7, 0.7), (-0.7, 0.7), (0.7, -0.7), (-0.7, -0.7)]
)
_DOT = 4.0
"""Half of the size that is kept free for a point, in pixels."""
_ON_THE_WAY = np.linspace(0.4, 1, 5)[:, None, None]
"""Places on the line to a label that other labels keep clear of."""


def draw_map(words: Sequence[str], projection: Projection) -> bytes:
    """Draw N words as labelled points; a distance in the picture is the same in all directions.

    Labels keep clear of each other and of the points as long as there is room; one that stands
    away from its point is tied to it by a line. The same words and the same matplotlib give the
    same bytes.
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
    """Put each label to the first place around its point that is free, or to the freest."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer, dots_per_point = FigureCanvasAgg(figure).get_renderer(), figure.dpi / 72
    offsets = dots_per_point * (_RINGS[:, None, None] * _DIRECTIONS).reshape(-1, 2)
    places = axes.transData.transform(points)
    page = _boxes(np.array(axes.bbox.min), np.array(axes.bbox.size))[None]
    taken = _boxes(places - _DOT, 2 * _DOT)
    for row, (word, point) in enumerate(zip(words, points, strict=True)):
        label = axes.annotate(
            word, point, (0, 0), textcoords="offset points", va="bottom", parse_math=False
        )
        label.set_in_layout(False)
        size = np.array(label.get_window_extent(renderer).size)
        corners = offsets + (np.sign(offsets.round(6)) - 1) / 2 * size
        boxes = _boxes(places[row] + corners, size)
        ties = _boxes(places[row] + offsets * _ON_THE_WAY - _DOT / 2, _DOT)
        best = _find_free(boxes, ties, np.delete(taken, row, axis=0), page)
        label.set_position(tuple(corners[best] / dots_per_point))
        taken = np.concatenate([taken, boxes[[best]]])
        if best >= len(_DIRECTIONS):
            taken = np.concatenate([taken, ties[:, best]])
            _tie(axes, point, offsets[best] / dots_per_point)


def _find_free(boxes: np.ndarray, ties: np.ndarray, taken: np.ndarray, page: np.ndarray) -> int:
    """Choose the first of the boxes, with its tie, that covers least and is least off the page."""
    reach = np.stack([boxes[:, 0].min(axis=0), boxes[:, 1].max(axis=0)])[None]
    taken = taken[_overlap(taken, reach)[:, 0] > 0]
    covered = _overlap(boxes, taken).sum(axis=1) + _overlap(ties, taken).sum(axis=(0, 2))
    off_the_page = _overlap(boxes, boxes).max(axis=1) - _overlap(boxes, page)[:, 0]
    return int(np.argmin(np.round(covered + off_the_page)))


def _tie(axes: Axes, point: np.ndarray, offset: np.ndarray) -> None:
    """Draw a line from a point to the label that stands away from it."""
    style = {"arrowstyle": "-", "color": GRAY, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3}
    axes.annotate("", tuple(point), tuple(offset), textcoords="offset points", arrowprops=style)


def _boxes(corners: np.ndarray, size: np.ndarray | float) -> np.ndarray:
    """Give the lower left and the upper right of boxes of a size, (..., 2, 2), in pixels."""
    return np.stack([corners, corners + size], axis=-2)


def _overlap(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Give the area that each box, (..., 2, 2), has in common with each of the (M, 2, 2) others."""
    low = np.maximum(boxes[..., None, 0, :], others[:, 0])
    high = np.minimum(boxes[..., None, 1, :], others[:, 1])
    return np.clip(high - low, 0, None).prod(axis=-1)
