"""Training history -> its curve as PNG; the style of all plots."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

BLUE = "#0072b2"
"""Blue of the palette of Okabe and Ito: color-blind people can distinguish it from ``ORANGE``."""
ORANGE = "#d55e00"
"""Vermilion of the same palette."""
GRAY = "#8a9099"
"""Color of axes, and of data that others are compared with."""
INK = "#23282f"
"""Color of texts."""

PLOT_STYLE: Any = {
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "savefig.dpi": 220,
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a word starts no formula
    "xtick.color": INK,
    "ytick.color": INK,
}


def to_curve(history: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Turn a training's history into a table with a row for each epoch; NaN: not measured."""
    names = ["epoch", "train_loss", "validation_loss", "validation_accuracy"]
    return pd.DataFrame(history, columns=names).astype(float).astype({"epoch": int})


def render_training_curve(history: Sequence[Mapping[str, Any]]) -> bytes:
    """Draw loss and accuracy by epoch, as PNG."""
    with mpl.rc_context(PLOT_STYLE):
        return to_png(draw_training_curve(to_curve(history)))


def to_png(figure: Figure) -> bytes:
    """Write a figure as PNG, with the same bytes each time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})  # no version of matplotlib
    return buffer.getvalue()


def draw_training_curve(curve: pd.DataFrame) -> Figure:
    """Draw loss by epoch; if there are validation rows, also accuracy in a plot below."""
    epoch = curve["epoch"]
    has_validation = bool(curve["validation_loss"].notna().any())
    num_plots = 2 if has_validation else 1
    figure = Figure(figsize=(4.4, 2.2 * num_plots))
    axes = figure.subplots(num_plots, 1, sharex=True, squeeze=False)[:, 0]
    axes[0].plot(epoch, curve["train_loss"], "o--", color=GRAY, label="train", markersize=4)
    axes[0].set(ylabel="Loss")
    if has_validation:
        axes[0].plot(
            epoch, curve["validation_loss"], "o-", color=BLUE, label="validation", markersize=4
        )
        axes[1].plot(epoch, curve["validation_accuracy"], "o-", color=BLUE, markersize=4)
        axes[1].set(ylabel="Validation accuracy")
        axes[1].yaxis.set_major_formatter(format_percent)
    axes[0].legend()
    axes[-1].set(xlabel="Epoch", xlim=(epoch.min() - 0.3, epoch.max() + 0.3))
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    figure.align_ylabels()
    return figure


def format_percent(share: float, _: float) -> str:
    """Format a tick of an axis of shares; matplotlib also passes the position of the tick."""
    return f"{100 * share:.4g}%"
