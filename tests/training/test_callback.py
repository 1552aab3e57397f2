"""Each step and epoch is shown and recorded once, also if restarted workers repeat it."""

import logging

import pytest

from sentiflow.config.train_sections import TrainSettings
from sentiflow.progress import Progress
from sentiflow.training import reports
from sentiflow.training.reports import EpochResult, Event


class Recorder:
    """Keeps the recorded metrics."""

    def __init__(self):
        self.steps = []
        self.epochs = []

    def log_series(self, series):
        self.steps += series

    def log_metrics(self, metrics, *, step=0):
        self.epochs.append((step, metrics))


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.INFO, logger="sentiflow.progress")
    return caplog


@pytest.fixture
def make():
    def make(num_workers=2, linear="auto", **pretrain):
        pretrain = {"num_epochs": 1} | pretrain
        settings = TrainSettings.model_validate(
            {"num_epochs": 2, "pretrain": pretrain, "linear": linear}
        )
        progress = Progress("train", what="fitting the linear model")
        num_epochs = {"pretrain": settings.pretrain.num_epochs, "train": settings.num_epochs}
        return reports.TrainCallback(
            progress, Recorder(), settings, num_workers, num_texts=100, num_epochs=num_epochs
        )

    return make


def at(step, *, phase="train", num_workers=2, pretraining=(), history=(), **options):
    epoch = len(history)
    return Event(phase, epoch, step, 10, 10 * step, num_workers, pretraining, history, **options)


def start(step=0, **options):
    return at(step, is_start=True, **options)


def steps(step, **options):
    names = ("loss", "accuracy", "gradient_norm", "padding_fraction", "tweets_per_second")
    metrics = dict(zip(names, (0.5, 0.75, 1.0, 0.1, 99.0), strict=True))
    return at(step, metrics=metrics | {"learning_rate": 0.01}, **options)


def epoch(number):
    return EpochResult(number, 0.5, 0.75, 0.6, 0.7, 0.01, 1.0, 0.1, 2.0, 99.0, 5 * number, "", None)


def test_steps_and_epochs_that_restarted_workers_repeat_are_taken_once(make, said):
    told = make()
    ended = at(5, history=(epoch(1),))
    for event in (start(), steps(2), steps(4), ended, steps(7)):
        told(event)
    for event in (start(3, num_workers=1), steps(4), ended, steps(7), steps(8)):
        told(event)
    assert [step for step, _ in told.recorder.steps] == [2, 4, 7, 8]
    assert told.recorder.epochs == [(1, epoch(1).to_metrics())]
    assert said.text.count("epoch 1: loss 0.5000, validation accuracy 0.7000") == 1
    assert "workers were lost; resuming at step 3 of 10, in epoch 1, 1 worker" in said.text
    assert told.num_workers == 1
    assert told.progress.done == 80


def test_the_fault_that_has_ended_workers_is_named(make, said):
    told = make()
    told(start())
    told(start(3, cause="s3://b/a: the object store is unavailable (SLOW_DOWN)"))
    assert (
        "workers have failed: s3://b/a: the object store is unavailable (SLOW_DOWN); resuming at "
        "step 3 of 10" in said.text
    )


def test_a_resumed_training_records_the_epochs_of_its_checkpoint(make, said):
    told = make()
    told(start(6, pretraining=(epoch(1),), history=(epoch(1),)))
    told(at(5, history=(epoch(1),)))
    assert told.recorder.epochs == [
        (1, {"pretrain/loss": 0.5, "pretrain/validation_loss": 0.6, "pretrain/epoch_seconds": 2.0}),
        (1, epoch(1).to_metrics()),
    ]
    assert "resuming at step 6 of 10" in said.text
    assert "epoch 1: loss" not in said.text


def test_more_workers_are_announced(make, said):
    told = make()
    told(start(num_workers=1))
    assert "starting with 1 worker: the cluster has no room for more now" in said.text
    told(start(4, num_workers=2))
    assert "more workers have room; resuming at step 4 of 10, in epoch 1, 2 workers" in said.text


def test_metrics_of_pretraining_have_their_own_names(make):
    told = make()
    told(start())
    told(steps(2, phase="pretrain"))
    ((_, metrics),) = told.recorder.steps
    assert metrics["pretrain/step/loss"] == 0.5
    assert all(name.startswith("pretrain/step/") for name in metrics)


def test_beside_a_linear_model_the_figures_of_an_epoch_are_named_as_those_of_the_network(
    make, said
):
    told = make(linear=True)
    for event in (start(), at(3, phase="pretrain", pretraining=(epoch(1),)), at(5)):
        told(event)
    told(at(10, history=(epoch(1),)))
    assert "pretraining epoch 1: loss 0.5000, validation loss 0.6000 (" in said.text
    line = "epoch 1: loss 0.5000, validation accuracy 0.7000, of the network alone (2.0 s"
    assert line in said.text


def test_texts_are_counted_once_the_linear_model_is_fitted(make):
    told = make(linear=True)
    assert told.progress.to_line().startswith("fitting the linear model, ")
    told(start())
    told(steps(2))
    assert told.progress.to_line().startswith("20 of 100 texts")
