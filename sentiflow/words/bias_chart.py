"""Draws a chart of words on a direction and of association tests, as PNG."""

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sentiflow.errors import UserError
from sentiflow.plotting import BLUE, GRAY, INK, ORANGE, PLOT_STYLE, to_png
from sentiflow.words.word_bias import Association, Direction, Projection, WordBias

MAX_WORDS = 60
"""Number of words that stay readable; if there are more, those at both ends are drawn."""

_LITERAL: Any = {"parse_math": False}
"""A dollar sign in a word does not start a formula."""
_ON_WHITE: Any = {"facecolor": "white", "edgecolor": "none", "pad": 2}


def render(bias: WordBias) -> bytes:
    """Draw words on the direction on the left, and effect sizes on the right, as PNG.

    Without known words, or without tests, only the other half is drawn. The same numbers and the
    same matplotlib give the same bytes.

    Raises:
        UserError: There is nothing to draw.
    """
    words = _choose(bias.direction.projections) if bias.direction else ()
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


def _choose(words: tuple[Projection, ...]) -> tuple[Projection, ...]:
    half = MAX_WORDS // 2
    return words if len(words) <= MAX_WORDS else words[:half] + words[-half:]


def _draw_direction(axes: Axes, direction: Direction, words: tuple[Projection, ...]) -> None:
    cosines = np.array([each.cosine for each in words])
    rows = np.arange(len(words))
    colors = np.where(cosines < 0, ORANGE, BLUE)
    axes.hlines(rows, 0, cosines, color=colors, linewidth=1.4)
    axes.scatter(cosines, rows, color=colors, s=22, zorder=3)
    axes.axvline(0, color=GRAY, linewidth=0.8)
    axes.set_yticks(rows, [each.word for each in words], fontsize=9, **_LITERAL)
    ends = f"from {direction.negative} to {direction.positive}"
    axes.set_xlabel(f"Cosine with the direction {ends}", **_LITERAL)
    axes.set_ylim(-0.8, len(words) - 0.2)
    reach = 1.1 * max(0.1, np.abs(cosines).max())
    axes.set_xlim(-reach, reach)
    axes.set_title(
        f"\u2190 {direction.negative}", loc="left", fontsize=11, color=ORANGE, **_LITERAL
    )
    axes.set_title(f"{direction.positive} \u2192", loc="right", fontsize=11, color=BLUE, **_LITERAL)
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
    axes.set_yticks(range(len(associations)), [_label(each) for each in associations], fontsize=9)
    furthest = max((abs(each.effect_size or 0) for each in associations), default=0)
    reach = max(2.1, furthest + 0.1)
    axes.set(xlabel="Effect size d", xlim=(-reach, reach))
    axes.set_ylim(len(associations) - 0.3, -0.7)
    axes.set_title("\u25cf p < 0.05   \u25cb p \u2265 0.05", loc="right", fontsize=10)
    _trim(axes)


def _label(found: Association) -> str:
    (first, second), (one, other) = found.targets, found.attributes
    return f"{found.name}: {first.name} with {one.name},\n{second.name} with {other.name}"


def _trim(axes: Axes) -> None:
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
