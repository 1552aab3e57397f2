"""Ten classes of any names, from the CSV to the report, in MLflow, and back out of the registry."""

import json

import mlflow
import numpy as np
import pandas as pd
import pytest
from conftest import SMALL_MODEL, write_config
from mlflow import MlflowClient

from sentiflow.config import settings
from sentiflow.models.package import ModelPackage
from sentiflow.pipeline import stage_plans, stages

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CLASSES = ["5 stars", "a:b", "anger", "d'oh", "fear", "joy", "n/a", "très bien", "😀", "😡"]
NUM_ROWS = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write a CSV in which each class has words of its own, and settings with a pretraining."""
    folder = tmp_path_factory.mktemp("ten")
    rng = np.random.default_rng(0)
    label = rng.integers(0, len(CLASSES), NUM_ROWS)
    texts = [
        " ".join(
            f"word{k if rng.random() < 0.6 else 'x'}{'abc'[rng.integers(3)]}" for _ in range(8)
        )
        for k in label
    ]
    table = pd.DataFrame({"text": texts, "mood": [CLASSES[k] for k in label]})
    table.to_csv(folder / "moods.csv", index=False)
    columns = {"text": "text", "label": "mood"}
    train = {
        "model": SMALL_MODEL | {"hidden_size": 8},
        "batching": {"global_batch_size": 64},
        "num_epochs": 3,
        "learning_rate": 0.02,
        "class_weights": "sqrt",
        "pretrain": {"num_epochs": 1},
    }
    write_config(
        folder,
        folder / "moods.csv",
        format={"kind": "csv", "columns": columns, "labels": "auto"},
        train=train,
        sweep={"space": {"train.pretrain.num_epochs": [0, 1]}, "max_concurrent": 1},
    )
    return folder


@pytest.fixture(scope="module")
def outcomes(folder, resources):
    config = settings.load(folder / "config.yaml")
    return {one.verb: one.record for one in stages.run(config, stage_plans.VERBS)}


def test_all_stages_know_ten_classes(folder, outcomes):
    assert outcomes["prepare"]["classes"] == CLASSES
    assert ModelPackage.load(str(folder / "run/trained/model")).settings.classes == tuple(CLASSES)
    predictions = pd.read_parquet(folder / "run/scored/predictions")
    probabilities = predictions[[f"probability_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert len(predictions) == NUM_ROWS
    measured = json.loads((folder / "run/report/metrics.json").read_text())
    assert list(measured["figures"]["test"]["by_class"]) == CLASSES
    assert measured["figures"]["test"]["accuracy"] > 0.9
    page = (folder / "run/report/report.html").read_text()
    assert all(name in page for name in ("très bien", "n/a", "😀", "d&#39;oh"))


def test_each_class_has_metrics_of_its_own_and_the_registered_model_names_them(
    folder, outcomes, monkeypatch
):
    store = f"sqlite:///{folder}/mlflow.db"
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("test").experiment_id
    (run,) = client.search_runs([experiment], "tags.`sentiflow.stage` = 'evaluate'")
    found = run.data.metrics
    assert sum(name.startswith("test/f1_") for name in found) == len(CLASSES) + 1
    assert {"test/f1_très bien", "test/f1_n/a", "test/f1_5 stars", "test/f1_a:b"} <= set(found)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    model = mlflow.pyfunc.load_model("models:/test@candidate")
    texts = ["word7a word7b word7c word7a", "word9b word9a"]
    answer = pd.DataFrame([dict(one) for one in model.predict(pd.DataFrame({"text": texts}))])
    assert answer["label"].tolist() == ["très bien", "😡"]
    assert {f"probability_{name}" for name in CLASSES} <= set(answer.columns)


@pytest.mark.soak
def test_a_sweep_of_ten_classes_trains_each_trial(folder, outcomes):
    (outcome,) = stages.run(settings.load(folder / "config.yaml"), ["sweep"])
    trials = outcome.record["trials"]
    assert [trial["status"] for trial in trials] == ["finished", "finished"]
    assert all(trial["validation_accuracy"] > 0.8 for trial in trials)
