"""A sweep trains each trial once, whatever is killed, and lists the outcome of all."""

import csv
import io
import json
import logging
import shlex
import shutil
import types

import pytest
from conftest import PROJECT, write_config
from mlflow import MlflowClient
from stages import look
from test_train import prepared  # noqa: F401
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.cluster.connection import Resources
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import JobError, UserError
from sentiflow.models.package import ModelPackage
from sentiflow.pipeline import stages
from sentiflow.progress import Progress
from sentiflow.training import search_space, sweep, sweep_trials
from sentiflow.training import train as training

TRAIN = {
    "model": {"cell": "gru", "hidden_size": 8, "pooling": "mean_max", "dropout": 0.0},
    "batching": {"global_batch_size": 128},
    "num_epochs": 4,
    "schedule": "constant",
    "clip_norm": None,
}
GOOD_AND_BAD = {"train.learning_rate": [0.02, 1e-6], "train.model.hidden_size": [4, 16]}
ONE_BY_ONE = {"max_concurrent": 1}
"""So that it is known beforehand which trials are stopped."""
SHORT = {"num_epochs": 2}


GROWING = Resources(1, 0, 0, 1, may_grow=True, max_cpus=64, max_gpus=4)
"""A head whose autoscaler could add nodes; they count if the number of trials is given."""
ON_CORES = ["train.gpus_per_worker=0", "train.cpus_per_worker=4"]


def configure(folder, prepared, space, *, train=(), **options):  # noqa: F811
    folder.mkdir(exist_ok=True)
    return write_config(
        folder,
        prepared / "none.csv",
        train=TRAIN | {"prepared_uri": str(prepared)} | dict(train),
        sweep={"space": space} | options,
    )


def run(config):
    (outcome,) = stages.run(settings.load(config), ["sweep"])
    return outcome


def runs_of(folder):
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("test")
    return client, client.search_runs([experiment.experiment_id])


@pytest.fixture(scope="module")
def swept(tmp_path_factory, prepared, resources):  # noqa: F811
    """Sweep once over two good and two bad trials."""
    folder = tmp_path_factory.mktemp("swept")
    return folder, run(configure(folder, prepared, GOOD_AND_BAD, train=SHORT, **ONE_BY_ONE)).record


@pytest.mark.ray
@pytest.mark.slow
class TestSweep:
    """Four trials of two epochs."""

    def test_bad_trials_are_stopped_and_the_best_come_first(self, swept):
        _, record = swept
        trials = {trial["trial"]: trial for trial in record["trials"]}
        assert sorted(trials) == [1, 2, 3, 4]
        assert (trials[1]["status"], trials[1]["epochs"]) == ("finished", 2)
        for number in (3, 4):
            assert trials[number]["values"]["train.learning_rate"] == 1e-6
            assert (trials[number]["status"], trials[number]["epochs"]) == ("stopped", 1)
        statuses = [trial["status"] for trial in record["trials"]]
        assert statuses == sorted(statuses)
        for status in ("finished", "stopped"):
            found = [t["validation_accuracy"] for t in record["trials"] if t["status"] == status]
            assert found == sorted(found, reverse=True)
        assert record["counts"]["trials"] == 4
        assert record["counts"]["stopped"] == statuses.count("stopped")

    def test_the_table_has_a_row_for_each_trial_and_a_column_for_each_setting(self, swept):
        folder, record = swept
        rows = list(csv.DictReader(io.StringIO((folder / "run/sweep/trials.csv").read_text())))
        assert [int(row["trial"]) for row in rows] == [t["trial"] for t in record["trials"]]
        for row, trial in zip(rows, record["trials"], strict=True):
            assert float(row["train.learning_rate"]) == trial["values"]["train.learning_rate"]
            assert float(row["validation_accuracy"]) == trial["validation_accuracy"]
        header, *lines = sweep.to_text(record).splitlines()
        assert header.split()[:4] == ["trial", "status", "learning_rate", "hidden_size"]
        assert len(lines) == 4

    def test_a_finished_trial_is_a_training_and_nothing_else_stays(self, swept):
        folder, record = swept
        finished = [trial for trial in record["trials"] if trial["status"] == "finished"]
        names = sorted(path.name for path in (folder / "run/sweep/trials").iterdir())
        assert names == sorted(trial["name"] for trial in finished)
        top = {path.name for path in (folder / "run/sweep").iterdir()}
        assert top == {"manifest.json", "trials.csv", "trials"}
        for trial in finished:
            uri = str(folder / "run/sweep/trials" / trial["name"])
            history = manifest.require(uri, stage="train", setting="x")["history"]
            best = max(history, key=lambda epoch: epoch["validation_accuracy"])
            assert trial["validation_accuracy"] == best["validation_accuracy"]
            assert trial["chosen_epoch"] == best["epoch"]
            settings_of_model = ModelPackage.load(f"{uri}/model", setting="x").settings
            hidden_size = trial["values"]["train.model.hidden_size"]
            assert settings_of_model.model.hidden_size == hidden_size

    def test_each_trial_is_a_run_below_that_of_the_sweep(self, swept):
        folder, record = swept
        client, runs = runs_of(folder)
        (parent,) = [r for r in runs if r.data.tags["sentiflow.stage"] == "sweep"]
        assert parent.info.status == "FINISHED"
        assert parent.info.run_id == record["mlflow_run_id"]
        best = record["trials"][0]["validation_accuracy"]
        assert parent.data.metrics["best/validation_accuracy"] == best
        assert [f.path for f in client.list_artifacts(parent.info.run_id)] == [
            "settings.yaml", "trials.csv"
        ]  # fmt: skip
        assert list(client.search_registered_models()) == []
        children = {r.data.tags["sentiflow.trial"]: r for r in runs if r is not parent}
        assert len(children) == 4
        for trial in record["trials"]:
            child = children[trial["name"]]
            assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
            assert child.data.tags["sentiflow.run"] == parent.data.tags["sentiflow.run"]
            ends = {"finished": "FINISHED", "stopped": "KILLED"}
            assert child.info.status == ends[trial["status"]]
            for key, value in trial["values"].items():
                assert child.data.params[key] == str(value)
            assert child.info.run_id == trial["mlflow_run_id"]
            for name in ("train/loss", "train/accuracy", "validation/loss", "validation/accuracy",
                         "train/learning_rate"):  # fmt: skip
                points = client.get_metric_history(child.info.run_id, name)
                assert [p.step for p in points] == list(range(1, trial["epochs"] + 1))

    def test_the_same_command_does_nothing_more(self, swept, prepared, capsys):  # noqa: F811
        folder, record = swept
        other_order = dict(reversed(GOOD_AND_BAD.items()))
        again = run(configure(folder, prepared, other_order, train=SHORT, **ONE_BY_ONE))
        assert not again.ran
        assert again.record == record
        space = GOOD_AND_BAD | {"train.seed": [1, 2]}
        more = configure(folder, prepared, space, train=SHORT, **ONE_BY_ONE)
        with pytest.raises(UserError, match=r"belongs to other settings \(space\.train\.seed"):
            run(more)

    def test_the_line_to_copy_trains_to_the_same_model(self, swept, prepared):  # noqa: F811
        folder, record = swept
        config = configure(folder, prepared, GOOD_AND_BAD, train=SHORT, **ONE_BY_ONE)
        result = CliRunner().invoke(app, ["sweep", str(config)])
        _, verb, path, *changes = shlex.split(result.stdout.rpartition("the best: ")[2])
        assert (verb, path, len(changes)) == ("run", str(config), 4)
        assert settings.load(path, changes).output_uri == f"{folder}/run_best"
        ours = training.resolve(settings.load(path, changes)).spec.fingerprint
        trial = folder / "run/sweep/trials" / record["trials"][0]["name"]
        assert ours == manifest.read(str(trial))["fingerprint"]


def plan(config):
    """List the trials, without a look at the prepared data."""
    loaded = settings.load(config)
    spec = OutputSpec("sweep", loaded.sweep.output_uri, {}, {})
    return sweep_trials.plan(search_space.expand(loaded), look(spec))


def test_trials_of_different_numbers_of_epochs_are_not_stopped_early(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="sentiflow.progress")

    def choose(space, schedule):
        config = configure(tmp_path, tmp_path, space, train={"schedule": schedule})
        return sweep._choose_grace(settings.load(config), plan(config))

    assert choose({"train.num_epochs": [2, 6]}, "one_cycle") == 6
    assert "no trial is stopped early, as train.num_epochs is in the space" in caplog.text
    caplog.clear()
    assert choose({"train.num_epochs": [2, 6]}, "constant") == 1
    assert choose({"train.learning_rate": [0.1, 0.2]}, "one_cycle") == 1
    assert not caplog.text
    assert choose({"train.seed": [1, 2]}, "constant") == 4
    assert "no trial is stopped early, as train.seed is in the space" in caplog.text


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.soak
def test_a_trial_that_fails_is_listed_with_its_reason(tmp_path, prepared, resources):  # noqa: F811
    space = {"train.learning_rate": [0.01, 1e38]}
    record = run(configure(tmp_path, prepared, space, train={"num_epochs": 1})).record
    good, bad = record["trials"]
    assert (good["status"], bad["status"]) == ("finished", "failed")
    assert "is not finite; lower train.learning_rate" in bad["reason"]
    assert "trial 2 failed: the loss of step" in sweep.to_text(record)
    assert max(len(line) for line in sweep.to_text(record).splitlines()) < 200
    statuses = {r.data.tags.get("sentiflow.trial"): r for r in runs_of(tmp_path)[1]}
    assert statuses[bad["name"]].info.status == "FAILED"
    assert "is not finite" in statuses[bad["name"]].data.tags["sentiflow.reason"]


@pytest.mark.ray
@pytest.mark.slow
def test_a_sweep_whose_trials_all_fail_has_failed(tmp_path, prepared, resources, monkeypatch):  # noqa: F811
    def fail(config, output, callback, remaining, num_concurrent, request):
        """Say what Ray Tune says of trials that report the reason of their failure."""
        for index in remaining:
            told = {"reason": "the loss of step 2", "curve": []}
            trial = types.SimpleNamespace(config={"index": index}, last_result=told)
            callback.on_trial_complete(0, [], trial)

    monkeypatch.setattr(sweep, "_tune", fail)
    config = configure(tmp_path, prepared, {"train.learning_rate": [1e38]})
    with pytest.raises(JobError, match="all 1 trials failed: the loss of step"):
        run(config)
    assert not (tmp_path / "run/sweep/manifest.json").exists()


@pytest.mark.ray
@pytest.mark.slow
def test_data_without_validation_rows_are_refused(tmp_path, prepared):  # noqa: F811
    copy = tmp_path / "prepared"
    shutil.copytree(prepared, copy)
    record = json.loads((copy / "manifest.json").read_text())
    record["counts"]["labels"]["validation"] = {"negative": 0, "positive": 0}
    (copy / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match="has no validation rows"):
        sweep.resolve(settings.load(configure(tmp_path, copy, {"train.seed": [1, 2]})))


@pytest.mark.parametrize(
    ("cluster", "overrides", "expected"),
    [
        (Resources(8, 0, 1, 8), [], (8, {"cpu": 1, "gpu": 0})),
        (Resources(8, 0, 1, 8), ["sweep.max_concurrent=3"], (3, {"cpu": 1, "gpu": 0})),
        (Resources(2, 0, 1, 2), ["sweep.max_concurrent=5"], (2, {"cpu": 1, "gpu": 0})),
        (Resources(16, 1, 1, 16), [], (1, {"cpu": 1, "gpu": 1})),
        (Resources(16, 1, 1, 16), ["sweep.max_concurrent=3"], (3, {"cpu": 1, "gpu": 0.333})),
        (Resources(16, 2, 1, 16), ["sweep.max_concurrent=3"], (3, {"cpu": 1, "gpu": 0.5})),
        (Resources(8, 0, 2, 4), ["train.cpus_per_worker=4"], (2, {"cpu": 4, "gpu": 0})),
        (GROWING, ["sweep.max_concurrent=16"], (16, {"cpu": 1, "gpu": 0.25})),
        (GROWING, [*ON_CORES, "sweep.max_concurrent=20"], (16, {"cpu": 4, "gpu": 0})),
        (GROWING, ON_CORES, (1, {"cpu": 4, "gpu": 0})),
    ],
)
def test_the_cluster_is_divided_among_the_trials(cluster, overrides, expected):
    config = settings.load(PROJECT / "configs/quickstart.yaml", overrides)
    assert sweep._divide(config, cluster) == expected


def test_each_epoch_of_a_trial_but_the_last_is_shown(tmp_path, said):
    config = settings.load(write_config(tmp_path, tmp_path / "none.csv", train={"num_epochs": 2}))
    planned = [
        sweep_trials.Trial("", {"train.learning_rate": 0.1}, config, "", "") for _ in range(2)
    ]
    callback = sweep_trials.TrialCallback(
        planned, None, None, Progress("sweep", total=len(planned), unit="trials")
    )
    trial = types.SimpleNamespace(config={"index": 1})
    callback.on_trial_start(0, [], trial)
    for result in ({"epoch": 1, "accuracy": 0.75}, {"epoch": 2, "accuracy": 0.5}, {"reason": "x"}):
        callback.on_trial_result(0, [], trial, result)
    assert said.messages == [
        "sweep     trial 2 of 2: learning_rate 0.1: begins",
        "sweep     trial 2: epoch 1 of 2, validation accuracy 0.7500",
    ]
