"""From predictions to the report's directory: what is measured, what is said, what is refused."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mlflow import MlflowClient
from stages import open_output, run_stage
from test_evaluated_rows import replace_column

from sentiflow.config import settings
from sentiflow.data import lineage
from sentiflow.errors import UserError
from sentiflow.evaluation import evaluate as evaluation
from sentiflow.evaluation import report_charts
from sentiflow.progress import Steps
from sentiflow.tracking.recorder import Recorder

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.fixture
def evaluate(finished_run, tmp_path, monkeypatch):
    """Evaluate, into a directory of one's own; returns what ``metrics.json`` holds."""
    monkeypatch.setattr(report_charts, "to_png", lambda figure: b"")  # drawing takes longest

    def run(*overrides):
        report = tmp_path / "report"
        config = settings.load(
            finished_run / "config.yaml", [f"evaluate.output_uri={report}", *overrides]
        )
        record = run_stage(evaluation, config, Recorder(), overwrite=True)
        listed = {item["path"] for item in record["files"]}
        assert listed == {
            str(path.relative_to(report))
            for path in report.rglob("*")
            if path.is_file() and path.name != "manifest.json"
        }
        return json.loads((report / "metrics.json").read_text())

    return run


@pytest.fixture(scope="module")
def metrics(finished_run):
    """What the evaluation of the finished run has left in ``metrics.json``."""
    return json.loads((finished_run / "run/report/metrics.json").read_text())


def test_every_kind_of_result_is_in_metrics_json(finished_run, metrics):
    found = metrics
    assert found["split"] == "test"
    assert set(found["figures"]) == set(found["intervals"]) == {"validation", "test"}
    for name in ("coverage", "slices", "behavior"):
        assert found[name], name
    groups = [bias["category"] for bias in found["group_bias"]] + found["unmeasured_groups"]
    assert sorted(groups) == ["age", "gender", "nationality", "religion"]
    assert {"negation", "mention"} <= {item["name"] for item in found["slices"]}
    assert found["label_errors"]["num_rows"] == found["figures"]["test"]["num_rows"]
    table = pq.read_table(finished_run / "run/report/mistakes.parquet").to_pandas()
    wrong = table[table["kind"] != "label"]
    assert len(wrong)
    assert (wrong["label"] != wrong["prediction"]).all()
    page = (finished_run / "run/report/report.html").read_text()
    assert "Slices" in page
    assert "cut at the maximum length" not in page, "no text of this corpus is"


def test_the_words_that_decide_are_in_a_table_and_on_the_page(finished_run):
    table = pq.read_table(finished_run / "run/report/deciding_words.parquet").to_pandas()
    assert set(table["label"]) == {"negative", "positive"}
    assert (table["mean_part"] > 0).all()
    assert table.groupby("label").size().between(10, 100).all()
    assert {"love", "hate"} & set(table["word"])
    page = (finished_run / "run/report/report.html").read_text()
    assert "Words that decide" in page
    assert "Under a text stand the words that decide" in page
    for label, words in table.groupby("label", sort=False)["word"]:
        assert f">{words.iloc[0]} +" in page, label


def test_the_steps_are_shown_in_their_order(evaluate, monkeypatch):
    shown = []
    show = Steps.show

    def keep(self, name):
        shown.append(1 + list(self.meanings).index(name))
        return show(self, name)

    monkeypatch.setattr(Steps, "show", keep)
    evaluate()
    assert len(shown) > 5
    assert shown == sorted(shown)


def test_the_report_tells_how_many_texts_were_cut(finished_run, evaluate, tmp_path):
    for name in ("scored", "prepared"):
        shutil.copytree(finished_run / "run" / name, tmp_path / name)
        path = tmp_path / name / "manifest.json"
        text = path.read_text().replace(f"{finished_run}/run/prepared", f"{tmp_path}/prepared")
        path.write_text(text.replace('"encoded_cut": 0', '"encoded_cut": 1234'))
    evaluate(f"evaluate.scored_uri={tmp_path}/scored")
    page = (tmp_path / "report/report.html").read_text()
    assert "cut at the maximum length" in page
    assert "1,234" in page


def test_without_the_model_the_rest_is_evaluated(finished_run, evaluate, tmp_path, said):
    scored = tmp_path / "scored"
    shutil.copytree(finished_run / "run/scored", scored)
    path = scored / "manifest.json"
    gone = str(finished_run / "run/trained/model")
    path.write_text(path.read_text().replace(gone, str(tmp_path / "gone")))
    found = evaluate(f"evaluate.scored_uri={scored}")
    assert found["behavior"] == found["group_bias"] == []
    assert "The words that decide are unknown" in (tmp_path / "report/report.html").read_text()
    assert "is not finished" in found["not_asked"] or "no" in found["not_asked"]
    assert "behavior tests are skipped" in said.text
    assert found["slices"]


def test_an_evaluation_takes_what_it_says_of_the_prepared_data_from_its_plan(
    finished_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(report_charts, "to_png", lambda figure: b"")
    for name in ("scored", "prepared"):
        shutil.copytree(finished_run / "run" / name, tmp_path / name)
    path = tmp_path / "scored/manifest.json"
    path.write_text(
        path.read_text().replace(f"{finished_run}/run/prepared", f"{tmp_path}/prepared")
    )
    config = settings.load(
        finished_run / "config.yaml",
        [f"evaluate.scored_uri={tmp_path}/scored", f"evaluate.output_uri={tmp_path}/report"],
    )
    plan = evaluation.resolve(config)
    assert plan.corpus.name == "tweets.csv"
    shutil.rmtree(tmp_path / "prepared")
    with open_output(plan.spec) as output:
        record = evaluation.run(plan, output, Recorder())
    assert record["counts"]["rows"]
    page = (tmp_path / "report/report.html").read_text()
    assert "tweets.csv" in page
    assert "Slices and mistakes need the texts" in page, "the prepared data had them"


def test_no_text_leaves_its_tables_where_none_is_wanted(finished_run, evaluate, tmp_path):
    found = evaluate("evaluate.num_examples=0")
    assert not (tmp_path / "report/mistakes.parquet").exists()
    assert not (tmp_path / "report/deciding_words.parquet").exists()
    assert "Words that decide" not in (tmp_path / "report/report.html").read_text()
    assert all(not test["failures"] for test in found["behavior"])
    page = (tmp_path / "report/report.html").read_text()
    tweets = pq.read_table(finished_run / "run/prepared/tweets/split=test")["text"].to_pylist()
    assert not [text for text in tweets if len(text) > 25 and text in page]


@pytest.fixture
def scored_csv(finished_run, tmp_path):
    """Make the predictions of the finished run those of its CSV, which has no splits."""
    scored = tmp_path / "scored"
    shutil.copytree(finished_run / "run/scored", scored)
    record = json.loads((scored / "manifest.json").read_text())
    prepared = json.loads((finished_run / "run/prepared/manifest.json").read_text())
    record["inputs"]["corpus"] = prepared["inputs"]["csv"]
    record["settings"]["format"] = prepared["settings"]["format"]
    (scored / "manifest.json").write_text(json.dumps(record))
    replace_column(scored, "split", lambda table: pa.nulls(len(table), pa.string()))
    return scored


def test_predictions_without_labels_are_refused_before_anything_is_written(finished_run, tmp_path):
    scored = tmp_path / "scored"
    shutil.copytree(finished_run / "run/scored", scored)
    replace_column(scored, "label", lambda table: pa.nulls(len(table), pa.int8()))
    overrides = [f"evaluate.scored_uri={scored}", f"evaluate.output_uri={tmp_path}/report"]
    config = settings.load(finished_run / "config.yaml", overrides)
    with pytest.raises(UserError, match="has no labelled row that the model was not trained on"):
        run_stage(evaluation, config, Recorder())
    record = json.loads((scored / "manifest.json").read_text())
    (scored / "manifest.json").write_text(json.dumps(record | {"files": []}))
    with pytest.raises(UserError, match="has no prediction: the corpus has no row that was scored"):
        run_stage(evaluation, config, Recorder())
    assert not (tmp_path / "report").exists()


def test_rows_that_the_model_was_trained_on_are_left_out(scored_csv, evaluate, metrics, tmp_path):
    found = evaluate(f"evaluate.scored_uri={scored_csv}", "evaluate.behavior=false")
    assert found["behavior"] == found["group_bias"] == []
    assert found["not_asked"] == "evaluate.behavior is false"
    for name in ("num_rows", "accuracy"):
        assert found["figures"]["all"][name] == metrics["figures"]["test"][name]
    assert "rows are left out: they were used to train or choose the model" in found["notes"][0]
    assert found["notes"][0][1:] in (tmp_path / "report/report.html").read_text()


def test_a_pattern_that_matches_nothing_is_refused_and_the_earlier_report_stays(
    finished_run, evaluate, tmp_path
):
    shutil.copytree(finished_run / "run/report", tmp_path / "report")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("report/*")}
    with pytest.raises(
        UserError,
        match=r"^no text is in the slice nothing \(zzzz\): \d+ evaluated texts were searched: ",
    ):
        evaluate("evaluate.slices.patterns={nothing: zzzz, good: good}", "evaluate.behavior=false")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("report/*")} == before
    found = evaluate(
        "evaluate.slices={columns: [predicted_label], patterns: {morning: '(?i)morning'}}",
        "evaluate.behavior=false",
    )
    own = {item["name"] for item in found["slices"] if item["is_own"]}
    assert own == {"predicted_label: negative", "predicted_label: positive", "morning"}


def test_metrics_of_another_corpus_stay_off_the_training_run(finished_run, evaluate, tmp_path):
    client = MlflowClient(f"sqlite:///{finished_run}/mlflow.db")
    run_id = json.loads((finished_run / "run/trained/manifest.json").read_text())["mlflow_run_id"]
    scored = json.loads((finished_run / "run/scored/manifest.json").read_text())
    training = lineage.training_of(scored["inputs"]["model"])
    assert lineage.is_of_training(scored, training)
    scored["inputs"]["corpus"]["fingerprint"] = "another"
    assert not lineage.is_of_training(scored, training)
    before = client.get_run(run_id).data
    assert before.tags["sentiflow.scored_uri"] == str(finished_run / "run/scored")
    assert before.metrics["test/accuracy"] > 0.5


def test_a_column_that_was_not_kept_is_refused_before_anything_is_written(finished_run, tmp_path):
    overrides = [f"evaluate.output_uri={tmp_path}/report", "evaluate.slices.columns=[brand]"]
    config = settings.load(finished_run / "config.yaml", overrides, command="evaluate")
    with pytest.raises(UserError, match=r"evaluate.slices.columns: .* no column brand"):
        run_stage(evaluation, config, Recorder(), overwrite=True)
    assert not (tmp_path / "report").exists()
