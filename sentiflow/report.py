"""Figures -> plots and one self-contained HTML page."""

import base64
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from string import Formatter
from typing import Any

import jinja2
import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sentiflow.metrics import Figures, reliability_bins, wilson_interval
from sentiflow.schema import LABEL_NAMES, NEGATIVE, POSITIVE
from sentiflow.settings import flatten

BLUE, ORANGE, GRAY, INK = "#0072b2", "#d55e00", "#8a9099", "#23282f"
"""Okabe and Ito's blue and vermilion, which the color-blind tell apart, and two neutrals."""

BLUES = LinearSegmentedColormap.from_list("blues", ["#eef4f9", "#6aaed6"])
"""Shades on which ``INK`` stays readable."""

LABEL_STYLES: tuple[tuple[int, dict[str, Any]], ...] = (
    (NEGATIVE, {"color": ORANGE, "linestyle": "--"}),
    (POSITIVE, {"color": BLUE, "linestyle": "-"}),
)

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
    "xtick.color": INK,
    "ytick.color": INK,
}

MAX_CURVE_POINTS = 2000
"""More points than a plot can show; drawing a million takes seconds."""


@dataclass(frozen=True)
class ReportData:
    """Everything that one report shows; texts in it are not trusted."""

    name: str
    """Of the experiment."""

    created: str
    """ISO 8601 time."""

    figures: dict[str, Figures]
    """``metrics.binary_figures`` by name of the split."""

    predictions: pd.DataFrame
    """Labelled rows: ``split``, ``label``, ``probability`` (of positive), ``prediction``."""

    curve: pd.DataFrame | None
    """A row an epoch: ``epoch``, ``train_loss``, ``validation_loss``, ``validation_accuracy``."""

    counts: dict[str, int]
    """Rows by what became of them, in the order to show."""

    settings: dict[str, Any]
    """Nested, as resolved."""

    lineage: list[tuple[str, str, str]]
    """What, its URI and its fingerprint, from the CSV to the predictions."""

    versions: dict[str, str]
    """Of the libraries used."""

    @property
    def split(self) -> str:
        """Name the split that headline and plots are about: test, or else the last."""
        return "test" if "test" in self.figures else next(reversed(self.figures), "")

    @property
    def epochs(self) -> pd.DataFrame:
        """Return the curve; one without rows if there is none."""
        return pd.DataFrame() if self.curve is None else self.curve


def render_plots(data: ReportData) -> dict[str, bytes]:
    """Draw the headline split's PNG images, by file name, on white.

    ``training_curve.png`` needs a curve; ``roc.png`` and ``precision_recall.png`` need both
    classes in the split; the others need labelled rows. What cannot be drawn is left out. The
    same data and the same matplotlib give the same bytes.
    """
    label, probability = _label_and_probability(data)
    drawn: dict[str, Figure] = {}
    with mpl.rc_context(PLOT_STYLE):
        if len(data.epochs):
            drawn["training_curve.png"] = _draw_training_curve(data.epochs)
        if len(label):
            figures = data.figures[data.split]
            drawn["confusion.png"] = _draw_confusion(figures)
            if len(np.unique(label)) == 2:
                drawn["roc.png"] = _draw_roc(label, probability, figures)
                drawn["precision_recall.png"] = _draw_precision_recall(label, probability, figures)
            drawn["reliability.png"] = _draw_reliability(label, probability)
            drawn["probabilities.png"] = _draw_probabilities(label, probability)
        return {file: _png(figure) for file, figure in drawn.items()}


def render_training_curve(history: Sequence[dict[str, Any]]) -> bytes:
    """Draw loss and accuracy by epoch, as PNG."""
    with mpl.rc_context(PLOT_STYLE):
        return _png(_draw_training_curve(pd.DataFrame(history).astype(float)))


def render_page(data: ReportData, plots: dict[str, bytes]) -> str:
    """Write one HTML page with everything inside: styles, images, no scripts.

    A content security policy in it forbids scripts and any use of the network. ``plots`` are
    those of ``render_plots``; the page does without those that are absent.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sentiflow"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["fill"] = _fill
    environment.filters["readable_time"] = _readable_time
    return environment.get_template("report.html.j2").render(
        data=data,
        figures=data.figures.get(data.split, {}),
        splits=sorted(data.figures, key=lambda split: split != data.split),
        headline=_headline(data),
        curve=data.epochs.to_dict("records"),
        facts=_facts(data),
        plots={file: base64.b64encode(image).decode() for file, image in plots.items()},
        settings=_list_settings(data.settings),
    )


def _headline(data: ReportData) -> dict[str, Any] | None:
    """Set the accuracy beside that of one answer for every text; None without labelled rows."""
    figures: dict[str, Any] = data.figures.get(data.split, {})
    if not figures.get("num_rows"):
        return None
    positive_fraction = figures["positive_fraction"]
    usual = POSITIVE if positive_fraction >= 0.5 else NEGATIVE
    return {
        "num_right": figures["true_positive"] + figures["true_negative"],
        "usual_label": LABEL_NAMES[usual],
        "usual_fraction": max(positive_fraction, 1 - positive_fraction),
    }


def _facts(data: ReportData) -> dict[str, Any]:
    """Collect the numbers that alternative texts need and the figures do not hold."""
    label, probability = _label_and_probability(data)
    bins = reliability_bins(label=label, probability=probability)
    return {
        "bins": bins[bins["num_rows"] > 0].to_dict("records"),
        "medians": [
            (LABEL_NAMES[value], float(np.median(probability[label == value])))
            for value in np.unique(label)
        ],
    }


def _label_and_probability(data: ReportData) -> tuple[np.ndarray, np.ndarray]:
    """Take both columns of the headline split."""
    rows = data.predictions[data.predictions["split"] == data.split]
    return rows["label"].to_numpy(dtype=np.int64), rows["probability"].to_numpy(dtype=np.float64)


def _fill(form: str, figures: Figures) -> str:
    """Format ``figures`` into ``form``; a dash where one that it names is undefined."""
    names = [name for _, name, _, _ in Formatter().parse(form) if name]
    return "—" if any(figures[name] is None for name in names) else form.format(**figures)


def _list_settings(settings: dict[str, Any]) -> list[tuple[str, str]]:
    """List settings by dotted key, as the command line takes them."""
    return [
        (key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
        for key, value in flatten(settings).items()
    ]


def _readable_time(created: str) -> str:
    time = datetime.fromisoformat(created)
    if time.tzinfo is None:
        return f"{time:%Y-%m-%d %H:%M}"
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _draw_training_curve(curve: pd.DataFrame) -> Figure:
    figure = Figure(figsize=(4.4, 4.4))
    losses, accuracies = figure.subplots(2, 1, sharex=True)
    epoch = curve["epoch"]
    losses.plot(epoch, curve["train_loss"], "o--", color=GRAY, label="train", markersize=4)
    losses.plot(epoch, curve["validation_loss"], "o-", color=BLUE, label="validation", markersize=4)
    losses.set(ylabel="Loss")
    losses.legend()
    accuracies.plot(epoch, curve["validation_accuracy"], "o-", color=BLUE, markersize=4)
    accuracies.set(xlabel="Epoch", ylabel="Validation accuracy")
    accuracies.set_xlim(epoch.min() - 0.3, epoch.max() + 0.3)
    accuracies.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    accuracies.yaxis.set_major_formatter(_percent)
    figure.align_ylabels()
    return figure


def _draw_confusion(figures: dict[str, Any]) -> Figure:
    counts = np.array(
        [
            [figures["true_negative"], figures["false_positive"]],
            [figures["false_negative"], figures["true_positive"]],
        ]
    )
    of_label = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(4.4, 3.6))
    axes = figure.subplots()
    axes.imshow(of_label, cmap=BLUES, vmin=0, vmax=1, aspect="auto")
    for (row, column), share in np.ndenumerate(of_label):
        count = f"{counts[row, column]:,}"
        axes.text(column, row, count, ha="center", va="bottom", fontsize=15)
        axes.text(column, row + 0.06, f"{share:.1%}", ha="center", va="top")
    names = [LABEL_NAMES[NEGATIVE], LABEL_NAMES[POSITIVE]]
    axes.set_xticks([0, 1], names)
    axes.set_yticks([0, 1], names, rotation=90, va="center")
    axes.set(xlabel="Prediction", ylabel="Label")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.axhline(0.5, color="white", linewidth=3)
    axes.axvline(0.5, color="white", linewidth=3)
    return figure


def _draw_roc(label: np.ndarray, probability: np.ndarray, figures: dict[str, Any]) -> Figure:
    from sklearn.metrics import roc_curve

    false_rate, true_rate, _ = roc_curve(label, probability)
    figure, axes = _unit_square("False positive rate", "True positive rate")
    axes.plot([0, 1], [0, 1], "--", color=GRAY, linewidth=1)
    axes.plot(_thinned(false_rate), _thinned(true_rate), color=BLUE)
    negatives = figures["false_positive"] + figures["true_negative"]
    axes.plot(figures["false_positive"] / negatives, figures["recall_positive"], "o", color=INK)
    axes.text(0.97, 0.06, f"AUC {figures['roc_auc']:.4f}", ha="right")
    return figure


def _draw_precision_recall(
    label: np.ndarray, probability: np.ndarray, figures: dict[str, Any]
) -> Figure:
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(label, probability)
    figure, axes = _unit_square("Recall of positive", "Precision of positive")
    axes.axhline(figures["positive_fraction"], linestyle="--", color=GRAY, linewidth=1)
    axes.plot(_thinned(recall), _thinned(precision), color=BLUE, drawstyle="steps-post")
    if figures["precision_positive"] is not None:
        axes.plot(figures["recall_positive"], figures["precision_positive"], "o", color=INK)
    axes.text(0.03, 0.06, f"Average precision {figures['average_precision']:.4f}")
    return figure


def _draw_reliability(label: np.ndarray, probability: np.ndarray) -> Figure:
    bins = reliability_bins(label=label, probability=probability)
    bins = bins[bins["num_rows"] > 0]
    share = bins["positive_fraction"].to_numpy()
    intervals = [
        wilson_interval(round(total * part), total)
        for total, part in zip(bins["num_rows"], share, strict=True)
    ]
    reach = np.abs(np.array(intervals).T - share)
    figure, axes = _unit_square("Mean probability of positive", "Share that is positive")
    axes.plot([0, 1], [0, 1], "--", color=GRAY, linewidth=1)
    axes.errorbar(bins["mean_probability"], share, yerr=reach, fmt="o-", color=BLUE, markersize=4)
    return figure


def _draw_probabilities(label: np.ndarray, probability: np.ndarray) -> Figure:
    figure = Figure(figsize=(4.4, 3.6))
    axes = figure.subplots()
    for value, style in LABEL_STYLES:
        of_label = probability[label == value]
        if not len(of_label):
            continue
        counts, edges = np.histogram(of_label, bins=40, range=(0, 1))
        axes.stairs(counts / len(of_label), edges, fill=True, alpha=0.15, color=style["color"])
        axes.stairs(counts / len(of_label), edges, label=LABEL_NAMES[value], **style)
    axes.set(xlim=(0, 1), xlabel="Probability of positive", ylabel="Share of texts with the label")
    axes.yaxis.set_major_formatter(_percent)
    axes.legend(loc="upper center")
    return figure


def _unit_square(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.4, 3.6))
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=xlabel, ylabel=ylabel)
    return figure, axes


def _percent(share: float, _: float) -> str:
    return f"{100 * share:.4g}%"


def _thinned(points: np.ndarray) -> np.ndarray:
    """Keep at most ``MAX_CURVE_POINTS`` at equal steps, first and last among them."""
    num_points = min(len(points), MAX_CURVE_POINTS)
    return points[np.linspace(0, len(points) - 1, num_points).round().astype(int)]


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
