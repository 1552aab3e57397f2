"""``sentiflow trends``: typed as a user types it, tracked in a real MLflow store."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from conftest import make_store
from corpora import CLASSES, STARS, draw, draw_stars, score
from mlflow import MlflowClient
from typer.testing import CliRunner

import sentiflow
from sentiflow.cli.app import app

NUM_ROWS = 3000


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A directory with a config and a scored corpus without labels."""
    table, truth = draw(NUM_ROWS)
    score(tmp_path / "runs/a", table)
    raw = {"name": "air", "output_uri": "runs/a", "trends": {"by": ["airline", "created:day"]}}
    raw["tracking"] = {"uri": make_store(tmp_path)}
    (tmp_path / "air.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.chdir(tmp_path)
    return tmp_path, truth


def invoke(*arguments):
    return CliRunner().invoke(app, ["trends", "air.yaml", *map(str, arguments)])


def test_a_sample_is_drawn_labelled_and_corrects_the_shares(place):
    folder, truth = place
    first = invoke()
    assert first.exit_code == 0, first.stderr
    assert "uncorrected" in first.stdout
    assert "--sample 300 --output to_label.csv" in " ".join(first.stdout.split())
    found = json.loads(invoke("--json").stdout)["trends"]
    assert found["counts"]["rows"] == NUM_ROWS
    assert "complete" in invoke("--dry-run").stdout
    drawn = json.loads(invoke("--sample", 5, "--output", "x.csv", "--json").stdout)
    assert drawn == {"path": "x.csv", "rows": 5, "classes": list(CLASSES)}
    drawn = invoke("--sample", 300, "--output", "to_label.csv")
    assert drawn.exit_code == 0, drawn.stderr
    assert drawn.stdout.splitlines() == [
        "300 rows to label: to_label.csv",
        "They are not in earlier draws: name the files of all draws in trends.labels.",
        "Write negative, positive or neutral in the column label, then:",
        "  sentiflow trends air.yaml 'trends.labels=[x.csv,to_label.csv]' --overwrite",
    ]
    table = pd.read_csv("to_label.csv")
    assert set(table["sample"]) == {"300 of 3,000 rows by airline, after 5 of 3,000"}
    assert not set(table["row_id"]) & set(pd.read_csv("x.csv")["row_id"])
    table.assign(label=np.array(CLASSES)[truth[table["row_id"]]]).to_csv("to_label.csv")
    changed = invoke("trends.labels=to_label.csv")
    assert changed.exit_code == 2
    assert "another labels" in changed.stderr
    second = invoke("trends.labels=to_label.csv", "--overwrite")
    assert second.exit_code == 0, second.stderr
    assert "of the texts are negative (95% interval" in second.stdout
    trends = sentiflow.load_run("runs/a").trends
    found = trends.shares.query("by == 'all' and `class` == 'negative'").iloc[0]
    assert found["low"] < (truth == 0).mean() < found["high"]
    assert found["labelled"] == 300
    store = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    (experiment,) = store.search_experiments(filter_string="name = 'air'")
    run = store.search_runs([experiment.experiment_id])[0]
    assert run.data.metrics["trends/share_negative"] == pytest.approx(found["corrected_share"])
    assert run.data.tags["sentiflow.stage"] == "trends"
    assert "of the texts are negative" in run.data.tags["mlflow.note.content"]
    paths = {item.path for item in store.list_artifacts(run.info.run_id)}
    assert {"trends.html", "plots"} <= paths
    assert trends.metrics["trends/share_negative"] == run.data.metrics["trends/share_negative"]


def test_the_sample_needs_a_file_that_is_free(place):
    for arguments, message in (
        (["--sample", 9], "--sample and --output need each other"),
        (["--sample", 9, "--output", "air.yaml"], "--output air.yaml exists"),
        (["--width", 3, "--output", "air.yaml"], "--output air.yaml exists"),
        (["--sample", 9, "--width", 3], "--sample N and --width POINTS exclude each other"),
        (["--width", 0], "--width 0 is not above 0 and below 50"),
        (["--width", 50], "--width 50 is not above 0 and below 50"),
        (["--width", "nan"], "--width nan is not above 0 and below 50"),
        (["--width", 0.01], "all 3,000 rows would have to be labelled"),
        (["trends.labels=gone.csv"], "trends.labels: no such file"),
        (["trends.by=brand"], "no column brand"),
    ):
        found = invoke(*arguments)
        assert (found.exit_code, message in found.stderr) == (2, True), found.stderr


def test_as_many_rows_are_drawn_as_a_width_needs(place):
    folder, truth = place
    planned = json.loads(invoke("--width", 4, "--json").stdout)
    assert planned["rows"] == 0
    number = planned["width"]["labels"]
    assert not (folder / "runs/a/samples").exists()
    drawn = invoke("--sample", "--width", 4, "--output", "to_label.csv")
    assert drawn.exit_code == 0, drawn.stderr
    lines = drawn.stdout.splitlines()
    assert lines[0].startswith(f"{number:,} labels for ±4 points in all 3,000 texts: the 95% ")
    assert any(line.startswith("All groups by airline within ±4 points: ") for line in lines)
    assert "mean rating" not in drawn.stdout
    assert lines[-3].startswith(f"{number:,} rows to label: to_label.csv")
    again = invoke("--width", 4, "--output", "again.csv")
    assert again.exit_code == 0
    assert "No row was drawn, so there is no again.csv." in again.stdout
    assert not (folder / "again.csv").exists()

    table = pd.read_csv("to_label.csv")
    table.assign(label=np.array(CLASSES)[truth[table["row_id"]]]).to_csv("to_label.csv")
    found = invoke("trends.labels=to_label.csv", "--json")
    assert found.exit_code == 0, found.stderr
    record = json.loads(found.stdout)["trends"]
    width = record["width"]
    assert (width["wanted"], width["labels"], width["labelled"]) == (4, number, number)
    said = f"±{width['reached']:.1f} points: the widest interval, of {width['widest']}"
    assert said in found.stderr
    page = (folder / "runs/a/trends/trends.html").read_text()
    assert said.partition(" ")[2] in page
    more = json.loads(
        invoke(
            *("--width", 2, "--output", "more.csv", "trends.labels=to_label.csv", "--json")
        ).stdout
    )
    assert more["width"]["labelled"] == number
    assert more["rows"] == more["width"]["more"] == more["width"]["labels"] - number
    assert len(pd.read_csv("more.csv")) == more["rows"]


def test_a_width_is_of_all_texts_and_what_labels_of_the_corpus_reach_is_said(place):
    folder, truth = place
    table, _ = draw(NUM_ROWS)
    shutil.rmtree(folder / "runs/a/scored")
    score(folder / "runs/a", table, np.where(np.arange(NUM_ROWS) % 3 == 0, truth, -1))
    found = invoke("--width", 4)
    assert found.exit_code == 0, found.stderr
    lines = found.stdout.splitlines()
    assert "points in all 3,000 texts: the 95% interval of" in lines[0]
    assert lines[1] == (
        "1,000 of the texts have a label and count as known: the sample is of the other 2,000"
    )
    assert re.fullmatch(
        r"By the labels that are there, if they are a random sample, ±\d\.\d points are reached "
        r"so far, of (negative|positive|neutral)",
        lines[2],
    )
    width = json.loads(invoke("--width", 4, "--json").stdout)["width"]
    assert (width["texts"], width["known"]) == (3000, 1000)
    assert f"±{width['reached']:.1f} points" in lines[2]


def test_labels_of_ratings_are_counted_drawn_and_correct_the_mean(place):
    folder, _ = place
    table, truth = draw_stars(NUM_ROWS)
    table = table.append_column("text", pa.array([f"text {row}" for row in range(NUM_ROWS)]))
    shutil.rmtree(folder / "runs/a/scored")
    score(folder / "runs/a", table, classes=STARS, values=range(1, 6))
    counted = invoke("trends.by=[airline]", "--width", 4, "--output", "to_label.csv")
    assert counted.exit_code == 0, counted.stderr
    width = json.loads(invoke("trends.by=[airline]", "--width", 4, "--json").stdout)["width"]
    widest = width["widest"]
    assert f"the 95% interval of “{widest}” is the widest" in counted.stdout
    assert widest in STARS
    assert "points of the shares of the classes, not of the mean rating" in counted.stdout
    refused = invoke("trends.by=[airline]", "--width", 0.01)
    assert refused.exit_code == 2
    assert "name a larger half-width, in points of the shares, not of the mean" in refused.stderr
    rows = pd.read_csv("to_label.csv")
    assert len(rows) == width["labels"] == width["pending"]
    rows.assign(label=truth[rows["row_id"]] + 1).to_csv("to_label.csv")
    found = invoke("trends.by=[airline]", "trends.labels=to_label.csv", "--json")
    assert found.exit_code == 0, found.stderr
    reached = json.loads(found.stdout)["trends"]["width"]
    assert reached["reached"] < 1.5 * 4
    mean = sentiflow.load_run("runs/a").trends.means.iloc[0]
    assert mean["low"] < truth.mean() + 1 < mean["high"]
    assert mean["labelled"] == len(rows)
    more = invoke(
        "trends.by=[airline]", "trends.labels=to_label.csv", "--sample", 50, "--output", "more.csv"
    )
    assert more.exit_code == 0, more.stderr
    assert not set(pd.read_csv("more.csv")["row_id"]) & set(rows["row_id"])


def test_rows_of_a_run_in_mlflow_are_drawn_in_another_directory(place):
    folder, _ = place
    store = f"sqlite:///{folder}/mlflow.db"
    assert invoke().exit_code == 0
    client = MlflowClient(store)
    experiment = client.get_experiment_by_name("air")
    (run,) = client.search_runs([experiment.experiment_id])
    name, tracking = f"runs:/{run.info.run_id}", f"tracking.uri={store}"
    sample = ["--sample", "9", "--output", "to_label.csv"]

    refused = CliRunner().invoke(app, ["trends", name, tracking, *sample])
    assert refused.exit_code == 2
    assert "can be repeated in another directory only: add output_uri=NEW" in refused.stderr
    typed = [name, tracking, "output_uri=again", "trends.labels=first.csv"]
    drawn = CliRunner().invoke(app, ["trends", *typed, *sample])

    assert drawn.exit_code == 0, drawn.stderr
    again = [*typed[:3], "'trends.labels=[first.csv,to_label.csv]'", "--overwrite"]
    assert drawn.stdout.splitlines()[-1].split() == ["sentiflow", "trends", *again]
    assert len(pd.read_csv("to_label.csv")) == 9
    assert (folder / "again/samples/draw-0001.json").exists()
    assert not (folder / "runs/a/samples").exists()
