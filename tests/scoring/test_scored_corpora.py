"""Whatever the form of a corpus, its rows are scored or named."""
# ruff: noqa: F811 -- fixtures are imported

import shutil

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from test_cli import invoke
from test_score import configure, corpora, model, record, score, table  # noqa: F401

from sentiflow.errors import UserError
from sentiflow.models.package import ModelPackage

pytestmark = [pytest.mark.ray, pytest.mark.slow]

CLASSES = ("neutral", "negative", "joy")


@pytest.fixture
def of_three(tmp_path, make_package, resources):
    """Make settings for a model of three classes; returns the labels and what was predicted."""
    model = make_package(seed=5, classes=CLASSES)

    def run(name, keep=("text",), **settings):
        corpus = {"corpus": str(tmp_path / name), "model_uri": model, "keep_columns": list(keep)}
        alone = {"name": "three", "output_uri": str(tmp_path / "run"), "score": corpus}
        (tmp_path / "alone.yaml").write_text(yaml.safe_dump(alone | settings))
        score(tmp_path / "alone.yaml")
        scores = ModelPackage.load(model).score(pa.array(table(tmp_path)["text"].tolist()))
        return table(tmp_path), scores

    return run


@pytest.mark.parametrize(
    ("labels", "written", "expected"),
    [
        ({"mixed": "m", "negative": ["n", "neg"]}, "m,n,neg,joy,0,,?", [3, 1, 1, 2, 0, 9, 9]),
        ({"joy": 1, "neutral": 5}, "1,5,2,negative", [2, 0, 9, 1]),
        ("auto", "joy,neutral,0,?", [2, 0, 0, 9]),
    ],
)
def test_a_parquet_corpus_has_the_column_of_labels_of_the_format(
    tmp_path, of_three, labels, written, expected
):
    mood = written.split(",")
    rows = pa.table({"text": ["good day"] * len(mood), "mood": mood, "label": ["joy"] * len(mood)})
    pq.write_table(rows, tmp_path / "a.parquet")
    form = {"kind": "csv", "columns": {"text": "body", "label": "mood"}, "labels": labels}
    predictions, _ = of_three("a.parquet", format=form, keep=["text", "mood"])
    assert predictions["label"].fillna(9).tolist() == expected
    assert predictions["mood"].tolist() == mood


def assert_predicted(predictions, scores, tmp_path):
    """Compare predictions with what the model gives for the texts."""
    assert list(predictions.columns) == [
        "row_id", "tweet_id", "split", "label", "prediction", "predicted_label", "confidence",
        *(f"probability_{name}" for name in CLASSES), "num_tokens", "model_version",
        "text",
    ]  # fmt: skip
    own = predictions[[f"probability_{name}" for name in CLASSES]].to_numpy()
    np.testing.assert_allclose(own, scores.probabilities, atol=1e-6)
    assert predictions["prediction"].tolist() == scores.prediction.tolist()
    labels = [CLASSES[number] for number in scores.prediction]
    assert predictions["predicted_label"].tolist() == labels
    counts = record(tmp_path)["counts"]
    assert counts["predicted"] == {name: labels.count(name) for name in CLASSES}
    assert "positive" not in counts


def test_labels_of_a_corpus_are_matched_by_name_with_the_classes_of_the_model(
    tmp_path, of_three, said
):
    values = ["u", "n", "p", "m", "", "?"] * 20
    rows = [f"good bad day {number},{value}" for number, value in enumerate(values)]
    (tmp_path / "a.csv").write_text("\n".join(["body,mood", *rows]))
    labels = {"mixed": "m", "neutral": "u", "positive": "p", "negative": "n"}
    form = {"kind": "csv", "columns": {"text": "body", "label": "mood"}, "labels": labels}
    predictions, scores = of_three("a.csv", format=form)
    assert_predicted(predictions, scores, tmp_path)
    assert record(tmp_path)["classes"] == [*CLASSES, "positive", "mixed"]
    assert predictions["label"].fillna(9).tolist() == [0, 1, 3, 4, 9, 9] * 20
    assert "20 unknown labels become null: 20 '?'" in said.text
    shares = record(tmp_path)["counts"]["predicted"]
    assert f"{shares['neutral'] / 120:.1%} neutral, {shares['negative'] / 120:.1%} neg" in said.text


def test_files_without_a_column_of_labels_are_scored(tmp_path, of_three):
    form = {"kind": "csv", "columns": {"text": "body", "label": "mood", "id": "n"}}
    form["labels"] = {"neutral": "u", "negative": "n"}
    (tmp_path / "a.csv").write_text("mood,body\nu,good\n")
    (tmp_path / "b.csv").write_text("body\nbad day\n")
    predictions, scores = of_three("*.csv", format=form)
    assert_predicted(predictions, scores, tmp_path)
    assert predictions["label"].fillna(9).tolist() == [0, 9]
    assert predictions["tweet_id"].isna().all()
    shutil.rmtree(tmp_path / "run")
    (tmp_path / "c.csv").write_text("body,moood\nbad day,u\n")
    with pytest.raises(UserError, match=r"c\.csv has no column 'mood': did you mean 'moood'\?"):
        of_three("c.csv", format=form)


def test_labels_are_names_of_classes_with_auto_and_in_parquet(tmp_path, of_three):
    rows = pa.table({"text": ["good", "bad", "day", "so"], "label": ["joy", "negative", "", "x"]})
    pq.write_table(rows, tmp_path / "a.parquet")
    assert of_three("a.parquet")[0]["label"].fillna(9).tolist() == [2, 1, 9, 9]
    shutil.rmtree(tmp_path / "run")
    rows.to_pandas().to_csv(tmp_path / "a.csv", index=False)
    form = {"kind": "csv", "columns": {"text": "text", "label": "label"}, "labels": "auto"}
    predictions, scores = of_three("a.csv", format=form)
    assert predictions["label"].fillna(9).tolist() == [2, 1, 9, 9]
    assert_predicted(predictions, scores, tmp_path)


def test_columns_of_a_csv_are_kept_by_their_name(tmp_path, model, resources):
    path = tmp_path / "shop.csv"
    path.write_text("when,body,stars\n2024-01-01,good day,5\n,bad day,\n2024-01-02,,1\n")
    form = {"kind": "csv", "columns": {"text": "body", "time": "when"}}
    config = configure(tmp_path, model, path, format=form, keep_columns=["stars", "time", "text"])
    score(config)
    found = table(tmp_path)
    assert found["text"].tolist() == ["good day", "bad day"]
    assert found["stars"].fillna("none").tolist() == ["5", "none"]
    assert found["time"].isna().tolist() == [False, True]
    assert record(tmp_path)["counts"]["rejected"] == 1
    with pytest.raises(
        UserError, match=r"shop\.csv has no column color: its columns are 'body', .*'stars'"
    ):
        score(config, "score.keep_columns=[color]", f"score.output_uri={tmp_path}/other")
    path.unlink()
    assert not score(config).ran, "what is complete does not need its corpus"


def test_a_kept_column_has_one_type_over_all_files(tmp_path, model, resources):
    for name, values in {"a": [1, 2], "b": [1.5, None], "c": ["x", "y"]}.items():
        rows = pa.table({"text": ["good", "bad"], "k": values})
        pq.write_table(rows, tmp_path / f"{name}.parquet")
    config = configure(tmp_path, model, tmp_path / "[ab].parquet", keep_columns=["k"])
    score(config)
    assert table(tmp_path)["k"].tolist()[:3] == [1, 2, 1.5]
    with pytest.raises(UserError, match=r"k is int64 in .*a\.parquet, .*string in .*c\.parquet"):
        score(config, f"score.corpus={tmp_path}/?.parquet", f"score.output_uri={tmp_path}/other")
    with pytest.raises(UserError, match="k is string in the new files, but double in the previous"):
        score(config, f"score.corpus={tmp_path}/?.parquet")
    assert len(table(tmp_path)) == 4


def test_what_pandas_writes_of_ids_and_labels_is_read_or_named(tmp_path, model, resources, said):
    frame = pd.DataFrame(
        {"row_id": [1.0, None, 3.0], "text": ["good", "bad", "day"], "label": [0.0, None, 1.0]}
    )
    frame.to_parquet(tmp_path / "a.parquet")
    score(configure(tmp_path, model, tmp_path / "a.parquet"))
    assert table(tmp_path)["row_id"].tolist() == [0, 1, 2]
    assert table(tmp_path)["label"].fillna(9).tolist() == [0, 9, 1]
    assert "a.parquet has a row_id of type double: rows are numbered over all files" in said.text


def test_rejected_rows_and_unknown_labels_are_counted_and_reported(
    tmp_path, model, resources, said
):
    texts = ["good", "", None, "bad", "so good"]
    rows = pa.table({"text": texts, "label": [0, 1, 1, 4, 0]})
    pq.write_table(rows, tmp_path / "a.parquet")
    form = {"max_text_length": 4}
    config = configure(tmp_path, model, tmp_path / "a.parquet", format=form)
    score(config)
    assert (
        f"3 rows rejected (2 empty text, 1 text too long): see {tmp_path}/run/scored/rejected"
        in said.text
    )
    assert "1 unknown label becomes null: 1 '4'" in said.text
    (tmp_path / "b.csv").write_text('9,1,d,q,u,good\n"4","2","d","q","u","bad"\n0,3,d,q,u,so good')
    said.clear()
    score(config, f"score.corpus={tmp_path}/b.csv", f"score.output_uri={tmp_path}/b")
    assert "1 unknown label becomes null" in said.text
    assert "1 row rejected (1 text too long)" in said.text


def test_a_corpus_without_a_readable_row_is_refused(tmp_path, model, resources):
    (tmp_path / "ab.csv").write_text("a,b\nc,d\n")
    pq.write_table(pa.table({"text": ["good"]}), tmp_path / "x.pq")
    config = configure(tmp_path, model, tmp_path / "ab.csv")
    with pytest.raises(UserError, match=r"no row was accepted: 2 rejected \(2 wrong number"):
        score(config)
    assert not (tmp_path / "run/scored").exists()
    with pytest.raises(UserError, match=r"x\.pq is Parquet: its name must end in \.parquet"):
        score(config, f"score.corpus={tmp_path}/x.pq")


def test_a_corpus_of_no_row_has_no_prediction_to_read_or_evaluate(tmp_path, model, resources):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    config = str(configure(tmp_path, model, tmp_path / "none.parquet"))
    scored = invoke("score", config)
    evaluated = invoke("evaluate", config)
    assert (scored.exit_code, scored.stdout) == (0, "")
    assert record(tmp_path)["counts"]["rows_read"] == 0
    assert evaluated.exit_code == 2
    last = evaluated.stderr.splitlines()[-1]
    assert last.endswith("has no prediction: the corpus has no row that was scored")


def test_texts_may_be_in_another_column_and_repeat(tmp_path, model, resources):
    text = pa.array(["good day", "bad day", "good day"]).dictionary_encode()
    pq.write_table(pa.table({"body": text}), tmp_path / "posts.parquet")
    config = configure(tmp_path, model, tmp_path / "posts.parquet", keep_columns=["text"])
    with pytest.raises(UserError, match=r"has no column text of strings.*set score\.text_column"):
        score(config)
    score(config, "score.text_column=body")
    assert table(tmp_path)["text"].tolist() == ["good day", "bad day", "good day"]
