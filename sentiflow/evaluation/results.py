"""Labelled rows -> everything that is measured of the model that labelled them, ready for JSON."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.data.schema import NEUTRAL, POSITIVE
from sentiflow.evaluation import mistakes, slices
from sentiflow.evaluation.evaluated_rows import EVALUATED, headline_split, of_split
from sentiflow.metrics import abstention, bootstrap, calibration, classification
from sentiflow.metrics.classification import wilson_interval

Findings = dict[str, Any]
"""What ``metrics.json`` holds; :func:`measure` lists its keys."""


def measure(
    rows: pa.Table,
    *,
    model: Mapping[str, Any],
    margin: float | None,
    patterns: Mapping[str, str],
) -> Findings:
    """Measure labelled rows, by split; what concerns single texts, in the headline split alone.

    Args:
        rows: As ``evaluated_rows.read`` gives them.
        model: As a scored manifest names it: ``settings`` and ``calibration`` are looked at.
        margin: Nearer to one half a probability counts as no answer; None: what the model chose on
            its validation rows.
        patterns: A user's own slices: a regular expression by name.

    Returns:
        - ``split``: the headline split.
        - ``figures``, ``intervals``: by split, of ``metrics`` and ``bootstrap``.
        - ``calibration``: ``temperature``, and ``before`` and ``after`` it; None if the model does
          not tell its temperature.
        - ``coverage``: a list, accuracy by share of texts answered.
        - ``neutral``: the ``margin``, and what is right beyond it; None without a margin.
        - ``three_class``: by split with neutral labels, the figures of three labels.
        - ``slices``, ``lengths``: lists, worst first, and by number of tokens; both empty where
          the texts are not at hand.
        - ``label_errors``: how many labels look wrong.
    """
    found: Findings = {"split": "", "figures": {}, "intervals": {}, "three_class": {}}
    known = model.get("calibration") or {}
    margin = known.get("neutral_margin") if margin is None else margin
    for split in EVALUATED:
        if columns := _columns(of_split(rows, split)):
            found["figures"][split] = classification.binary_figures(**columns)
            found["intervals"][split] = bootstrap.intervals(**columns)
        if margin is not None and (three := _measure_three(rows, split, margin)):
            found["three_class"][split] = three
    found["split"] = headline_split(list(found["figures"]))
    chosen = of_split(rows, found["split"])
    columns = _columns(chosen) or _NO_ROWS
    label, probability = columns["label"], columns["probability"]
    curve = abstention.accuracy_by_coverage(label=label, probability=probability)
    return found | {
        "calibration": _describe_calibration(chosen, columns, known),
        "coverage": curve.to_dict("records"),
        "neutral": _measure_answered(label, probability, margin),
        "label_errors": mistakes.count_label_errors(label=label, probability=probability),
        **_measure_texts(chosen, columns, model.get("settings") or {}, patterns),
    }


def before_temperature(
    probability: np.ndarray, num_tokens: np.ndarray, *, temperature: float
) -> np.ndarray:
    """Take a model's temperature back; where no token is known it was not applied."""
    taken_back = calibration.rescale(probability, temperature=1 / temperature)
    return np.where(num_tokens > 0, taken_back, probability)


_NO_ROWS = {name: np.array([]) for name in ("label", "probability", "prediction")}


def _columns(rows: pa.Table) -> dict[str, Any]:
    """Take the columns that figures are made of; empty without rows."""
    names = ("label", "probability", "prediction")
    return {name: rows[name].to_numpy() for name in names} if len(rows) else {}


def _measure_three(rows: pa.Table, split: str, margin: float) -> dict[str, Any]:
    """Measure three labels, where some rows are labelled neutral."""
    chosen = rows.filter(pa.compute.equal(rows["split"], split))
    label = chosen["label"].to_numpy()
    if not (label == NEUTRAL).any():
        return {}
    probability = chosen["probability"].to_numpy()
    return abstention.three_class_figures(label=label, probability=probability, margin=margin)


def _describe_calibration(
    rows: pa.Table, columns: dict[str, np.ndarray], known: Mapping[str, Any]
) -> dict[str, Any] | None:
    if "temperature" not in known or not len(rows):
        return None
    temperature, after = known["temperature"], columns["probability"]
    before = before_temperature(after, rows["num_tokens"].to_numpy(), temperature=temperature)
    found = calibration.describe(label=columns["label"], before=before, after=after)
    return {"temperature": temperature, **found}


def _measure_answered(
    label: np.ndarray, probability: np.ndarray, margin: float | None
) -> dict[str, Any] | None:
    """Measure the rows that are answered where the rest count as neutral."""
    if margin is None or not len(label):
        return None
    answered = np.abs(probability.astype(np.float64) - 0.5) >= margin
    right = (probability >= 0.5) == (label == POSITIVE)
    num_right, num_rows = int(right[answered].sum()), int(answered.sum())
    low, high = wilson_interval(num_right, num_rows) if num_rows else (None, None)
    accuracy = num_right / num_rows if num_rows else None
    return {
        "margin": margin,
        "coverage": num_rows / len(label),
        "num_rows": num_rows,
        "accuracy": accuracy,
        "low": low,
        "high": high,
    }


def _measure_texts(
    rows: pa.Table,
    columns: dict[str, Any],
    settings: Mapping[str, Any],
    patterns: Mapping[str, str],
) -> dict[str, Any]:
    chosen, lengths = slices.find_in(rows, settings=settings, patterns=patterns)
    if not len(lengths):
        return {"slices": [], "lengths": []}
    by_length = slices.by_length(lengths, right=columns["prediction"] == columns["label"])
    return {"slices": slices.measure(chosen, **columns), "lengths": by_length}
