"""The headline of a training with folds is about the answers to all labelled rows."""

import numpy as np
import pyarrow as pa
import pytest
from test_results import MEASURED

from sentiflow.errors import UserError
from sentiflow.evaluation import lineage, results
from sentiflow.evaluation.evaluated_rows import headline_split
from sentiflow.evaluation.highlights import summarize
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.metrics import classification
from sentiflow.metrics.predicted import Predicted
from sentiflow.storage import filesystem, parquet

CLASSES = ("bad", "dull", "good")


@pytest.fixture
def training(tmp_path, monkeypatch):
    """The answers of two folds, and predictions of the model; rows 90 on are of a first model."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 100).astype(np.float32)
    label, fold = rng.integers(0, 3, 100).astype(np.int8), (np.arange(100) % 2 + 1).astype(np.int8)
    table = pa.table(
        {"row_id": range(100), "fold": fold, "label": label}
        | {"prediction": probabilities.argmax(axis=1).astype(np.int8)}
        | {f"probability_{name}": probabilities[:, k] for k, name in enumerate(CLASSES)}
    )
    files = [
        filesystem.write_file(
            str(tmp_path), f"folds/ab/fold-{k}.parquet", parquet.to_bytes(table.filter(fold == k))
        )
        for k in (1, 2)
    ]
    seen = lineage.TrainingRows(np.arange(90, 200), is_known=True)
    monkeypatch.setattr(lineage, "find_training_rows", lambda *_, **__: seen)
    model = {"settings": {"classes": CLASSES}, "training": {"uri": str(tmp_path)}}
    return {"files": files}, {"inputs": {"model": model}}, (label, probabilities, fold)


def test_all_answers_are_measured_but_those_that_a_first_model_has_learned(training):
    record, scored, (label, probabilities, fold) = training
    found = results.measure_folds(record, scored)

    def measure(rows):
        guess = probabilities[rows].argmax(axis=1)
        return classification.measure(Predicted(CLASSES, label[rows], guess, probabilities[rows]))

    rows = np.arange(90)
    assert found.metrics == measure(rows)
    assert found.f1_of_folds == [measure(rows[fold[:90] == k]).f1_macro for k in (1, 2)]
    assert found.origin == "cross-validated over 2 folds, 90 rows"
    assert found.to_json()["accuracy"] == found.metrics.accuracy
    first, second = summarize(MEASURED, ModelChecks(), cross_validated=found)[:2]
    assert first[0] == f"{found.metrics.accuracy:.1%}"
    assert "cross-validated over 2 folds, 90 rows (95 % interval" in first.meaning
    assert second[0] == f"{found.metrics.f1_macro:.3f}"
    assert headline_split(["test", "cross-validated"]) == "cross-validated"


def test_a_training_without_folds_has_no_such_figures(training):
    _, scored, _ = training
    assert results.measure_folds({"files": [{"path": "model/manifest.json"}]}, scored) is None


def test_answers_of_another_model_are_refused(training):
    record, scored, _ = training
    scored["inputs"]["model"]["settings"]["classes"] = ("bad", "good", "dull")
    with pytest.raises(UserError, match=r"fold-1\.parquet has answers of another model"):
        results.measure_folds(record, scored)
