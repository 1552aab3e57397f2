"""Predictions of several models -> the accuracy of each, and the model that is evaluated."""

from typing import Any, NamedTuple

from sentiflow.data import lineage
from sentiflow.data.lineage import ScoredCorpus
from sentiflow.data.manifest_types import Manifest
from sentiflow.evaluation import compact_rows, evaluated_classes, evaluated_rows
from sentiflow.evaluation.unseen_rows import leave_out_training_rows
from sentiflow.metrics import classification


class ChosenModel(NamedTuple):
    """Which of several models the report is about."""

    scored: Manifest
    """Manifest of the predictions that names this model alone (``lineage.of_version``)."""
    by_version: dict[str, Any]
    """Number of rows and metrics of each model, by its version; empty for a single model."""
    notes: list[str]
    """The accuracy of each model, and which one the report is about."""


def choose_model(uri: str, scored: Manifest, corpus: ScoredCorpus) -> ChosenModel:
    """Measure each model on the rows that it has scored; choose the last used one that has figures.

    With a single model, or if no model has figures, the manifest is returned as it is.

    Args:
        uri: The scored directory.
        scored: Its manifest.
        corpus: The corpus that was scored.
    """
    versions = lineage.models_of(scored)
    if len(versions) <= 1:
        return ChosenModel(scored, {}, [])
    by_version: dict[str, Any] = {}
    notes = []
    chosen = None
    for version in versions:
        of_model = lineage.of_version(scored, version)
        metrics = _measure_version(uri, of_model, corpus)
        num_scored = sum(scoring["rows"] for scoring in of_model["scorings"])
        by_version[version] = {"rows": num_scored}
        beginning = f"model version {version}: {num_scored:,} rows scored, "
        if metrics is None:
            notes.append(f"{beginning}none with a label that it was not trained on")
            continue
        by_version[version] |= metrics.to_json()
        if chosen is None:
            chosen = of_model
        notes.append(
            f"{beginning}right on {metrics.accuracy:.1%} of {metrics.num_rows:,} labelled rows "
            f"({metrics.interval})"
        )
    chosen = chosen or scored
    notes.append(f"the report is about model version {next(iter(lineage.models_of(chosen)))}")
    return ChosenModel(chosen, by_version, notes)


def _measure_version(
    uri: str, scored: Manifest, corpus: ScoredCorpus
) -> classification.Metrics | None:
    """Measure one of several models on the rows that it has scored; None without labelled rows."""
    numbers = compact_rows.read(uri, scored)
    rows = leave_out_training_rows(numbers.rows, scored, corpus, numbers.texts).rows
    rows, _ = evaluated_classes.match_classes(rows, scored)
    rows = rows.filter(evaluated_rows.has_label_of(evaluated_rows.classes_of(rows)))
    if not len(rows):
        return None
    return classification.measure(evaluated_rows.predicted_of(rows))
