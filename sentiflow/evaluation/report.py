"""Evaluation result -> one self-contained HTML page."""

import base64
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.config.settings import flatten
from sentiflow.config.text_units import TEMPLATE, find_duplicate_key
from sentiflow.errors import MOST_LISTED
from sentiflow.evaluation import slice_search
from sentiflow.evaluation.deciding_words import DecidingWords
from sentiflow.evaluation.evaluated_rows import predicted_of
from sentiflow.evaluation.group_bias import CAVEAT, GroupBias
from sentiflow.evaluation.measurements import Measurements, name_texts
from sentiflow.evaluation.mistakes import KINDS
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.evaluation.origin import Origin
from sentiflow.evaluation.page_templates import open_template, write_setting
from sentiflow.evaluation.result import EvaluationResult
from sentiflow.evaluation.slice_metrics import SliceMetrics
from sentiflow.evaluation.slices import MIN_ROWS
from sentiflow.metrics import paired
from sentiflow.metrics.calibration import reliability_bins
from sentiflow.metrics.registry import CLASS_METRICS, METRICS
from sentiflow.models.explanations import DEEPEST, Explanation

MAX_CONFUSION_CLASSES = 20
"""Maximum number of classes that a confusion matrix shows one by one. Of more classes, it shows
the ones with the lowest F1."""
_MAX_SHOWN = 1000
"""Maximum number of characters of a text on the page; a longer text is cut."""
_STEPS_OF_AXIS = 20
"""Steps of an axis from 0 to 1: each axis of ours begins and ends at a multiple of 0.05."""
_WORDS_OF_MISTAKE = 8
"""Maximum number of words under a mistake."""
_WORDS_OF_CLASS = 12
"""Maximum number of words of a class."""
_MAX_WORDS_IN_SUMMARY = 2
"""Maximum number of words of a class in the summary."""
_MAX_CLASSES_IN_SUMMARY = 3
"""Maximum number of classes whose words are in the summary."""


class Axis(NamedTuple):
    """The axis of the small pictures in a table, such as bars and intervals."""

    low: float
    high: float

    def place(self, value: float) -> str:
        """Return the distance of a value from the left end, as CSS."""
        share = (value - self.low) / (self.high - self.low)
        return f"{100 * np.clip(share, 0, 1):.2f}%"


def render_page(
    result: EvaluationResult,
    plots: Mapping[str, bytes],
    *,
    rows: pa.Table,
    mistakes: pa.Table,
    words: DecidingWords,
    curve: pd.DataFrame,
    origin: Origin,
    num_examples: int,
) -> str:
    """Write one HTML page with everything inside: styles, images, no scripts.

    A content security policy in it forbids scripts and any use of the network. Texts are not
    trusted.

    Args:
        result: The evaluation.
        plots: As ``report_charts.render`` returns them; missing ones are left out.
        rows: Rows of the headline split, as ``evaluated_rows.of_split`` returns them.
        mistakes: Has the columns of ``mistakes.COLUMNS``.
        words: The words that decide, of the mistakes that ``mistakes.choose_shown`` chooses.
        curve: The training curve, as ``report_charts.render`` takes it.
        origin: How the predictions came about.
        num_examples: Mistakes of each kind to show.
    """
    measured = result.measured
    template = open_template("report.html.j2", autoescape=True, lstrip_blocks=True)
    return template.render(
        result=result,
        measured=measured,
        checks=result.checks,
        **_describe_origin(origin),
        **_describe_metrics(measured),
        **_describe_plots(measured, rows, plots),
        **_describe_slices(measured.slices),
        **_describe_mistakes(mistakes, num_examples, words),
        **_describe_words(words),
        **_describe_checks(result.checks),
        curve=curve.astype(object).where(curve.notna(), None).to_dict("records"),
        most_listed=MOST_LISTED,
        unit_axis=Axis(0, 1),
    )


def _describe_origin(origin: Origin) -> dict[str, Any]:
    """Return the fields of the origin, with each setting as a line of key and value."""
    settings = [(key, write_setting(value)) for key, value in flatten(origin.settings).items()]
    near_copies = find_duplicate_key(origin.settings.get("prepare", {})) == TEMPLATE
    return vars(origin) | {"settings": settings, "near_copies": near_copies}


def _describe_metrics(measured: Measurements) -> dict[str, Any]:
    """Choose the metrics, intervals and classes of the headline split; list this split first."""
    split = measured.split
    metrics = measured.metrics
    return {
        "metrics": metrics,
        "registry": METRICS,
        "class_metrics": CLASS_METRICS,
        "intervals": measured.intervals[split],
        "missing": measured.no_intervals[split],
        "calibration_error": measured.calibration_error[split],
        "significance": paired.SIGNIFICANCE,
        "splits": sorted(measured.figures, key=lambda name: name != split),
        "texts": name_texts(split),
        "classes": measured.classes,
        "binary": metrics.is_binary,
        "pairs": metrics.confused_pairs[:MOST_LISTED],
    }


def _describe_plots(
    measured: Measurements, rows: pa.Table, plots: Mapping[str, bytes]
) -> dict[str, Any]:
    """Encode the plots, and return the numbers for the texts beside them."""
    predicted = predicted_of(rows)
    bins = reliability_bins(label=predicted.outcome, probability=predicted.probability)
    return {
        "plots": {file: base64.b64encode(image).decode() for file, image in plots.items()},
        "num_right": predicted.right.sum(),
        "max_confusion_classes": MAX_CONFUSION_CLASSES,
        "bins": bins[["mean_probability", "positive_fraction"]].to_numpy().tolist(),
    }


def _describe_slices(slices: Sequence[SliceMetrics]) -> dict[str, Any]:
    """Group slices under titles; choose an axis that holds every slice of enough rows.

    Enough rows are ``MIN_ROWS``. A slice of all texts, which has no difference from others, is left
    out unless the user named it (``is_own``).
    """
    shown = [item for item in slices if item.is_own or item.difference is not None]
    large = [item for item in slices if item.num_rows >= MIN_ROWS] or slices
    low = min((item.low for item in large), default=0)
    high = max((item.high for item in large), default=1)
    begin = np.floor(_STEPS_OF_AXIS * low) / _STEPS_OF_AXIS
    end = np.ceil(_STEPS_OF_AXIS * high) / _STEPS_OF_AXIS
    by_title = groupby(shown, lambda item: item.group_title)
    return {
        "slice_groups": [(title, list(items)) for title, items in by_title],
        "slice_axis": Axis(begin, end),
        "min_rows": MIN_ROWS,
        "max_searched": slice_search.MAX_ROWS,
    }


def _describe_mistakes(
    mistakes: pa.Table, num_examples: int, words: DecidingWords
) -> dict[str, Any]:
    """List the mistakes by kind, with the words that decide."""
    by_kind = {}
    for kind in KINDS:
        rows = mistakes.filter(pc.equal(mistakes["kind"], kind)).to_pylist()
        for row in rows:
            row["words"] = _choose_words(words.of_mistakes.get((kind, row["row_id"])))
        by_kind[kind] = rows
    return {"mistakes": by_kind, "num_examples": num_examples, "max_shown": _MAX_SHOWN}


def _choose_words(explanation: Explanation | None) -> list[dict[str, Any]]:
    """Choose the words of a mistake with the largest parts; list them in the order of the text."""
    if explanation is None:
        return []
    shades = explanation.list_shades()
    listed = []
    for place in sorted(explanation.find_important(_WORDS_OF_MISTAKE)):
        word = explanation.words[place]
        shade = DEEPEST * abs(shades[place])
        listed.append({"word": word.word, "part": word.part, "shade": shade})
    return listed


def _describe_words(words: DecidingWords) -> dict[str, Any]:
    """List the words that decide most for each class, the deepest color for the largest part."""
    table = words.of_classes.table
    largest = pc.max(table["mean_part"]).as_py() or 1.0
    deciding = []
    for label in pc.unique(table["label"]).to_pylist():
        rows = table.filter(pc.equal(table["label"], label)).slice(0, _WORDS_OF_CLASS).to_pylist()
        parts = []
        for row in rows:
            shade = DEEPEST * row["mean_part"] / largest
            parts.append(
                {
                    "word": row["word"],
                    "part": row["mean_part"],
                    "fraction": row["fraction"],
                    "shade": shade,
                }
            )
        deciding.append((label, parts))
    return {"words": words, "deciding": deciding, "first_words": _choose_first_words(deciding)}


def _choose_first_words(
    deciding: Sequence[tuple[str, list[dict[str, Any]]]],
) -> list[tuple[str, list[dict[str, Any]]]]:
    """Choose the words for the summary, of the classes whose first word is in the most texts.

    Args:
        deciding: The classes in their order, each with its words, the most deciding first.
    """
    largest_first = sorted(deciding, key=lambda item: -item[1][0]["fraction"])
    chosen = [label for label, _ in largest_first[:_MAX_CLASSES_IN_SUMMARY]]
    first_words = []
    for label, parts in deciding:
        if label in chosen:
            first_words.append((label, parts[:_MAX_WORDS_IN_SUMMARY]))
    return first_words


def _describe_checks(checks: ModelChecks) -> dict[str, Any]:
    """Group the behavior tests by kind; choose an axis for the differences between groups."""
    by_kind = groupby(checks.behavior, lambda test: test.kind)
    return {
        "behavior": [(kind, list(tests)) for kind, tests in by_kind],
        "caveat": CAVEAT,
        "group_axis": _choose_group_axis(checks.group_bias),
    }


def _choose_group_axis(group_bias: Sequence[GroupBias]) -> Axis:
    """Choose an axis around 0 that holds the interval of every term."""
    reach = 0.0
    for bias in group_bias:
        for term in bias.terms:
            reach = max(reach, abs(term.low), abs(term.high))
    end = max(1, np.ceil(_STEPS_OF_AXIS * reach)) / _STEPS_OF_AXIS
    return Axis(-end, end)
