"""Training with folds -> how good its models are on all labelled rows, none of which they saw."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.evaluation.evaluated_rows import classes_of, predicted_of
from sentiflow.metrics import classification
from sentiflow.metrics.classification import Metrics
from sentiflow.storage import parquet


@dataclass(frozen=True)
class CrossValidated:
    """Answers of the models of all folds, each to the rows of its fold."""

    metrics: Metrics
    """Of all answers. Macro F1 has no interval: a bootstrap of the rows knows nothing of how much
    the models differ, and held the macro F1 of a model in few samples (benchmarks/LOG.md)."""
    f1_of_folds: list[float]
    """Macro F1 of each fold."""

    @property
    def origin(self) -> str:
        """How the figures came about."""
        num_folds, num_rows = len(self.f1_of_folds), self.metrics.num_rows
        return f"cross-validated over {num_folds} folds, {num_rows:,} rows"

    def to_json(self) -> dict[str, Any]:
        """Return what ``metrics.json`` says."""
        return {**self.metrics.to_json(), "f1_macro_of_folds": self.f1_of_folds}


def measure(training: Manifest, scored: Manifest) -> CrossValidated | None:
    """Measure the answers of the folds of a training; None if it has none.

    Rows that a first model was trained on are left out.

    Args:
        training: The training of the model.
        scored: Predictions of this model for the data that it was trained on.

    Raises:
        UserError: A file of the answers is missing or damaged.
    """
    paths = [f["path"] for f in training["files"] if f["path"].startswith("folds/")]
    if not paths:
        return None
    uri, classes = scored["inputs"]["model"]["training"]["uri"], lineage.classes_of_model(scored)
    tables = [parquet.from_bytes(manifest.read_file(uri, training, path)) for path in paths]
    rows = pa.concat_tables(tables).combine_chunks()
    seen = lineage.find_training_rows(scored, name="the model", by_splits=False)
    rows = rows.filter(~np.isin(rows["row_id"].to_numpy(), seen.row_ids))
    if classes_of(rows) != classes or not len(rows):
        raise UserError(
            f"{uri}/{paths[0]} has answers of another model",
            hint="train again with --overwrite",
        )
    fold = rows["fold"].to_numpy()
    each = [classification.measure(predicted_of(rows.filter(fold == k))) for k in np.unique(fold)]
    whole = classification.measure(predicted_of(rows))
    return CrossValidated(whole, [found.f1_macro or 0.0 for found in each])
