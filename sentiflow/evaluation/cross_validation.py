"""Answers of the models of the folds, each to the rows of its fold -> their metrics."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.data import lineage, manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import baselines
from sentiflow.evaluation.evaluated_rows import classes_of, predicted_of
from sentiflow.evaluation.other_models import Baseline
from sentiflow.metrics import classification
from sentiflow.metrics.dependence import FoldGroups
from sentiflow.storage import parquet
from sentiflow.tracking import training_rows


@dataclass(frozen=True)
class CrossValidated:
    """Answers of the models of all folds, each to the rows of its fold."""

    metrics: classification.Metrics
    """Metrics of all answers. The interval of the accuracy is for the model of the training itself
    (``dependence.FoldGroups``). Macro F1 has no interval: a bootstrap of the rows ignores the
    variation between trainings, and its interval missed the macro F1 of the model too often
    (benchmarks/LOG.md, 2026-11-29)."""
    f1_of_folds: list[float]
    """Macro F1 of each fold."""
    baselines: Sequence[Baseline]
    """Simple models over the same folds."""

    @property
    def origin(self) -> str:
        """Say where the figures come from."""
        num_folds = len(self.f1_of_folds)
        return f"cross-validated over {num_folds} folds, {self.metrics.num_rows:,} rows"

    def to_json(self) -> dict[str, Any]:
        """Return the key ``cross_validated`` of ``metrics.json``."""
        return {
            **self.metrics.to_json(),
            "f1_macro_of_folds": self.f1_of_folds,
            "baselines": [each.to_json() for each in self.baselines],
        }


def measure_folds(training: Manifest, scored: Manifest) -> CrossValidated | None:
    """Measure the answers of the folds of a training; None if it has none.

    Rows that the model of ``train.init_from`` was trained on, or chosen by, are left out.

    Args:
        training: The training of the model.
        scored: Predictions of this model for the data that it was trained on.

    Raises:
        UserError: A file of the answers is missing or damaged, or no row is left to measure.
    """
    paths = [f["path"] for f in training["files"] if f["path"].startswith("folds/")]
    if not paths:
        return None
    uri = scored["inputs"]["model"]["training"]["uri"]
    parts = [parquet.from_bytes(manifest.read_file(uri, training, path)) for path in paths]
    answers = pa.concat_tables(parts).combine_chunks()
    seen, _ = training_rows.find_row_ids(scored, name="the model", by_splits=False)
    is_new = ~np.isin(answers["row_id"].to_numpy(), seen)
    rows = answers.filter(pa.array(is_new))
    if classes_of(answers) != lineage.classes_of_model(scored):
        raise UserError(
            f"{uri}/{paths[0]} has answers of another model",
            hint="train again with --overwrite",
        )
    if not len(rows):
        raise UserError(
            "no row of the folds can be measured: the model of train.init_from was trained on, or "
            "chosen by, all of them",
            hint="train without train.init_from, or with other rows than that model",
        )
    fold = rows["fold"].to_numpy()
    f1_of_folds = []
    for number in np.unique(fold):
        of_fold = classification.measure(predicted_of(rows.filter(fold == number)))
        assert of_fold.f1_macro is not None, "a fold has labelled rows"
        f1_of_folds.append(of_fold.f1_macro)
    predicted = replace(
        predicted_of(rows, lineage.class_values_of(scored)), groups=FoldGroups(fold)
    )
    return CrossValidated(
        metrics=classification.measure(predicted),
        f1_of_folds=f1_of_folds,
        baselines=baselines.measure_folds(answers, is_new, scored),
    )
