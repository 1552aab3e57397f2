"""Rows to label are drawn with known weights, and the labels come back checked."""

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from corpora import CLASSES, draw, load, score
from stages import run_stage

from sentiflow.data import label_files
from sentiflow.data.text_hash import hash_texts
from sentiflow.errors import UserError
from sentiflow.evaluation import lineage
from sentiflow.shares import labels, trends
from sentiflow.tracking.recording import Recorder

NUM_ROWS, SIZE = 12_000, 400


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    table, truth = draw(NUM_ROWS)
    score(folder, table, np.where(np.arange(NUM_ROWS) < 2000, truth, -1))
    return folder, table.to_pandas().assign(truth=truth)


@pytest.fixture(scope="module")
def drawn(corpus):
    return labels.draw(load(corpus[0], by="airline").trends, SIZE)[0]


def write(folder, text, name="labels.csv"):
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_sample_has_as_many_unlabelled_rows_as_asked_for_and_their_texts(corpus, drawn):
    rows = corpus[1].set_index("row_id")
    assert len(drawn) == drawn["row_id"].nunique() == SIZE
    assert drawn["row_id"].min() >= 2000
    assert drawn["text"].tolist() == rows.loc[drawn["row_id"], "text"].tolist()
    assert not drawn["row_id"].is_monotonic_increasing
    again = labels.draw(load(corpus[0], by="airline").trends, SIZE)[0]
    pd.testing.assert_frame_equal(drawn, again)


def test_weights_stand_for_the_unlabelled_rows(corpus, drawn):
    assert drawn["weight"].min() >= 1
    assert drawn["weight"].sum() == pytest.approx(NUM_ROWS - 2000, rel=0.1)
    airline = corpus[1].set_index("row_id")["airline"]
    counts = airline.loc[drawn["row_id"]].value_counts()
    assert counts["Virgin"] > 1.3 * SIZE * (airline == "Virgin").mean()


def test_uncertain_rows_are_drawn_more_often(corpus, drawn):
    rows = corpus[1].set_index("row_id")
    certainty = rows[[f"probability_{name}" for name in CLASSES]].max(axis=1)
    assert certainty.loc[drawn["row_id"]].mean() < certainty.mean() - 0.01


def test_a_sample_of_more_rows_than_there_are_takes_all_with_weight_one(corpus):
    drawn, _ = labels.draw(load(corpus[0]).trends, 100_000)
    assert sorted(drawn["row_id"]) == list(range(2000, NUM_ROWS))
    assert (drawn["weight"] == 1).all()


def test_the_labelled_sample_corrects_the_shares(corpus, drawn, tmp_path):
    folder, rows = corpus
    truth = rows.set_index("row_id")["truth"]
    filled = drawn.assign(label=[CLASSES[code] for code in truth.loc[drawn["row_id"]]])
    filled.loc[:9, "label"] = ""
    path = tmp_path / "filled.csv"
    path.write_bytes(label_files.to_csv(filled))
    config = load(folder, by="airline", labels=str(path))
    record = run_stage(trends, config, Recorder(), overwrite=True)
    found = pd.read_parquet(folder / "trends/trends.parquet")
    assert record["counts"]["sample"] == SIZE - 10
    assert record["counts"]["counted"] == 2000
    assert record["notes"] == [
        "10 rows of trends.labels have no label yet",
        "it is unknown whether the model was trained on some labelled rows",
    ]
    negative = found[found["class"] == "negative"]
    negative = negative.set_index(negative["group"].fillna("all")).sort_index()
    truths = (rows["truth"] == 0).groupby(rows["airline"]).mean()
    truths["all"] = (rows["truth"] == 0).mean()
    truths = truths[negative.index]
    assert ((negative["low"] <= truths) & (truths <= negative["high"])).all()
    assert (negative["predicted_share"] < negative["low"]).all()


def test_labels_that_the_model_has_learned_say_nothing_of_its_errors(
    corpus, drawn, tmp_path, monkeypatch
):
    """As where the file of labels was named in ``prepare.corrections``, too."""
    folder, rows = corpus
    truth = rows.set_index("row_id")["truth"]
    filled = drawn.assign(label=[CLASSES[code] for code in truth.loc[drawn["row_id"]]])
    path = tmp_path / "filled.csv"
    path.write_bytes(label_files.to_csv(filled))
    by_row = filled["row_id"].to_numpy()[:100]
    by_text = hash_texts(pa.array(filled["text"][100:150], pa.string()))
    monkeypatch.setattr(lineage, "find_training_texts", lambda models: (np.sort(by_text), [True]))
    seen = lineage.TrainingRows(np.sort(by_row), True)
    monkeypatch.setattr(lineage, "find_training_rows", lambda scored, name: seen)
    record = run_stage(trends, load(folder, labels=str(path)), Recorder(), overwrite=True)
    assert record["counts"]["sample"] == SIZE - 150
    assert record["counts"]["counted"] == 2000 + 150
    (note,) = record["notes"]
    assert note.startswith("150 rows of trends.labels are among those that the model was trained")
    all_seen = lineage.TrainingRows(np.sort(filled["row_id"].to_numpy()), True)
    monkeypatch.setattr(lineage, "find_training_rows", lambda scored, name: all_seen)
    berlin = load(folder, labels=str(path), by="created:day", time_zone="Europe/Berlin")
    record = run_stage(trends, berlin, Recorder(), overwrite=True)
    assert record["notes"][0].startswith("fewer than 10 labelled texts that the model has not seen")
    page = (folder / "trends/trends.html").read_text()
    assert "Times are those of Europe/Berlin" in page


def test_spreadsheets_are_read_with_their_delimiters(tmp_path):
    expected = [(3, 1), (7, 0)]
    for delimiter in ",;\t":
        lines = ["row_id,weight,text,label", "7,2.0,hm,negative", "3,1.0,x, Positive ", "9,1,y,"]
        text = "\ufeff" + "\n".join(lines).replace(",", delimiter)
        found, num_missing = labels.read([write(tmp_path, text)], CLASSES)
        found = found.sort_index()
        assert list(found["label"].items()) == expected
        assert (found["weight"].tolist(), num_missing) == ([1, 2], 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row_id,label\n1,good\n2,bad\n", "line 2: label 'good' is none of negative, positive"),
        ("row_id,label\n1,negative\nx,negative\n", "line 3: row_id 'x' is no row number"),
        ("row_id,label\n1,negative\n1,positive\n", "line 3: row_id 1 was named before"),
        ("row_id,label,weight\n1,negative,0.5\n", "line 2: weight '0.5' is no weight of at least"),
        ("row_id,label\n1,\n", "has no label: write negative, positive or neutral in column label"),
        ("row_id,text\n1,a\n", "has no column label; there are row_id, text"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_wrong_file_is_a_line_that_says_where(tmp_path, text, message):
    with pytest.raises(UserError) as error:
        labels.read([write(tmp_path, text)], CLASSES)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_of_another_corpus_are_refused(corpus, tmp_path):
    path = write(tmp_path, "row_id,label\n1,negative\n99999999,positive\n")
    with pytest.raises(UserError, match=r"1 row_id of .*labels.csv are not in the predictions"):
        run_stage(trends, load(corpus[0], labels=path), Recorder(), overwrite=True)


def test_a_labelled_corpus_has_nothing_to_draw(tmp_path):
    table, truth = draw(100)
    score(tmp_path, table, truth)
    with pytest.raises(UserError, match="every row of the predictions has a label"):
        labels.draw(load(tmp_path).trends, 10)


def test_without_texts_there_is_nothing_to_label(tmp_path):
    score(tmp_path, draw(100)[0].drop_columns("text"))
    with pytest.raises(UserError, match=r"no text to label: name text in score.keep_columns"):
        labels.draw(load(tmp_path).trends, 10)


def test_a_text_is_no_formula_of_a_spreadsheet():
    table = pd.DataFrame({"row_id": [1, 2], "text": ["=cmd()", 'a, "b"\nc'], "label": ""})
    back = pd.read_csv(io.BytesIO(label_files.to_csv(table)))
    assert back["text"].tolist() == ["'=cmd()", 'a, "b"\nc']
