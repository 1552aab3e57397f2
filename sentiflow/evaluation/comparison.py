"""Two runs, named by the user -> a comparison of their models on the same test rows."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from sentiflow.config.class_names import set_apart
from sentiflow.config.sections import Headline
from sentiflow.config.text_units import find_unit
from sentiflow.data import input_files, lineage
from sentiflow.data.manifest_types import Settings
from sentiflow.errors import ReplacedError, UserError, few
from sentiflow.evaluation import common_rows, scored_runs, slices, text_traits
from sentiflow.evaluation.regression import Check, Regression, find_regression
from sentiflow.evaluation.scored_runs import Pair
from sentiflow.evaluation.setting_differences import Setting, compare_settings
from sentiflow.metrics import paired
from sentiflow.metrics.classification import measure
from sentiflow.metrics.macro_f1 import macro_f1, macro_f1_of_labelled
from sentiflow.metrics.one_vs_rest import OneVsRest
from sentiflow.metrics.predicted import Predicted, count_confusion
from sentiflow.metrics.registry import METRICS, find_metric
from sentiflow.progress import Steps

METRIC_NAMES = {
    metric.name: metric.title if metric.higher_is_better else f"{metric.title} *"
    for metric in METRICS
    if metric.difference
}
"""Titles of the compared metrics by name; a star means that a lower value is better."""
_STEPS = Steps(
    "compare",
    read="reading the predictions of both runs",
    measure="comparing the predictions",
    slices="comparing the slices",
)
_CHECKED = {"accuracy": "accuracy", "f1_macro": "macro F1", "quadratic_kappa": "quadratic kappa"}
"""Metrics that decide whether a model is worse, each with the name of its check. The last one is of
ordered classes only."""


@dataclass(frozen=True)
class MetricDifferences:
    """How two models differ on the same rows: the second's metric minus the first's."""

    accuracy: paired.Difference
    differences: dict[str, paired.Difference | None]
    """By the names in ``METRIC_NAMES``; None where it is undefined."""
    mcnemar: paired.McNemar


@dataclass(frozen=True)
class SliceDifference:
    """Two models in one slice of the rows."""

    name: str
    about: str
    """What its texts have in common, where the name does not say it."""
    num_rows: int
    accuracy_first: float
    accuracy_second: float
    difference: paired.Difference
    """Difference of accuracy; its p-value is for this slice alone."""
    p_adjusted: float
    """The p-value, adjusted for the number of slices by ``paired.adjust``."""
    moved: bool
    """Whether ``p_adjusted`` is below ``paired.SIGNIFICANCE``."""
    is_own: bool = False
    """Whether it is user-defined, by a pattern or a column."""
    f1_macro_first: float | None = None
    """Macro F1 of the first model in the slice."""
    f1_macro_second: float | None = None


@dataclass(frozen=True)
class ComparedModel:
    """One of the two models."""

    name: str
    """As the user wrote it."""
    scored_uri: str
    """The scored directory, or the file of predictions."""
    model_uri: str
    """The model package, or the file of predictions."""
    fingerprint: str
    """Fingerprint of the model package, or of the file of predictions."""
    about: str
    """The settings of its network in brief; or what a file of predictions holds."""
    figures: dict[str, Any]
    """Its metrics, as ``metrics.json`` has them."""
    num_rows_only_here: int
    """Labelled rows of the split that the other model has no prediction for in this split."""
    num_rows_seen: int
    """Test rows of the other model that are in this model's training or validation split. They are
    not compared."""
    num_rows_labelled: int
    """Labelled rows of the split in its run, compared or not."""


@dataclass(frozen=True)
class Comparison:
    """Two models on the same rows; every difference is the second's metric minus the first's.

    ``dataclasses.asdict`` of it is JSON.
    """

    first: ComparedModel
    second: ComparedModel
    split: str
    """``test``; ``all`` for a corpus without splits."""
    num_rows: int
    differences: dict[str, paired.Difference | None]
    """By the names in ``METRIC_NAMES``; None where it is undefined."""
    mcnemar: paired.McNemar
    slices: list[SliceDifference]
    """By adjusted p-value; empty without texts."""
    settings: list[Setting] | None
    """By key; None if a training's manifest is gone."""
    notes: list[str]
    """What a reader should know first."""
    verdict: str
    regression: Regression | None = None
    """Whether the second is worse; None unless it was asked for."""
    num_authors: int = 0
    """Authors of the rows, where these are whole authors whose names were kept: intervals and tests
    are by author. Otherwise 0."""
    joined_by: str = "row_id"
    """By what the rows of the runs are joined: ``row_id``; ``text`` if they have different
    files."""
    headline: str = "accuracy"
    """The metric by which the verdict judges."""
    f1_macro_note: str = ""
    """Which classes are only predicted, and both macro F1 without them; empty: none is."""


def compare(
    first: str,
    second: str,
    *,
    patterns: Mapping[str, str] | None = None,
    columns: Sequence[str] = (),
    margin: float | None = None,
    headline: str = "accuracy",
) -> Comparison:
    """Compare the models of two runs on their common test rows, which neither was trained on.

    Slices depend on the first model's tokenizer. There are no slices by unknown tokens, as the
    models know different tokens.

    Args:
        first: A scored directory, or a directory with ``scored/`` in it. One of the two models may
            be a file of predictions instead.
        second: The same for the second model.
        patterns: User-defined slices: a regular expression (RE2) by name.
        columns: User-defined slices: columns of the first run, each value a slice.
        margin: Largest accepted drop, from 0 to 1. If given, the result says whether the second
            model is worse by more than this.
        headline: The metric by which the verdict judges, as ``evaluate.headline``; with a margin it
            is also a check.

    Raises:
        UserError: The headline is unknown or undefined for the runs, a run has no predictions, or
            the two cannot be compared.
        ReplacedError: A run was replaced again and again while it was read.
    """
    if headline not in get_args(Headline):
        raise UserError(
            f"headline {headline!r} is unknown", hint=f"name one of {', '.join(get_args(Headline))}"
        )
    compare_pair = functools.partial(
        _compare_pair, patterns=patterns or {}, columns=columns, margin=margin, headline=headline
    )
    with _STEPS.show("read"):
        pair = scored_runs.find_pair(first, second)
    try:
        return compare_pair(pair)
    except (OSError, ValueError, UserError, ReplacedError):
        if not scored_runs.was_replaced(pair):
            raise
    return compare_pair(scored_runs.find_pair(first, second))


def _compare_pair(
    pair: Pair,
    *,
    patterns: Mapping[str, str],
    columns: Sequence[str],
    margin: float | None,
    headline: str,
) -> Comparison:
    """Compare two runs as :func:`compare` does; a run that is replaced meanwhile is any error."""
    with _STEPS.show("read"):
        rows = common_rows.read(pair, columns=columns)
    has_probabilities = pair[0].has_probabilities and pair[1].has_probabilities
    with _STEPS.show("measure"):
        found = compare_predictions(*rows.predicted, has_probabilities=has_probabilities)
        if found.differences.get(headline) is None:
            raise UserError(
                f"{find_metric(headline).title} is undefined for {pair[0].name} and {pair[1].name}",
                hint="it may need ordered classes (format.ordered), or probabilities in a file of "
                "predictions; name accuracy or f1_macro",
            )
        models = (_describe(pair, rows, 0), _describe(pair, rows, 1))
    settings, notes_on_settings = compare_settings(pair)
    with _STEPS.show("slices"):
        of_slices = _measure_slices(
            rows.table,
            rows.predicted,
            settings=pair[0].record["inputs"]["model"]["settings"],
            patterns=patterns,
            columns=columns,
        )
    notes = [*rows.notes, *notes_on_settings]
    if models[0].fingerprint == models[1].fingerprint:
        notes.append("both are the same model")
    if not of_slices:
        notes.append("no slices: there are no texts")
    compared = Comparison(
        first=models[0],
        second=models[1],
        split=rows.split,
        num_rows=len(rows.table),
        differences=found.differences,
        mcnemar=found.mcnemar,
        slices=of_slices,
        settings=settings,
        notes=notes,
        verdict=_write_verdict(found, rows, pair[0].name, pair[1].name, headline),
        headline=headline,
        num_authors=rows.num_authors,
        joined_by=rows.joined_by,
        f1_macro_note=_note_only_predicted(*rows.predicted),
    )
    if margin is None:
        return compared
    return replace(compared, regression=find_regression(_list_checks(compared), margin=margin))


def compare_predictions(
    first: Predicted, second: Predicted, *, has_probabilities: bool
) -> MetricDifferences:
    """Compare two models on the same rows, by every metric that has a difference.

    Args:
        first: Predictions of the first model.
        second: Predictions of the second model, with the same classes and labels.
        has_probabilities: Whether both have probabilities; if not, metrics of probabilities have no
            difference.
    """
    differences: dict[str, paired.Difference | None] = {}
    for metric in METRICS:
        if metric.difference is None or not metric.is_of(first):
            continue
        is_defined = has_probabilities or not metric.of_probabilities
        differences[metric.name] = metric.difference(first, second) if is_defined else None
    accuracy, mcnemar = paired.compare_accuracy(first.right, second.right, first.groups)
    return MetricDifferences(accuracy=accuracy, differences=differences, mcnemar=mcnemar)


def _note_only_predicted(first: Predicted, second: Predicted) -> str:
    """Name the classes that a model predicts, but no row has as its label: their F1 is 0."""
    rows = OneVsRest.of(first.confusion)
    by_first = rows.predicted
    by_second = OneVsRest.of(second.confusion).predicted
    names = []
    for code in np.flatnonzero((rows.labelled == 0) & (by_first + by_second > 0)):
        counts = (
            f"predicted by the first {by_first[code]:,}, by the second {by_second[code]:,} times"
        )
        names.append(f"{set_apart(first.classes[code])} ({counts})")
    if not names:
        return ""
    values = [macro_f1_of_labelled(model.confusion) for model in (first, second)]
    return (
        f"Without {', '.join(few(names))}, which no row is labelled with, the macro F1 is "
        f"{values[0]:.4f} and {values[1]:.4f}."
    )


def _describe(pair: Pair, rows: common_rows.ComparedRows, number: int) -> ComparedModel:
    """Describe one of two models: the first if ``number`` is 0, the second if it is 1."""
    scored = pair[number]
    metrics = measure(rows.predicted[number], has_probabilities=scored.has_probabilities)
    if scored.file:
        return ComparedModel(
            name=scored.name,
            scored_uri=scored.file.uri,
            model_uri=scored.file.uri,
            fingerprint=input_files.describe([scored.file.uri])["fingerprint"],
            about=scored.file.about,
            figures=metrics.to_json(),
            num_rows_only_here=0,
            num_rows_seen=0,
            num_rows_labelled=rows.num_labelled[number],
        )
    model = scored.record["inputs"]["model"]
    return ComparedModel(
        name=scored.name,
        scored_uri=scored.uri,
        model_uri=model["uri"],
        fingerprint=model["fingerprint"],
        about=lineage.describe_model(model["settings"]),
        figures=metrics.to_json(),
        num_rows_only_here=rows.num_only_in[number],
        num_rows_seen=rows.num_seen_by[number],
        num_rows_labelled=rows.num_labelled[number],
    )


def _measure_slices(
    rows: pa.Table,
    predicted: tuple[Predicted, Predicted],
    *,
    settings: Settings,
    patterns: Mapping[str, str],
    columns: Sequence[str],
) -> list[SliceDifference]:
    """Compare the predictions of two models in each slice, by adjusted p-value."""
    rows = text_traits.add_traits(rows, settings, patterns)
    slices.check_patterns(rows, patterns)
    found = slices.find(rows, patterns=patterns, columns=columns, unit=find_unit(settings))
    chosen = [item for item in found if item.is_own or not item.mask.all()]
    first, second = (model.right for model in predicted)
    groups = predicted[0].groups
    compared = []
    for item in chosen:
        of_slice = groups.take(item.mask) if groups else None
        compared.append(paired.compare_accuracy(first[item.mask], second[item.mask], of_slice))
    adjusted = paired.adjust([mcnemar.p_value for _, mcnemar in compared])
    measured = []
    for item, (difference, _), p_adjusted in zip(chosen, compared, adjusted, strict=True):
        measured.append(
            SliceDifference(
                name=item.name,
                about=item.about,
                num_rows=int(item.mask.sum()),
                accuracy_first=float(first[item.mask].mean()),
                accuracy_second=float(second[item.mask].mean()),
                difference=difference,
                p_adjusted=p_adjusted,
                moved=p_adjusted < paired.SIGNIFICANCE,
                is_own=item.is_own,
                f1_macro_first=_measure_f1(predicted[0], item.mask),
                f1_macro_second=_measure_f1(predicted[1], item.mask),
            )
        )
    return sorted(measured, key=_rank)


def _measure_f1(predicted: Predicted, rows: np.ndarray) -> float | None:
    """Measure the macro F1 of a model on some rows, given as booleans."""
    confusion = count_confusion(
        predicted.label[rows], predicted.prediction[rows], num_labels=len(predicted.classes)
    )
    return macro_f1(confusion)


def _rank(item: SliceDifference) -> tuple[float, float, float]:
    """Rank slices by adjusted p-value, then p-value, then the largest difference."""
    assert item.difference.p_value is not None, "a difference of accuracy has a test"
    return item.p_adjusted, item.difference.p_value, -abs(item.difference.value)


def _write_verdict(
    metrics: MetricDifferences,
    rows: common_rows.ComparedRows,
    first: str,
    second: str,
    headline: str,
) -> str:
    """Say in one sentence whether the second model is better by the headline."""
    num_rows = len(rows.table)
    if headline != "accuracy":
        return _judge_headline(metrics, num_rows, first, second, headline)
    if (rows.predicted[0].prediction == rows.predicted[1].prediction).all():
        return f"No difference shown: both predict the same label on each of {num_rows:,} rows."
    if first == second:  # the user named one run twice
        first, second = "the first", "the second"
    accuracy = metrics.accuracy
    low = 100 * accuracy.low
    high = 100 * accuracy.high
    interval = f"95% interval {low:+.2f} to {high:+.2f}, {num_rows:,} rows"
    points = f"{abs(100 * accuracy.value):.2f} percentage points"
    p_value = paired.write_p(metrics.mcnemar.p_value)
    is_higher = accuracy.value > 0
    side = "higher" if is_higher else "lower"
    if metrics.mcnemar.p_value < paired.SIGNIFICANCE:
        word = "better" if is_higher else "worse"
        result = f"{second} is {word} than {first}: its accuracy is {points} {side}"
        return f"{result} ({interval}, {p_value})."
    if accuracy.value:
        result = f"the accuracy of {second} is {points} {side}"
    else:
        result = "both have the same accuracy"
    return f"No difference shown: {result} ({interval}); the difference may be chance: {p_value}."


def _judge_headline(
    metrics: MetricDifferences, num_rows: int, first: str, second: str, headline: str
) -> str:
    """Say in one sentence whether the second model is better by another metric than accuracy."""
    metric = find_metric(headline)
    found = metrics.differences[headline]
    assert found is not None, "it was checked"
    assert found.p_value is not None, "every headline has a test"
    if first == second:  # the user named one run twice
        first, second = "the first", "the second"
    interval = f"95% interval {found.low:+.4f} to {found.high:+.4f}, {num_rows:,} rows"
    p_value = paired.write_p(found.p_value)
    change = f"{abs(found.value):.4f} {'higher' if found.value > 0 else 'lower'}"
    if found.p_value < paired.SIGNIFICANCE:
        word = "better" if metric.gain(found.value) > 0 else "worse"
        result = f"{second} is {word} than {first}: its {metric.phrase} is {change}"
        return f"{result} ({interval}, {p_value})."
    result = f"both have the same {metric.phrase}"
    if found.value:
        result = f"the {metric.phrase} of {second} is {change}"
    return f"No difference shown: {result} ({interval}); the difference may be chance: {p_value}."


def _list_checks(compared: Comparison) -> list[Check]:
    """List the checks that decide whether the second model is worse: metrics, and named slices."""
    checks = []
    checked = _CHECKED | {compared.headline: find_metric(compared.headline).phrase}
    for metric, name in checked.items():
        difference = compared.differences.get(metric)
        if difference is not None:
            check = Check(
                name=name,
                num_rows=compared.num_rows,
                first=compared.first.figures[metric],
                second=compared.second.figures[metric],
                difference=difference,
                higher_is_better=find_metric(metric).higher_is_better,
            )
            checks.append(check)
    for item in compared.slices:
        if item.is_own:
            check = Check(
                name=f"slice {item.name}",
                num_rows=item.num_rows,
                first=item.accuracy_first,
                second=item.accuracy_second,
                difference=item.difference,
            )
            checks.append(check)
    return checks
