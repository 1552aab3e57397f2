"""A refit is the training of its run on all labelled rows, up to the epoch that it kept."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from test_task import NUM_ROWS, make_job  # noqa: F401

from sentiflow.config.train_sections import TrainSettings
from sentiflow.data import manifest
from sentiflow.data.schema import SPLITS
from sentiflow.tracking import refits
from sentiflow.training import checkpoints, descriptions, task, train_plan
from sentiflow.training.learned_classes import LearnedClasses

PACKAGE = {
    "settings": {"temperature": 1.25},
    "inputs": {"prepared": {"uri": "p", "fingerprint": "ab"}},
    "calibration": {
        "temperature": 1.25,
        "bias": {"positive": 0.4, "negative": -0.4},
        "unsure": {"max_error": 0.05, "threshold": 0.7, "num_rows": 90, "answered_fraction": 0.6},
    },
    "reference": None,
    "metrics": {},
}


@pytest.fixture
def make_refit(make_job):  # noqa: F811
    """Describe the refit of a run that kept the second of three epochs."""

    def make(name):
        job = make_job(name, vectors="tuned")
        refit = refits.Refit(
            input={"uri": "runs/one/trained/model", "fingerprint": "cd", "training": None},
            package=PACKAGE,
            first=None,
            num_epochs=2,
            record={"splits": [*SPLITS], "prepared": PACKAGE["inputs"]["prepared"], "metrics": {}}
            | {"of": {"uri": "runs/one/trained/model", "fingerprint": "cd"}},
        )
        calibration = PACKAGE.get("calibration")
        return replace(job, splits=SPLITS, refit=refit, calibration=calibration)

    return make


def test_a_refit_learns_every_labelled_row_and_validates_on_none(make_refit):
    job = make_refit("refit")
    worker = task._Worker(job, lambda event: None, lambda: False)
    sources = worker.train_input.rows.shards.uris
    assert {uri.split("split=")[1].split("/")[0] for uri in sources} == {"train", "validation"}
    slices = worker.train_input.slices(0)
    seen = np.concatenate([part.rows.row_ids[part.chosen] for part in slices])
    assert sorted(seen) == sorted([*range(NUM_ROWS)] * 2), "both splits have the same numbers"
    assert worker.validation.shards.num_rows == 0


def test_a_refit_stops_at_the_epoch_that_was_kept_on_the_schedule_of_all(make_refit):
    job = make_refit("refit")
    report = task.run(job, lambda event: None)
    rates = [epoch.learning_rate for epoch in report.history]
    whole = replace(make_refit("whole"), refit=None)
    expected = [epoch.learning_rate for epoch in task.run(whole, lambda event: None).history]
    assert rates == expected[:2]
    assert len(expected) == 3
    assert report.chosen_epoch == 2
    assert all(epoch.validation_accuracy is None for epoch in report.history)
    package = manifest.read(job.model_uri)
    assert package["settings"]["temperature"] == 1.25
    assert package["settings"]["unsure"] == {"max_error": 0.05, "threshold": 0.7}
    assert package["calibration"] == PACKAGE["calibration"]
    trained = checkpoints.load_last(job.checkpoints_uri).tensors["weights/network.output.bias"]
    biased = load_file(f"{job.model_uri}/weights.safetensors")["output.bias"]
    torch.testing.assert_close(biased, trained + 1.25 * torch.tensor([-0.4, 0.4]))
    assert package["refit"] == job.refit.record
    assert package["metrics"] == {}


@pytest.mark.parametrize(
    ("linear_weight", "expected"),
    [(0.4, "(2 of 3 epochs, 240 rows)"), (1.0, "(the linear model alone, 240 rows)")],
)
def test_a_refit_of_a_run_without_a_network_tells_no_epochs(make_refit, linear_weight, expected):
    job = make_refit("refit")
    calibration = PACKAGE["calibration"] | {"linear_weight": linear_weight}
    plan = SimpleNamespace(
        refit=replace(job.refit, package={**PACKAGE, "calibration": calibration}),
        settings=job.settings,
        learned=SimpleNamespace(num_rows=240),
    )
    assert descriptions.describe_refit(plan).endswith(expected)


@pytest.mark.parametrize(
    ("linear", "num_rows", "of_run", "expected"),
    [
        (True, 10**6, None, True),
        (False, 10, None, False),
        ("auto", 200_000, None, True),
        ("auto", 200_001, None, False),
        ("auto", 200_001, {"linear_weight": 0.4}, True),
        ("auto", 10, {"temperature": 1.0}, False),
    ],
)
def test_auto_trains_a_linear_model_up_to_a_number_of_rows_or_as_the_repeated_run(
    linear, num_rows, of_run, expected
):
    learned = LearnedClasses(("a", "b"), np.array([num_rows, 0]), np.arange(2, dtype=np.int8), None)
    refit = of_run and SimpleNamespace(package={"calibration": of_run})
    assert train_plan.decide_linear(TrainSettings(linear=linear), learned, refit) is expected
