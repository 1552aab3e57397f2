"""Measurements -> plots, as PNG on white."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sentiflow.data.schema import BINARY, LABEL_NAMES, NEGATIVE, POSITIVE
from sentiflow.evaluation.evaluated_rows import predicted_of
from sentiflow.evaluation.results import AnsweredMetrics, Measurements, before_calibration
from sentiflow.evaluation.slices import LengthCount
from sentiflow.metrics.calibration import reliability_bins
from sentiflow.metrics.classification import Metrics
from sentiflow.metrics.confidence import Calibration, CoveragePoint
from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.predicted import Predicted
from sentiflow.plotting import (
    BLUE,
    GRAY,
    INK,
    ORANGE,
    PLOT_STYLE,
    draw_training_curve,
    percent,
    to_png,
)

BLUES = LinearSegmentedColormap.from_list("blues", ["#eef4f9", "#6aaed6"])
"""Shades on which ``INK`` stays readable."""

MAX_COUNTS = 5
"""With more classes than these, the confusion matrix shows percentages alone."""

LINES = ("-", "--", "-.", ":")

LABEL_STYLES = ((NEGATIVE, ORANGE, "--"), (POSITIVE, BLUE, "-"))


def render(measured: Measurements, rows: pa.Table, curve: pd.DataFrame) -> dict[str, bytes]:
    """Draw the plots of the headline split, by file name.

    ``training_curve.png`` needs a curve; ``roc.png`` and ``precision_recall.png`` need two classes
    that occur; the latter and ``probabilities.png`` are those of a model of negative and positive;
    ``lengths.png`` needs texts. The same data and the same matplotlib give the same bytes.

    Args:
        measured: The measurements of the same rows.
        rows: N rows of the split, as ``evaluated_rows.read`` returns them.
        curve: A row an epoch: ``epoch``, ``train_loss``, ``validation_loss``,
            ``validation_accuracy``; may be empty.
    """
    predicted, metrics = predicted_of(rows), measured.metrics
    label, positive = predicted.label, predicted.positive.astype(np.float64)
    drawn: dict[str, Figure] = {}
    with mpl.rc_context(PLOT_STYLE):
        if len(curve):
            drawn["training_curve.png"] = draw_training_curve(curve)
        drawn["confusion.png"] = _draw_confusion(metrics)
        if len(np.unique(label)) > 1:
            drawn["roc.png"] = _draw_roc(predicted, metrics)
        if metrics.is_binary:
            if len(np.unique(label)) > 1:
                drawn["precision_recall.png"] = _draw_precision_recall(label, positive, metrics)
            drawn["probabilities.png"] = _draw_probabilities(label, positive)
        drawn["reliability.png"] = _draw_reliability(predicted, _before(measured, rows))
        drawn["coverage.png"] = _draw_coverage(measured.coverage, measured.neutral)
        if measured.lengths:
            drawn["lengths.png"] = _draw_lengths(measured.lengths)
        return {file: to_png(figure) for file, figure in drawn.items()}


def _before(measured: Measurements, rows: pa.Table) -> Predicted | None:
    """Return the predictions without the model's calibration; None if it has none."""
    fitted = Calibration.read(measured.calibration or {}, measured.classes)
    return before_calibration(rows, fitted) if fitted and fitted != Calibration() else None


def _draw_confusion(metrics: Metrics) -> Figure:
    names = list(metrics.confusion)
    counts = np.array([list(row.values()) for row in metrics.confusion.values()])
    of_label = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = _axes(xlabel="Prediction", ylabel="Label")
    axes.imshow(of_label, cmap=BLUES, vmin=0, vmax=1, aspect="auto")
    is_small = len(names) > MAX_COUNTS
    for (row, column), share in np.ndenumerate(of_label):
        if is_small:
            axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7)
            continue
        size = 15 if len(names) == 2 else 11
        count = f"{counts[row, column]:,}"
        axes.text(column, row, count, ha="center", va="bottom", fontsize=size)
        axes.text(column, row + 0.06, f"{share:.1%}", ha="center", va="top", fontsize=size * 2 / 3)
    short = [textwrap.shorten(name, 14, placeholder="…") for name in names]
    axes.set_xticks(range(len(names)), short)
    axes.set_yticks(range(len(names)), short, rotation=90, va="center")
    if len(names) > 3:
        axes.tick_params(axis="x", rotation=90)
        axes.tick_params(axis="y", rotation=0)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    for edge in range(len(names) - 1):
        axes.axhline(edge + 0.5, color="white", linewidth=1 if is_small else 3)
        axes.axvline(edge + 0.5, color="white", linewidth=1 if is_small else 3)
    return figure


def _draw_roc(predicted: Predicted, metrics: Metrics) -> Figure:
    """Draw the curve of positive; of each class against the others, if there are other classes."""
    from sklearn.metrics import roc_curve

    figure, axes = _unit_square("False positive rate", "True positive rate")
    axes.plot([0, 1], [0, 1], "--", color=GRAY, linewidth=1)
    if metrics.is_binary:
        false_rate, true_rate, _ = roc_curve(predicted.label, predicted.positive)
        axes.plot(false_rate, true_rate, color=BLUE)
        (tn, fp), (fn, tp) = (counts.values() for counts in metrics.confusion.values())
        axes.plot(fp / (fp + tn), tp / (tp + fn), "o", color=INK)
        axes.text(0.97, 0.06, f"AUC {metrics.values['roc_auc']:.4f}", ha="right")
        return figure
    colors = mpl.colormaps["viridis"](np.linspace(0, 0.75, len(predicted.classes)))
    for code, (name, found) in enumerate(metrics.by_class.items()):
        if found.roc_auc is None:
            continue
        rates = roc_curve(predicted.label == code, predicted.probabilities[:, code])[:2]
        short = textwrap.shorten(name, 20, placeholder="…")
        axes.plot(
            *rates, linestyle=LINES[code % len(LINES)], color=colors[code],
            label=f"{short} {found.roc_auc:.3f}",
        )  # fmt: skip
    axes.legend(loc="lower right", title="AUC against the others", fontsize=8)
    return figure


def _draw_precision_recall(label: np.ndarray, probability: np.ndarray, metrics: Metrics) -> Figure:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(label, probability)
    figure, axes = _unit_square("Recall of positive", "Precision of positive")
    axes.axhline(float(label.mean()), linestyle="--", color=GRAY, linewidth=1)
    axes.plot(recall, precision, color=BLUE, drawstyle="steps-post")
    found = metrics.by_class[BINARY[POSITIVE]]
    if found.precision is not None and found.recall is not None:
        axes.plot(found.recall, found.precision, "o", color=INK)
    axes.text(0.03, 0.06, f"Average precision {metrics.values['average_precision']:.4f}")
    return figure


def bin_reliability(predicted: Predicted) -> pd.DataFrame:
    """Bin the probability of positive and the labels; of more classes, the predictions."""
    return reliability_bins(label=predicted.outcome, probability=predicted.probability)


def _draw_reliability(predicted: Predicted, before: Predicted | None) -> Figure:
    titles = ("Probability of the prediction", "Share of right predictions")
    if predicted.is_binary:
        titles = ("Mean probability of positive", "Share of positive labels")
    figure, axes = _unit_square(*titles)
    axes.plot([0, 1], [0, 1], "--", color=GRAY, linewidth=1)
    if before is not None:
        bins = bin_reliability(before)
        axes.plot(
            bins["mean_probability"], bins["positive_fraction"], "o:",
            color=ORANGE, markersize=3, linewidth=1.4, label="before calibration",
        )  # fmt: skip
    bins = bin_reliability(predicted)
    share = bins["positive_fraction"]
    axes.errorbar(
        bins["mean_probability"], share, yerr=_reach(share, bins["num_rows"]), fmt="o-",
        color=BLUE, markersize=4, label="after calibration",
    )  # fmt: skip
    if before is not None:
        figure.legend(loc="outside upper left")
    return figure


def _draw_coverage(curve: Sequence[CoveragePoint], neutral: AnsweredMetrics | None) -> Figure:
    points = pd.DataFrame(map(vars, curve))
    figure, axes = _axes(
        xlim=(1.02, 0), xlabel="Share of texts answered", ylabel="Accuracy of the answers"
    )
    axes.fill_between(
        points["coverage"], points["low"], points["high"], color=BLUE, alpha=0.15, linewidth=0
    )
    axes.plot(points["coverage"], points["accuracy"], "o-", color=BLUE, markersize=3)
    if neutral and neutral.accuracy is not None:
        axes.plot(neutral.coverage, neutral.accuracy, "o", color=INK)
    axes.xaxis.set_major_formatter(percent)
    axes.yaxis.set_major_formatter(percent)
    return figure


def _draw_lengths(by_length: Sequence[LengthCount]) -> Figure:
    """Draw the number of texts of each length, and below it their accuracy."""
    points = pd.DataFrame(map(vars, by_length))
    figure = Figure(figsize=(4.4, 3.6))
    counts, accuracies = figure.subplots(2, 1, sharex=True, height_ratios=(2, 3))
    counts.bar(points["tokens"], points["num_rows"], width=0.9, color=GRAY)
    counts.set(ylabel="Texts")
    counts.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    binned = _bin_lengths(points)
    accuracy = binned["num_right"] / binned["num_rows"]
    accuracies.errorbar(
        binned["tokens"], accuracy, yerr=_reach(accuracy, binned["num_rows"]),
        fmt="o-", color=BLUE, markersize=4,
    )  # fmt: skip
    accuracies.set(xlabel="Tokens", ylabel="Accuracy")
    accuracies.yaxis.set_major_formatter(percent)
    figure.align_ylabels()
    return figure


def _bin_lengths(points: pd.DataFrame) -> pd.DataFrame:
    """Merge neighboring lengths into bins with about a twelfth of the texts each."""
    upto = points["num_rows"].cumsum() - points["num_rows"]
    number = (upto * 12 // points["num_rows"].sum()).astype(int)
    weighted = points.assign(tokens=points["tokens"] * points["num_rows"])
    sums = weighted.groupby(number).sum()
    return sums.assign(tokens=sums["tokens"] / sums["num_rows"])


def _draw_probabilities(label: np.ndarray, probability: np.ndarray) -> Figure:
    figure, axes = _axes(
        xlim=(0, 1), xlabel="Probability of positive", ylabel="Share of texts with the label"
    )
    for value, color, style in LABEL_STYLES:
        of_label = probability[label == value]
        if not len(of_label):
            continue
        counts, edges = np.histogram(of_label, bins=40, range=(0, 1))
        axes.stairs(counts / len(of_label), edges, fill=True, alpha=0.15, color=color)
        axes.stairs(
            counts / len(of_label), edges, label=LABEL_NAMES[value], color=color, linestyle=style
        )
    axes.yaxis.set_major_formatter(percent)
    axes.legend(loc="upper center")
    return figure


def _reach(share: pd.Series, num_rows: pd.Series) -> np.ndarray:
    """Return how far the exact 95 % intervals of shares reach, down and up: ``(2, N)``."""
    counts = zip((share * num_rows).round().astype(int), num_rows, strict=True)
    ends = np.array([share_interval(*each) for each in counts])
    return np.abs(ends.T - share.to_numpy())


def _unit_square(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    return _axes(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=xlabel, ylabel=ylabel)


def _axes(**properties: Any) -> tuple[Figure, Axes]:
    """Make a figure of one plot."""
    figure = Figure(figsize=(4.4, 3.6))
    return figure, figure.add_subplot(**properties)
