"""Measurements -> plots, as PNG on white."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from sentiflow.config.class_names import set_apart
from sentiflow.data.schema import POSITIVE
from sentiflow.errors import MOST_LISTED, shorten
from sentiflow.evaluation.evaluated_rows import choose_evenly, predicted_of
from sentiflow.evaluation.measurements import Measurements, UnsureMetrics
from sentiflow.evaluation.report import MAX_CONFUSION_CLASSES
from sentiflow.metrics.abstention import CoveragePoint
from sentiflow.metrics.calibration import find_residuals, reliability_bins
from sentiflow.metrics.classification import Metrics
from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.predicted import Predicted
from sentiflow.plotting import (
    BLUE,
    GRAY,
    INK,
    PLOT_STYLE,
    draw_training_curve,
    format_percent,
    to_png,
)

_BLUES = LinearSegmentedColormap.from_list("blues", ["#eef4f9", "#6aaed6"])
"""Shades on which ``INK`` stays readable."""
_MAX_ROC_POINTS = 100_000
"""Maximum number of points of a ROC curve."""
_LINES = ("-", "--", "-.", ":")
"""Styles that tell curves apart without color."""


def render(measured: Measurements, rows: pa.Table, curve: pd.DataFrame) -> dict[str, bytes]:
    """Draw the plots of the headline split, by file name.

    ``training_curve.png`` is drawn if there is a curve, ``roc.png`` if two classes occur. The same
    data and the same matplotlib give the same bytes.

    Args:
        measured: The measurements of the same rows.
        rows: N rows of the split, as ``evaluated_rows.read`` returns them.
        curve: A row for each epoch: ``epoch``, ``train_loss``, ``validation_loss``,
            ``validation_accuracy``; may be empty.
    """
    predicted = predicted_of(rows)
    metrics = measured.metrics
    with mpl.rc_context(PLOT_STYLE):
        drawn = {
            "confusion.png": _draw_confusion(metrics),
            "reliability.png": _draw_reliability(predicted),
            "coverage.png": _draw_coverage(measured.coverage, measured.unsure),
        }
        if len(curve):
            drawn["training_curve.png"] = draw_training_curve(curve)
        if any(area is not None for area in predicted.areas):
            drawn["roc.png"] = _draw_roc(predicted, metrics)
        return {file: to_png(figure) for file, figure in drawn.items()}


def _draw_confusion(metrics: Metrics) -> Figure:
    """Draw, for each label, how its texts are shared among the predictions."""
    from sklearn.metrics import ConfusionMatrixDisplay

    counts = np.array([list(row.values()) for row in metrics.confusion.values()])
    names = list(metrics.confusion)
    figure, axes = _make_axes()
    if metrics.has_many:
        counts, names = _join_best(counts, names, metrics.worst_first[MAX_CONFUSION_CLASSES:])
        figure.set_size_inches(9, 1.5 + 0.26 * len(names))
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    max_length = 14 if len(names) <= MOST_LISTED else 32
    display = ConfusionMatrixDisplay(
        shares, display_labels=[shorten(name, max_length) for name in names]
    )
    display.plot(
        cmap=_BLUES,
        ax=axes,
        colorbar=False,
        values_format=".1%" if len(names) <= 5 else ".0%",
        xticks_rotation="horizontal" if len(names) <= 3 else "vertical",
        text_kw={"color": INK, "fontsize": _choose_font_size(len(names))},
        im_kw={"vmin": 0, "vmax": 1, "aspect": "auto"},
    )
    if metrics.has_many:
        for cell in display.text_[counts == 0]:
            cell.set_text("")
    for cell in display.text_[counts.sum(axis=1) == 0].ravel():
        cell.set_text("")  # no text has the label, so there are no shares
    axes.set(xlabel="Prediction", ylabel="Label")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    edges = np.arange(1, len(names)) - 0.5
    axes.hlines(edges, -0.5, len(names) - 0.5, colors="white")
    axes.vlines(edges, -0.5, len(names) - 0.5, colors="white")
    return figure


def _choose_font_size(num_names: int) -> int:
    """Choose the font size at which the numbers of a confusion matrix fit into its cells."""
    if num_names == 2:
        return 15
    if num_names == 3:
        return 12
    return 8 if num_names <= 5 else 7


def _join_best(
    counts: np.ndarray, names: list[str], best: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Join the best classes of a confusion matrix in one row and one column, the last.

    Args:
        counts: Rows by label and prediction.
        names: The classes, in the order of the counts.
        best: The classes to join.

    Returns:
        The smaller matrix, and its names.
    """
    if not best:
        return counts, names
    joined_name = f"{len(best)} others"
    kept = [name for name in names if name not in best]
    groups = pd.Index([name if name in kept else joined_name for name in names])
    matrix = pd.DataFrame(counts, groups, groups)
    by_label = matrix.groupby(level=0).sum()
    joined = by_label.T.groupby(level=0).sum().T
    order = [*kept, joined_name]
    return joined.loc[order, order].to_numpy(), order


def _draw_roc(predicted: Predicted, metrics: Metrics) -> Figure:
    """Draw a ROC curve for each class.

    Of two classes one is drawn: positive, or else the first. Of many classes, the classes with the
    lowest areas are drawn.
    """
    figure, axes = _make_unit_square("False positive rate", "True positive rate")
    if metrics.is_binary:
        false_positive_rate = 1 - metrics.scalars["recall_negative"]
        axes.plot(false_positive_rate, metrics.scalars["recall_positive"], "o", color=INK)
    areas = {code: area for code, area in enumerate(predicted.areas) if area is not None}
    if len(predicted.classes) == 2:  # the curve of the other class is its mirror image
        shown = [POSITIVE if metrics.is_binary else 0]
        colors: Any = [BLUE]
    else:
        lowest = sorted(areas, key=lambda code: areas[code])[:MOST_LISTED]
        shown = sorted(lowest)
        colors = mpl.colormaps["viridis"](np.linspace(0, 0.75, len(shown)))
    for number, code in enumerate(shown):
        false_positives, true_positives = _find_roc(predicted.column(code), predicted.label == code)
        axes.plot(
            false_positives,
            true_positives,
            linestyle=_LINES[number % len(_LINES)],
            color=colors[number],
            label=f"{set_apart(shorten(predicted.classes[code], 20))} {areas[code]:.4f}",
        )
    axes.legend(loc="lower right", title="AUC", fontsize=8)
    return figure


def _find_roc(probability: np.ndarray, positive: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find points of a ROC curve: the rates of false and of true positives.

    Of many rows, ``_MAX_ROC_POINTS`` thresholds are taken, at equal distances in either rate. The
    curve is then off by less than a pixel.

    Args:
        probability: N probabilities.
        positive: N booleans; some rows are positive, some are not.
    """
    from sklearn.metrics import roc_curve

    if len(probability) <= _MAX_ROC_POINTS:
        false_positives, true_positives, _ = roc_curve(positive, probability)
        return false_positives, true_positives
    of_class = np.sort(probability[positive])
    of_others = np.sort(probability[~positive])
    taken = [
        ranked[choose_evenly(len(ranked), _MAX_ROC_POINTS // 2)] for ranked in (of_class, of_others)
    ]
    thresholds = np.unique(np.concatenate(taken))[::-1]
    false_positives = 1 - np.searchsorted(of_others, thresholds) / len(of_others)
    true_positives = 1 - np.searchsorted(of_class, thresholds) / len(of_class)
    return np.append(0, false_positives), np.append(0, true_positives)


def _draw_reliability(predicted: Predicted) -> Figure:
    """Draw the share of positive labels, or of right predictions, by the predicted probability."""
    if predicted.is_binary:
        figure, axes = _make_unit_square("Mean probability of positive", "Share of positive labels")
    else:
        figure, axes = _make_unit_square(
            "Probability of the prediction", "Share of right predictions"
        )
    bins = reliability_bins(label=predicted.outcome, probability=predicted.probability)
    share = bins["positive_fraction"].to_numpy()
    num_rows = bins["num_rows"].to_numpy()
    factor = predicted.factor(lambda: find_residuals(predicted.outcome, predicted.probability))
    ends = np.stack(share_interval((share * num_rows).round() / factor, num_rows / factor))
    axes.errorbar(
        bins["mean_probability"],
        share,
        yerr=None if predicted.no_interval else np.abs(ends - share),
        fmt="o-",
        color=BLUE,
        markersize=4,
    )
    return figure


def _draw_coverage(curve: Sequence[CoveragePoint], unsure: UnsureMetrics | None) -> Figure:
    """Draw the accuracy by the share of texts answered.

    If the model leaves unsure texts to people, a line marks the accuracy that it is to reach on the
    other texts, and a point the accuracy that it reaches.
    """
    points = pd.DataFrame([vars(point) for point in curve])
    figure, axes = _make_axes(
        xlim=(1.02, 0), xlabel="Share of texts answered", ylabel="Accuracy of the answers"
    )
    coverage = points["coverage"]
    axes.fill_between(coverage, points["low"], points["high"], color=BLUE, alpha=0.15, linewidth=0)
    axes.plot(coverage, points["accuracy"], "o-", color=BLUE, markersize=3)
    if unsure:
        axes.axhline(1 - unsure.max_error, color=GRAY, linestyle="--", linewidth=1)
        if unsure.error is not None:
            axes.plot(1 - unsure.fraction, 1 - unsure.error, "o", color=INK)
    axes.xaxis.set_major_formatter(format_percent)
    axes.yaxis.set_major_formatter(format_percent)
    return figure


def _make_unit_square(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """Make a plot of shares, with a dashed diagonal."""
    figure, axes = _make_axes(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=xlabel, ylabel=ylabel)
    axes.plot((0, 1), (0, 1), "--", color=GRAY, linewidth=1)
    return figure, axes


def _make_axes(**properties: Any) -> tuple[Figure, Axes]:
    """Make a figure of one plot."""
    figure = Figure(figsize=(4.4, 3.6))
    return figure, figure.add_subplot(**properties)
