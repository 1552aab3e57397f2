"""The summary of a training shows the figure of its model, and names the figure of its network."""

import pytest

from sentiflow.pipeline.results import Trained

HISTORY = [{"epoch": 1, "validation_accuracy": 0.5}, {"epoch": 2, "validation_accuracy": 0.6}]


@pytest.mark.parametrize(
    ("metrics", "summary"),
    [
        ({"validation/accuracy": 0.656}, "validation accuracy 0.6560 (the network alone 0.6000)"),
        ({"validation/accuracy": 0.6}, "validation accuracy 0.6000"),
    ],
)
def test_the_accuracy_is_that_of_the_model(metrics, summary):
    record = {"history": HISTORY, "chosen_epoch": 2, "metrics": metrics}
    assert Trained("out", record, ran=True)._summarize() == f"epoch 2 of 2, {summary}"


def test_without_validation_rows_there_is_no_accuracy():
    record = {"history": [{"epoch": 1}], "chosen_epoch": 1, "metrics": {}}
    assert Trained("out", record, ran=True)._summarize() == "epoch 1 of 1"


def test_of_an_earlier_version_the_package_has_the_accuracy(monkeypatch):
    package = {"metrics": {"validation/accuracy": 0.656}}
    monkeypatch.setattr("sentiflow.data.manifest.read", lambda uri: package)
    record = {"history": HISTORY, "chosen_epoch": 2}
    assert "accuracy 0.6560" in Trained("out", record, ran=True)._summarize()
    monkeypatch.setattr("sentiflow.data.manifest.read", lambda uri: None)
    assert Trained("out", record, ran=True)._summarize() == "epoch 2 of 2"
