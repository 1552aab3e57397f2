"""A real run from CSV to report: its outputs, and running it again."""

import json
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from conftest import PROJECT, REAL_DATA, write_config
from mlflow import MlflowClient
from test_cli import invoke

from sentiflow.config import settings
from sentiflow.data import schema
from sentiflow.errors import UserError
from sentiflow.models.package import ModelPackage
from sentiflow.pipeline import stage_plans, stages

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def run_here(folder, verb: str, *overrides: str, overwrite: bool = False):
    """Run a job in this process, on the session's Ray."""
    config = settings.load(folder / "config.yaml", overrides)
    verbs = [v for v in stage_plans.VERBS if verb in (v, "run")]
    return stages.run(config, verbs, overwrite=overwrite)


STAGES = {"prepare": "prepared", "train": "trained", "score": "scored", "evaluate": "report"}


def read(folder, name: str) -> pa.Table:
    return ds.dataset(folder / "run" / name, format="parquet", partitioning=None).to_table()


def record(folder, directory: str) -> dict:
    return json.loads((folder / "run" / directory / "manifest.json").read_text())


@pytest.fixture
def copy_of_run(finished_run, tmp_path):
    """A finished run of one's own to spoil; the settings name the new place."""
    shutil.copytree(finished_run, tmp_path, dirs_exist_ok=True)
    config = tmp_path / "config.yaml"
    config.write_text(config.read_text().replace(str(finished_run), str(tmp_path)))
    return tmp_path


def test_rows_in_are_rows_accepted_rejected_and_left_out(finished_run):
    counts = record(finished_run, "prepared")["counts"]
    assert counts["rows_read"] == 6000
    assert counts["rows_read"] == counts["accepted"] + counts["rejected"] + counts["left_out"]
    assert counts["accepted"] == len(read(finished_run, "prepared/tweets"))


def test_every_accepted_row_has_exactly_one_prediction(finished_run):
    tweets = read(finished_run, "prepared/tweets")
    predictions = read(finished_run, "scored/predictions")
    row_id = predictions["row_id"].to_numpy()
    assert len(np.unique(row_id)) == len(row_id)
    np.testing.assert_array_equal(np.sort(row_id), np.sort(tweets["row_id"].to_numpy()))
    assert pd.read_parquet(finished_run / "run/scored/predictions").shape[0] == len(row_id)


def test_tables_have_the_columns_of_the_contract(finished_run):
    for name, expected in [
        ("prepared/tweets", schema.TWEETS),
        ("prepared/encoded", schema.ENCODED),
        ("scored/predictions", schema.predictions(schema.BINARY)),
    ]:
        for path in sorted((finished_run / "run" / name).rglob("*.parquet")):
            assert pq.read_schema(path).equals(expected), path


def test_a_prediction_is_what_the_package_says_of_the_text(finished_run):
    tweets = read(finished_run, "prepared/tweets").to_pandas().set_index("row_id")
    predictions = read(finished_run, "scored/predictions").to_pandas().set_index("row_id")
    chosen = predictions.index[::97]
    package = ModelPackage.load(str(finished_run / "run/trained/model"))
    scores = package.score(pa.array(tweets.loc[chosen, "text"], pa.string()))
    np.testing.assert_allclose(
        predictions.loc[chosen, "probability"], scores.probability, atol=1e-6
    )
    np.testing.assert_array_equal(predictions.loc[chosen, "num_tokens"], scores.num_tokens)
    np.testing.assert_array_equal(predictions.loc[chosen, "label"], tweets.loc[chosen, "label"])


def test_equal_texts_are_in_one_split(finished_run):
    folder = finished_run / "run/prepared/tweets"
    splits = {
        split: set(ds.dataset(folder / f"split={split}").to_table()["text"].to_pylist())
        for split in schema.SPLITS
    }
    assert not splits["train"] & splits["validation"]
    assert not splits["train"] & splits["test"]
    assert not splits["validation"] & splits["test"]


def test_every_manifest_lists_its_files_and_names_its_inputs(finished_run):
    for directory in STAGES.values():
        manifest = record(finished_run, directory)
        root = finished_run / "run" / directory
        for item in manifest["files"]:
            assert (root / item["path"]).stat().st_size == item["bytes"]
        listed = {item["path"] for item in manifest["files"]} | {"manifest.json"}
        found = {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}
        assert found == listed
    chain = [record(finished_run, d) for d in ("prepared", "trained", "scored", "report")]
    assert chain[1]["inputs"]["prepared"]["fingerprint"] == chain[0]["fingerprint"]
    assert chain[2]["inputs"]["model"]["fingerprint"] == chain[1]["model_fingerprint"]
    assert chain[2]["inputs"]["corpus"]["fingerprint"] == chain[0]["fingerprint"]
    assert chain[3]["inputs"]["scored"]["fingerprint"] == chain[2]["fingerprint"]


def test_accuracy_in_the_report_is_that_of_the_predictions(finished_run):
    predictions = read(finished_run, "scored/predictions").to_pandas()
    test = predictions[predictions["split"] == "test"]
    figures = json.loads((finished_run / "run/report/metrics.json").read_text())["figures"]["test"]
    assert figures["num_rows"] == len(test)
    assert figures["accuracy"] == pytest.approx((test["label"] == test["prediction"]).mean())
    assert figures["accuracy"] > 0.75


def test_each_job_has_one_finished_mlflow_run_and_training_knows_the_test_accuracy(finished_run):
    client = MlflowClient(tracking_uri=f"sqlite:///{finished_run}/mlflow.db")
    experiment = client.get_experiment_by_name("test")
    runs = {
        run.data.tags["sentiflow.stage"]: run
        for run in client.search_runs([experiment.experiment_id])
    }
    assert set(runs) == set(STAGES)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert len({run.data.tags["sentiflow.run"] for run in runs.values()}) == 1
    train = runs["train"]
    figures = record(finished_run, "report")["figures"]["test"]
    assert train.data.metrics["test/accuracy"] == pytest.approx(figures["accuracy"])
    history = client.get_metric_history(train.info.run_id, "validation/accuracy")
    assert [point.step for point in history] == [*range(1, 7), 6], "and of the kept model"
    assert train.data.params["train.model.cell"] == "gru"
    files = {file.path for file in client.list_artifacts(runs["evaluate"].info.run_id)}
    assert {"report.html", "metrics.json", "plots", "settings.yaml"} <= files


def test_results_are_on_standard_output_and_progress_on_standard_error(finished_run):
    stdout = (finished_run / "stdout.txt").read_text()
    stderr = (finished_run / "stderr.txt").read_text()
    for word in ("rows read", "accepted", "rejected", "test accuracy", "95% interval", "Next:"):
        assert word in stdout
    assert not any(line.endswith(" ") for line in stdout.splitlines())
    assert "epoch 6" in stderr
    assert "epoch 6" not in stdout
    lines = stderr.strip().splitlines()
    ours = {*STAGES, "tracking"}  # a busy machine shows that it waits for MLflow
    assert all(line.split()[0] in ours for line in lines), "the libraries' own noise is silenced"


def test_running_again_does_nothing_and_says_so(finished_run):
    before = {p: p.stat().st_mtime_ns for p in (finished_run / "run").rglob("*")}
    result = invoke("run", str(finished_run / "config.yaml"))
    assert result.exit_code == 0
    assert "Everything was complete already" in result.stdout
    assert result.stderr.count("complete:") == 4
    assert {p: p.stat().st_mtime_ns for p in (finished_run / "run").rglob("*")} == before


def test_a_moved_input_with_the_same_bytes_is_the_same_input(copy_of_run, sample_csv):
    moved = copy_of_run / "moved.csv"
    shutil.copy(sample_csv, moved)
    (outcome,) = run_here(copy_of_run, "prepare", f"prepare.csv={moved}")
    assert not outcome.ran


def test_a_finished_preparation_is_skipped_when_its_input_is_gone(copy_of_run, sample_csv):
    gone = copy_of_run / "tweets.csv"
    for path in (copy_of_run / "config.yaml", copy_of_run / "run/prepared/manifest.json"):
        path.write_text(path.read_text().replace(str(sample_csv), str(gone)))
    (outcome,) = run_here(copy_of_run, "prepare")
    assert not outcome.ran
    with pytest.raises(UserError, match="no such file"):
        run_here(copy_of_run, "prepare", f"prepare.csv={copy_of_run}/other.csv")
    with pytest.raises(UserError, match="min_count: 2 there, 3 here"):
        run_here(copy_of_run, "prepare", "prepare.vocabulary.min_count=3")


def test_a_changed_input_is_another_input(copy_of_run, sample_csv):
    changed = copy_of_run / "changed.csv"
    changed.write_bytes(sample_csv.read_bytes().replace(b"great", b"graet", 1))
    with pytest.raises(UserError, match="another csv"):
        run_here(copy_of_run, "prepare", f"prepare.csv={changed}")


def test_overwrite_replaces_what_differs_and_what_follows(copy_of_run, resources):
    changes = ("train.seed=5", "train.num_epochs=1", "evaluate.behavior=false")
    outcomes = run_here(copy_of_run, "run", *changes, overwrite=True)
    assert [outcome.ran for outcome in outcomes] == [False, True, True, True]
    assert record(copy_of_run, "trained")["settings"]["seed"] == 5
    assert (
        record(copy_of_run, "scored")["inputs"]["model"]["fingerprint"]
        == (record(copy_of_run, "trained")["model_fingerprint"])
    )


def test_dry_run_shows_settings_and_plan_and_does_nothing(copy_of_run):
    shutil.rmtree(copy_of_run / "run" / "scored")
    before = sorted(copy_of_run.rglob("*"))
    result = invoke("run", str(copy_of_run / "config.yaml"), "--dry-run")
    assert result.exit_code == 0
    assert "hidden_size: 32" in result.stdout
    assert "# train     complete" in result.stdout
    assert "# score     would run" in result.stdout
    assert "# evaluate  after score" in result.stdout
    assert sorted(copy_of_run.rglob("*")) == before


def test_a_killed_run_is_resumed(copy_of_run, finished_run, resources, caplog):
    """Kill the driver while it trains; the model is that of a training that was not killed."""
    shutil.rmtree(copy_of_run / "run/trained")
    command = [sys.executable, "-m", "sentiflow", "train", str(copy_of_run / "config.yaml")]
    with subprocess.Popen(command, cwd=PROJECT, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("train     epoch"):
                break
        os.kill(process.pid, signal.SIGKILL)
    assert list((copy_of_run / "run/trained").glob("_work/*/started.json"))
    assert not (copy_of_run / "run/trained/manifest.json").exists()
    caplog.set_level("INFO", logger="sentiflow.progress")
    run_here(copy_of_run, "train")
    assert "resuming at step" in caplog.text
    assert not (copy_of_run / "run/trained/_work").exists()
    weights = "run/trained/model/weights.safetensors"
    assert (copy_of_run / weights).read_bytes() == (finished_run / weights).read_bytes()


@pytest.mark.soak
def test_two_workers_take_the_same_steps_as_one(copy_of_run, resources):
    changes = ("train.num_epochs=1",)
    histories = []
    for num_workers in (1, 2):
        place = f"train.output_uri={copy_of_run}/by-{num_workers}"
        (outcome,) = run_here(
            copy_of_run, "train", *changes, place, f"train.num_workers={num_workers}"
        )
        histories.append(outcome.record["history"][0])
    for figure in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
        assert histories[0][figure] == pytest.approx(histories[1][figure], abs=1e-4), figure


def test_a_csv_corpus_is_scored_and_its_bad_rows_are_kept(copy_of_run, resources):
    csv = copy_of_run / "other.csv"
    csv.write_bytes(
        b'"9","1","d","q","u","what a lovely day"\n"4","2"\n"0","3","d","q","u","so sad"\n'
    )
    rows, rejected = score_corpus(copy_of_run, csv, "score.keep_columns=[text]")
    assert rows["text"].to_dict() == {0: "what a lovely day", 2: "so sad"}
    assert rows["label"].isna().to_dict() == {0: True, 2: False}
    assert [(r["row_id"], r["reason"]) for r in rejected] == [(1, "wrong number of columns")]


def test_a_parquet_corpus_is_scored_by_its_own_row_ids_if_they_are_unique(copy_of_run, resources):
    path = copy_of_run / "other.parquet"
    table = pa.table(
        {"row_id": [70, 50, 60], "text": ["so sad", None, "lovely"], "place": list("abc")}
    )
    pq.write_table(table, path)
    rows, rejected = score_corpus(copy_of_run, path, "score.keep_columns=[place]")
    assert rows["place"].to_dict() == {70: "a", 60: "c"}
    assert [(r["row_id"], r["offset"], r["reason"]) for r in rejected] == [(50, 1, "empty text")]
    pq.write_table(table.set_column(0, "row_id", pa.array([7, 7, 7])), path)
    rows, _ = score_corpus(copy_of_run, path, "score.keep_columns=[place]")
    assert rows["place"].to_dict() == {0: "a", 2: "c"}


def score_corpus(folder, corpus, *overrides: str) -> tuple[pd.DataFrame, list[dict]]:
    output = folder / "other"
    changes = (f"score.corpus={corpus}", f"score.output_uri={output}", *overrides)
    run_here(folder, "score", *changes, overwrite=True)
    rows = pq.read_table(output / "predictions").to_pandas().set_index("row_id")
    refused = output / "rejected"
    return rows, pq.read_table(refused).to_pylist() if refused.exists() else []


@pytest.mark.skipif(not REAL_DATA.exists(), reason="the real tweets are not here")
def test_real_tweets_are_all_read(tmp_path, resources):
    write_config(tmp_path, REAL_DATA / "sentiment140_*.csv")
    (outcome,) = run_here(tmp_path, "prepare", "prepare.rows_per_file=40000")
    counts = outcome.record["counts"]
    assert counts["rows_read"] == 120_178
    assert counts["accepted"] + counts["rejected"] == 120_178
    row_ids = read(tmp_path, "prepared/tweets")["row_id"].to_numpy()
    assert len(np.unique(row_ids)) == counts["accepted"]


def test_parts_do_not_change_what_is_in_the_tables(tmp_path, sample_csv, finished_run, resources):
    write_config(tmp_path, sample_csv)
    run_here(tmp_path, "prepare", "prepare.rows_per_file=700")
    for name in ("prepared/tweets", "prepared/encoded"):
        ours, theirs = (
            read(folder, name).sort_by("row_id").combine_chunks()
            for folder in (tmp_path, finished_run)
        )
        assert ours.equals(theirs), name


def test_a_vocabulary_of_pretrained_words_drops_the_others(tmp_path, sample_csv, resources):
    write_config(tmp_path, sample_csv)
    run_here(
        tmp_path, "prepare", "prepare.vocabulary={kind: pretrained, max_size: 50}",
        "prepare.tokenizer=tutorial", "prepare.every_nth=3", "prepare.split={kind: tutorial}",
    )  # fmt: skip
    counts = record(tmp_path, "prepared")["counts"]
    assert counts["vocabulary_size"] == 51
    assert counts["left_out"] == 4000
    encoded = read(tmp_path, "prepared/encoded")
    assert encoded["token_ids"].combine_chunks().flatten().to_numpy().max() <= 50
    assert (encoded["row_id"].to_numpy() % 3 == 0).all()
