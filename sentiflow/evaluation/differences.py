"""Predictions of two models on the same rows -> metrics, differences, slices that differ."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.evaluation import slices
from sentiflow.metrics import paired
from sentiflow.metrics.classification import BinaryMetrics, binary_metrics
from sentiflow.metrics.paired import Difference

SURE = 0.05
"""A p-value below it counts as a difference."""


@dataclass(frozen=True)
class McNemar:
    """The rows on which exactly one of the two models is right."""

    only_first_right: int
    only_second_right: int
    p_value: float
    """Exact, two-sided."""


@dataclass(frozen=True)
class SliceDifference:
    """Two models in one slice of the rows."""

    name: str
    about: str
    num_rows: int
    accuracy_first: float
    accuracy_second: float
    difference: Difference
    """Of accuracy; its p-value is of this slice alone."""
    p_adjusted: float
    """For the number of slices, by ``paired.adjust``."""
    moved: bool
    """Whether ``p_adjusted`` is below ``SURE``."""


@dataclass(frozen=True)
class Differences:
    """Everything measured on two models; a difference is the second's value minus the first's."""

    figures: tuple[BinaryMetrics, BinaryMetrics]
    differences: dict[str, Difference | None]
    """By metric: ``accuracy``, ``f1_macro``, ``roc_auc``, ``log_loss``, ``brier``; None where it is
    undefined."""
    mcnemar: McNemar
    same_answers: bool
    slices: list[SliceDifference]
    """By adjusted p-value."""


def measure(
    rows: pa.Table, *, settings: Mapping[str, Any], patterns: Mapping[str, str]
) -> Differences:
    """Measure two models on the same rows.

    There are no slices by unknown tokens, as these differ between the models. Lengths are counted
    in the first model's tokens.

    Args:
        rows: As ``compared_rows.read`` gives them: at least one.
        settings: Of the first model's package. Without a tokenizer or texts there are no slices.
        patterns: The user's own slices: a regular expression by name.
    """
    label = rows["label"].to_numpy()
    prediction, probability = (
        [rows[f"{name}_{i}"].to_numpy() for i in (0, 1)] for name in ("prediction", "probability")
    )
    right = [predicted == label for predicted in prediction]
    of_both = {"label": label, "first": probability[0], "second": probability[1]}
    called = of_both | {"first": prediction[0], "second": prediction[1]}
    accuracy, counts = compare_accuracy(*right)
    chosen, _ = slices.find_in(rows, settings=settings, patterns=patterns, by_unknown=False)
    return Differences(
        (
            binary_metrics(label=label, probability=probability[0], prediction=prediction[0]),
            binary_metrics(label=label, probability=probability[1], prediction=prediction[1]),
        ),
        {
            "accuracy": accuracy,
            "f1_macro": paired.f1_macro_difference(**called),
            "roc_auc": paired.roc_auc_difference(**of_both),
            "log_loss": paired.log_loss_difference(**of_both),
            "brier": paired.brier_difference(**of_both),
        },
        counts,
        bool((prediction[0] == prediction[1]).all()),
        _measure_slices(chosen, *right),
    )


def judge(found: Differences, *, first: str, second: str) -> str:
    """Say in one sentence whether the second model is better, by McNemar's test of accuracy."""
    accuracy, p_value = found.differences["accuracy"], found.mcnemar.p_value
    assert accuracy is not None, "there are rows"
    num_rows = f"{found.figures[0].num_rows:,} rows"
    if found.same_answers:
        return f"No difference shown: both predict the same label on each of {num_rows}."
    low, high = 100 * accuracy.low, 100 * accuracy.high
    interval = f"95 % interval {low:+.2f} to {high:+.2f}, {num_rows}"
    points = f"{abs(100 * accuracy.value):.2f} percentage points"
    word, side = ("better", "higher") if accuracy.value > 0 else ("worse", "lower")
    if p_value < SURE:
        said = f"{second} is {word} than {first}: its accuracy is {points} {side}"
        return f"{said} ({interval}, {paired.write_p(p_value)})."
    said = f"the accuracy of {second} is {points} {side}"
    if not accuracy.value:
        said = "both have the same accuracy"
    chance = f"the difference may be chance: {paired.write_p(p_value)}"
    return f"No difference shown: {said} ({interval}); {chance}."


def compare_accuracy(first: np.ndarray, second: np.ndarray) -> tuple[Difference, McNemar]:
    """Compare two models, given for each which of N rows it gets right; N is at least 1."""
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    found = paired.accuracy_difference(
        only_first=only_first, only_second=only_second, num_rows=len(first)
    )
    assert found is not None, "there are rows"
    return found, McNemar(only_first, only_second, paired.mcnemar(only_first, only_second))


def _measure_slices(
    chosen: list[slices.Slice], first: np.ndarray, second: np.ndarray
) -> list[SliceDifference]:
    found = [compare_accuracy(first[item.rows], second[item.rows]) for item in chosen]
    adjusted = paired.adjust([counts.p_value for _, counts in found])
    measured = [
        SliceDifference(
            item.name,
            item.about,
            int(item.rows.sum()),
            float(first[item.rows].mean()),
            float(second[item.rows].mean()),
            difference,
            p,
            p < SURE,
        )
        for item, (difference, _), p in zip(chosen, found, adjusted, strict=True)
    ]
    return sorted(measured, key=_order)


def _order(item: SliceDifference) -> tuple[float, float, float]:
    """Sort by p-value, then by size of the difference."""
    assert item.difference.p_value is not None, "accuracy has one"
    return item.p_adjusted, item.difference.p_value, -abs(item.difference.value)
