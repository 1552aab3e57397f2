"""What a Python program gets from a finished run: tables, metrics, the report."""

import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

import sentiflow
from sentiflow.errors import UserError

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def run(finished_run) -> sentiflow.Run:
    return sentiflow.load_run(finished_run / "run")


def test_each_way_to_the_predictions_gives_the_same_table(run, finished_run):
    folder = finished_run / "run"
    expected = pd.read_parquet(folder / "scored/predictions")
    for place in (run, run.scored, str(folder), folder, folder / "scored", f"{folder}/scored/"):
        pd.testing.assert_frame_equal(sentiflow.read_predictions(place), expected)
    table = run.predictions.to_arrow()
    assert table.equals(pq.read_table(folder / "scored/predictions"))
    assert len(run.predictions) == len(table) == run.scored.counts["accepted"]
    assert run.predictions.columns == table.column_names


def test_columns_and_rows_are_chosen_as_they_are_read(run):
    test = sentiflow.read_predictions(
        run, ["row_id", "probability"], filters=[("split", "==", "test"), ("num_tokens", ">", 2)]
    )
    assert list(test.columns) == ["row_id", "probability"]
    whole = sentiflow.read_predictions(run)
    chosen = whole[whole["split"].eq("test") & whole["num_tokens"].gt(2)]
    assert test["row_id"].tolist() == chosen["row_id"].tolist()
    assert 0 < len(test) < len(whole)


def test_a_run_has_what_other_calls_have_put_into_its_directory(run):
    fewer = sentiflow.Run(run.output_uri, {"prepare": run.prepared})
    assert fewer.scored.counts == run.scored.counts
    with pytest.raises(
        UserError, match=r"no finished output of sentiflow trends: call sentiflow\.trends"
    ):
        _ = fewer.trends


@pytest.mark.parametrize(
    "wanted", [{"columns": ["nope"]}, {"filters": [("nope", "==", 1)]}], ids=str
)
def test_a_column_that_is_not_there_is_named(run, wanted):
    with pytest.raises(UserError, match="has no column nope: there are row_id, tweet_id, split"):
        sentiflow.read_predictions(run, **wanted)


def test_metrics_are_those_of_the_report(run, finished_run):
    content = json.loads((finished_run / "run/report/metrics.json").read_text())
    test = content["figures"]["test"]
    assert run.metrics["test/accuracy"] == test["accuracy"]
    assert run.metrics["test/roc_auc"] == test["roc_auc"]
    assert run.trained.history["epoch"].tolist() == list(range(1, 7))


def test_the_report_is_shown_by_its_headlines(run):
    text = str(run.report)
    page = run.report._repr_html_()
    number, meaning = run.report.headlines[0]
    assert text.splitlines()[0].split(maxsplit=1) == [number, meaning]
    assert f"<th>{number}</th>" in page
    assert f'href="{run.report.uri}"' in page
    assert run.report.read().startswith("<!DOCTYPE html>")


def test_what_a_run_lacks_is_said_with_the_call_that_makes_it(finished_run, tmp_path):
    shutil.copytree(finished_run / "run/prepared", tmp_path / "prepared")
    run = sentiflow.load_run(tmp_path)
    assert list(run.stages) == ["prepare"]
    with pytest.raises(
        UserError, match=r"no finished output of sentiflow score: call sentiflow\.sc"
    ):
        run.predictions  # noqa: B018
    with pytest.raises(UserError, match="no finished stage of a run"):
        sentiflow.load_run(tmp_path / "prepared/tweets")
    with pytest.raises(UserError, match=r"has no manifest\.json"):
        sentiflow.read_predictions(tmp_path)


def test_results_are_read_from_an_object_store(finished_run, bucket):
    import boto3

    client = boto3.client("s3")
    root = finished_run / "run/scored"
    for path in filter(lambda path: path.is_file(), root.rglob("*")):
        client.upload_file(str(path), "corpus", f"my run/scored/{path.relative_to(root)}")
    expected = sentiflow.read_predictions(root)
    pd.testing.assert_frame_equal(sentiflow.read_predictions(f"{bucket}/my run"), expected)
