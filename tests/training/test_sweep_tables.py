"""Trials that differ only in their seed are told apart from all others."""

import pytest

from sentiflow.config.train_sections import SelectionSettings
from sentiflow.training import sweep_tables


def trial(seed, accuracy, *, size=8, status="finished", test=0.5, loss=0.25):
    return {
        "status": status,
        "values": {"train.seed": seed, "train.model.hidden_size": size},
        "validation_accuracy": accuracy,
        "validation_loss": loss,
        "validation_f1_macro": accuracy / 2,
        "test_accuracy": test,
    }


def test_mean_and_standard_deviation_are_those_of_the_finished_seeds():
    trials = [
        trial(1, 0.7, size=4),
        trial(2, 0.8, size=4, test=0.7),
        trial(1, 0.9, test=None),
        trial(2, 0.5),
        trial(3, 0.1, status="failed"),
        trial(1, 0.99, size=16),
    ]
    best, worst = sweep_tables.summarize_seeds(trials, SelectionSettings())
    assert best["values"] == {"train.model.hidden_size": 4}
    assert (best["num_seeds"], worst["num_seeds"]) == (2, 2)
    assert best["validation_accuracy_mean"] == pytest.approx(0.75)
    assert best["validation_accuracy_std"] == pytest.approx(0.005**0.5)
    assert best["test_accuracy_mean"] == pytest.approx(0.6)
    assert best["validation_loss_std"] == 0
    assert worst["test_accuracy_mean"] is worst["test_accuracy_std"] is None


def test_the_best_mean_is_first_by_the_metric_of_selection():
    trials = [
        trial(seed, 0.5 + size / 100, size=size, loss=size) for size in (4, 8) for seed in "ab"
    ]
    for metric, first in (("accuracy", 8), ("loss", 4), ("macro_f1", 8)):
        best, _ = sweep_tables.summarize_seeds(trials, SelectionSettings(metric=metric))
        assert best["values"]["train.model.hidden_size"] == first


@pytest.mark.parametrize(
    ("sizes", "expected"), [([4, 4], True), ([4, 8], False)], ids=["repeated", "not"]
)
def test_trials_repeat_each_other_if_only_the_seed_differs(sizes, expected):
    values = [trial(seed, 0.5, size=size)["values"] for seed, size in enumerate(sizes)]
    assert sweep_tables.has_repeats(values) == expected
