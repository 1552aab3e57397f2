"""Runs in MLflow are rebuilt from the manifests of a run's output, and from nothing else."""

import math
import os
import re
import signal
import types
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from conftest import make_store, messages, write_config
from mlflow import MlflowClient
from other_process import calling
from stages import publish as complete
from typer.testing import CliRunner

from sentiflow.cli.app import app
from sentiflow.config import settings
from sentiflow.data import manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import UserError
from sentiflow.pipeline import stage_plans, stages
from sentiflow.storage import filesystem
from sentiflow.tracking import experiment_store, model_registry, rebuild, recording

GROUP = "0123abcd"
EPOCHS = [
    {
        "epoch": epoch, "train_loss": 1 / epoch, "train_accuracy": 0.5, "validation_loss": None,
        "validation_accuracy": 0.5, "learning_rate": 0.1, "gradient_norm": 1.0,
        "padding_fraction": 0.1, "tweets_per_second": 9.0, "seconds": 1.0, "step": epoch,
        "ended": f"2026-11-26T12:00:0{epoch}+00:00",
    }
    for epoch in (1, 2)
]  # fmt: skip


@pytest.fixture
def uri(tmp_path) -> str:
    return make_store(tmp_path)


@pytest.fixture
def output(tmp_path) -> str:
    return str(tmp_path / "run")


def describe(stage: str, **more: object) -> dict[str, object]:
    return {
        "experiment": "laws", "group": GROUP, "name": f"{stage} abcd",
        "start": "2026-11-26T12:00:00.000+00:00", "end": "2026-11-26T12:00:10.000+00:00",
        "params": {f"{stage}.seed": "3"}, "tags": {"sentiflow.version": "1", "mlflow.user": "ann"},
        "metrics": {f"{stage}/rows": 7.0}, "artifacts": [], "registers_model": False,
        "mlflow_run_id": "",
    } | more  # fmt: skip


def publish(uri: str, stage: str, inputs: dict, run: dict | None, **details: object) -> dict:
    """Publish a finished stage with two files of an evaluation."""
    spec = OutputSpec(stage, uri, {"seed": 3}, inputs)
    contents = {"report.html": b"page", "model_card.md": b"card"}
    files = [filesystem.write_file(uri, name, content) for name, content in contents.items()]
    return complete(spec, files=files, seconds=10, run=run, **details)


def publish_run(
    output: str, *, model: str | None = None, registers: str = "train"
) -> dict[str, dict]:
    """Publish four stages that build on each other."""
    file = {"uri": "/in/tweets.csv", "bytes": 5, "modified_ns": 1, "tree_sha256": ""}
    csv = {"fingerprint": "c5f0", "files": [file]}
    counts = {"accepted": 7, "labels": {"train": {"a": 4, "b": 3}}}
    prepared = publish(
        f"{output}/prepared", "prepare", {"csv": csv}, describe("prepare"), counts=counts
    )
    inputs = {"prepared": manifest.reference(f"{output}/prepared", prepared)}
    trained = publish(
        f"{output}/trained", "train", inputs,
        describe("train", registers_model=bool(model) and registers == "train"),
        history=EPOCHS, pretraining=[EPOCHS[0]], model_fingerprint=model or "0", registered=None,
    )  # fmt: skip
    made_by = {"uri": f"{output}/trained", "fingerprint": trained["fingerprint"]}
    inputs = {
        "model": {"uri": f"{output}/trained/model", "fingerprint": "aa", "training": made_by},
        "corpus": manifest.reference(f"{output}/prepared", prepared),
    }
    scored = publish(f"{output}/scored", "score", inputs, describe("score"))
    inputs = {"scored": manifest.reference(f"{output}/scored", scored)}
    tags = {"sentiflow.scored_uri": f"{output}/scored", "mlflow.note.content": "- **a**"}
    run = describe("evaluate", artifacts=["model_card.md", "report.html"], tags=tags)
    run["training"] = {"metrics": {"test/accuracy": 0.75}, "tags": {}}
    if registers == "evaluate":
        run["registers_model"] = True
        run["training"]["tags"]["mlflow.note.content"] = "75.0% test accuracy\n- data\n"
    evaluated = publish(f"{output}/report", "evaluate", inputs, run, model_fingerprint=model or "0")
    return {"prepare": prepared, "train": trained, "score": scored, "evaluate": evaluated}


def send(output: str, uri: str) -> list[str]:
    return rebuild.send(rebuild.find(output), tracking_uri=uri)


def runs(uri: str) -> dict[str, object]:
    """Find the runs of the experiment by stage; each stage has one."""
    client = MlflowClient(uri)
    found = client.search_runs([client.get_experiment_by_name("laws").experiment_id])
    by_stage = {run.data.tags["sentiflow.stage"]: run for run in found}
    assert len(by_stage) == len(found)
    return by_stage


def invoke(*arguments: str):
    return CliRunner().invoke(app, ["tracking", "import", *arguments])


def test_the_runs_of_an_output_are_made_whole_and_only_once(output, uri):
    records = publish_run(output)
    assert send(output, uri) == ["added"] * 4
    found = runs(uri)
    client = MlflowClient(uri)
    for stage, record in records.items():
        run = found[stage]
        assert (run.info.status, run.info.run_name) == ("FINISHED", f"{stage} abcd")
        assert run.info.end_time - run.info.start_time == 10_000
        assert run.data.params == {f"{stage}.seed": "3"}
        assert run.data.metrics[f"{stage}/rows"] == 7
        assert run.data.tags["sentiflow.fingerprint"] == record["fingerprint"]
    trained = found["train"]
    evaluated = found["evaluate"]
    assert trained.data.metrics["test/accuracy"] == 0.75
    assert "validation/loss" not in trained.data.metrics
    points = client.get_metric_history(trained.info.run_id, "train/loss")
    assert [(p.step, p.value) for p in points] == [(1, 1.0), (2, 0.5)]
    assert points[1].timestamp - points[0].timestamp == 1000
    assert client.get_metric_history(trained.info.run_id, "pretrain/loss")[0].value == 1
    assert evaluated.data.tags["mlflow.note.content"] == "- **a**"
    assert evaluated.data.tags["sentiflow.output_uri"] == f"{output}/report"
    before = describe_runs(uri, "laws")
    assert send(output, uri) == ["complete"] * 4
    assert send(f"{output}/trained", uri) == ["complete"]
    assert describe_runs(uri, "laws") == before


def test_own_tags_are_imported_and_reserved_names_are_not(output, uri):
    own = {f"own{number}": "x" for number in range(60)}
    reserved = {"mlflow.parentRunId": "0b1c", "sentiflow.fingerprint": "0", "SENTIFLOW.x": "y"}
    run = describe("prepare", tags={"sentiflow.user": "ann", "a=b": "c", **reserved, **own})
    record = publish(output, "prepare", {}, run)
    send(output, uri)
    tags = runs(uri)["prepare"].data.tags
    assert tags["sentiflow.user"] == "ann"
    assert tags["sentiflow.fingerprint"] == record["fingerprint"]
    assert len([name for name in tags if name.startswith("own")]) == 50
    assert not {"mlflow.parentRunId", "SENTIFLOW.x", "a=b", "a_b"} & tags.keys()


def kill_during_run(pipe: Connection, uri: str) -> None:
    """Kill this process while its run is open."""
    store = experiment_store.open_store(uri, experiment="laws", required=True)
    with recording.open_run(store, "train", group=GROUP, tags={}) as recorder:
        recorder.log_settings({"train": {"seed": 3}})
        recorder.log_metrics({"train/loss": 1.0}, step=1)
        recorder.store.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_job_that_was_killed_after_its_stage_was_complete_has_a_finished_run(output, uri):
    with calling(kill_during_run, uri) as (process, _):
        process.join()
        assert process.exitcode == -signal.SIGKILL
    (run,) = runs(uri).values()
    assert run.info.status == "RUNNING"
    publish_run(output)
    assert send(output, uri) == ["added", "complete", "added", "added"]
    found = runs(uri)["train"]
    assert (found.info.run_id, found.info.status) == (run.info.run_id, "FINISHED")
    points = MlflowClient(uri).get_metric_history(run.info.run_id, "train/loss")
    assert {(p.step, p.value) for p in points} == {(1, 1.0), (2, 0.5)}
    assert found.data.params == {"train.seed": "3"}
    assert send(output, uri) == ["complete"] * 4


def test_a_model_that_was_not_registered_is_registered_once(output, uri, make_package):
    package = make_package(f"{output}/trained/model")
    fingerprint = manifest.read(package)["fingerprint"]
    publish_run(output, model=fingerprint)
    send(output, uri)
    client = MlflowClient(uri)
    version = client.get_model_version_by_alias("laws", "candidate")
    assert version.run_id == runs(uri)["train"].info.run_id
    client.set_registered_model_alias("laws", "champion", version.version)
    client.delete_registered_model_alias("laws", "candidate")
    assert send(output, uri) == ["complete"] * 4
    model = client.get_registered_model("laws")
    assert model.aliases == {"champion": version.version}
    assert len(client.search_model_versions("name = 'laws'")) == 1


def test_the_model_of_a_whole_run_is_registered_with_the_note_of_its_evaluation(
    output, uri, make_package
):
    package = make_package(f"{output}/trained/model")
    publish_run(output, model=manifest.read(package)["fingerprint"], registers="evaluate")
    send(output, uri)
    client = MlflowClient(uri)
    found = runs(uri)
    version = client.get_model_version_by_alias("laws", "candidate")
    assert version.run_id == found["train"].info.run_id
    evaluation = found["evaluate"].info
    report = (
        f"#/experiments/{evaluation.experiment_id}/runs/{evaluation.run_id}/artifacts/report.html"
    )
    repeat = f"- repeat: `sentiflow run runs:/{version.run_id} output_uri=NEW`\n"
    note = f"75.0% test accuracy [Report]({report})\n- data\n{repeat}"
    assert version.description == note
    assert found["train"].data.tags["mlflow.note.content"] == note
    assert Path(version.source, "model_card.md").read_bytes() == b"card"
    assert send(output, uri) == ["complete"] * 4
    assert len(client.search_model_versions("name = 'laws'")) == 1


def test_an_older_run_that_is_imported_leaves_the_candidate_and_has_its_figures(
    output, uri, make_package, tmp_path
):
    with recording.open_run(
        experiment_store.open_store(uri, experiment="laws", required=True),
        "train", group="another", tags={},
    ) as recorder:  # fmt: skip
        newer = model_registry.register(
            make_package(seed=31), name="laws", tracking_uri=uri, run_id=recorder.run_id
        )
    package = make_package(f"{output}/trained/model")
    records = publish_run(output, model=manifest.read(package)["fingerprint"], registers="evaluate")
    send(output, uri)
    client = MlflowClient(uri)
    assert int(client.get_model_version_by_alias("laws", "candidate").version) == newer.number
    tags = client.get_model_version("laws", "2").tags
    assert tags["sentiflow.test_accuracy"] == "0.750000"
    assert tags["sentiflow.at_a_glance"] == "75.0% test accuracy"
    assert tags["sentiflow.test_data"] == records["prepare"]["fingerprint"]


def test_a_run_that_was_imported_has_its_command_and_settings(output, uri, tmp_path):
    tags = {"sentiflow.command": "sentiflow train a.yaml", "sentiflow.directory": "/home/ann"}
    run = describe("evaluate", tags=tags, config="name: laws\n")
    publish(f"{output}/report", "evaluate", {}, run)
    send(output, uri)
    found = runs(uri)["evaluate"]
    assert found.data.tags["sentiflow.command"] == "sentiflow train a.yaml"
    client = MlflowClient(uri)
    path = client.download_artifacts(found.info.run_id, "config.yaml", str(tmp_path))
    assert Path(path).read_text() == "name: laws\n"


@pytest.mark.parametrize("times", ["x", "-1", "9" * 30])
def test_a_number_of_repetitions_that_is_none_is_refused(output, times):
    run = describe("trends", tags={"sentiflow.times_repeated": times})
    publish(f"{output}/trends", "trends", {}, run)
    with pytest.raises(
        UserError, match=r"describes no run: sentiflow\.times_repeated is no number"
    ):
        rebuild.find(output)


def test_the_command_says_what_it_did_and_where(output, uri):
    publish_run(output)
    result = invoke(output, "--tracking-uri", uri)
    assert result.exit_code == 0, result.stderr
    assert "tracking  added     train abcd\n" in result.stderr
    assert f"4 runs in {uri}" in result.stderr
    assert f"sentiflow ui --tracking-uri {uri}\n" in result.stderr
    assert "complete  train abcd\n" in invoke(output, "--tracking-uri", uri).stderr


@pytest.mark.parametrize(
    ("arguments", "code", "problem"),
    [
        (["nothing-here"], 2, "nothing-here has no finished stage"),
        (["OUTPUT", "--tracking-uri", "http://127.0.0.1:9"], 1, "cannot reach the MLflow store"),
        (
            ["OUTPUT", "--tracking-uri", "mlruns"],
            2,
            "'mlruns' is not the address of",
        ),
    ],
)
def test_what_cannot_be_imported_is_said_in_one_line(output, arguments, code, problem):
    publish_run(output)
    result = invoke(*(output if item == "OUTPUT" else item for item in arguments))
    assert result.exit_code == code
    (line,) = messages(result.stderr)
    assert problem in line


def test_a_stage_that_does_not_describe_its_run_cannot_be_imported(output):
    publish(output, "train", {}, None, history=EPOCHS)
    with pytest.raises(UserError, match="no finished stage that describes its run"):
        rebuild.find(output)


def make_stage() -> types.SimpleNamespace:
    """Make a stage that logs and publishes."""

    def resolve(config):
        spec = OutputSpec("evaluate", config.evaluate.output_uri, {}, {})
        return types.SimpleNamespace(config=config, spec=spec)

    def run(plan, output, recorder):
        output.begin()
        recorder.log_metrics({"test/accuracy": 0.5})
        return output.publish(counts={}, files=[], seconds=1, run=recorder.describe())

    return types.SimpleNamespace(resolve=resolve, run=run)


def test_a_job_that_ran_without_the_store_is_imported_later(
    tmp_path, sample_csv, monkeypatch, caplog
):
    monkeypatch.setattr(stage_plans, "import_stage", lambda verb: make_stage())
    away = {"uri": "http://127.0.0.1:9", "required": False}
    path = write_config(tmp_path, sample_csv, tracking=away)
    stages.run(settings.load(path), ["evaluate"])
    repair = f"sentiflow tracking import {tmp_path}/run --tracking-uri http://127.0.0.1:9"
    assert caplog.messages[-1].endswith(repair)
    uri = make_store(tmp_path)
    send(f"{tmp_path}/run", uri)
    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("test").experiment_id])
    assert run.data.metrics == {"test/accuracy": 0.5}


@pytest.mark.ray
def test_an_imported_run_equals_the_one_that_a_healthy_store_has(finished_run, tmp_path):
    """All but step, live and system metrics, the settings file and the process is in manifests."""
    before = f"sqlite:///{finished_run}/mlflow.db"
    after = f"sqlite:///{tmp_path}/mlflow.db"
    assert send(str(finished_run / "run"), before) == ["complete"] * 4
    make_store(tmp_path)
    send(str(finished_run / "run"), after)
    first, second = describe_runs(before), describe_runs(after)
    assert first.keys() == second.keys()
    for stage, run in first.items():
        assert run == second[stage]


def describe_runs(uri: str, name: str = "test") -> dict[str, object]:
    """Collect what must be equal in two stores."""
    client = MlflowClient(uri)
    found = {}
    experiment = client.get_experiment_by_name(name).experiment_id
    for run in client.search_runs([experiment]):
        metrics = {
            name: {
                (p.step, p.value)
                for p in client.get_metric_history(run.info.run_id, name)
                if not math.isnan(p.value)  # what was reserved at the beginning
            }
            for name in run.data.metrics
            if not name.startswith(("step/", "system/")) and "/live_" not in name
        }
        tags = {
            # Each store has ids of its own.
            k: re.sub(r"(#/experiments/\d+/runs/|runs:/)\w{32}", "RUN", v)
            for k, v in run.data.tags.items()
            if k != "mlflow.log-model.history"
        }
        datasets = sorted(str(dict(item.dataset)) for item in run.inputs.dataset_inputs)
        files = {file.path for file in client.list_artifacts(run.info.run_id)} - {"settings.yaml"}
        versions = [v.version for v in client.search_model_versions(f"name = '{name}'")]
        found[tags["sentiflow.stage"]] = (
            run.info.run_name, run.info.status, run.data.params, metrics, tags, datasets, files,
            versions,
        )  # fmt: skip
    return found
