"""Rows to label are drawn with known weights, and the labels come back checked."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from corpora import CLASSES, draw, load, score
from stages import publish, run_stage

from sentiflow.data import label_files, manifest
from sentiflow.data.arrays import hash_texts
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import UserError
from sentiflow.shares import labels, next_draw, trends
from sentiflow.storage import parquet
from sentiflow.tracking import training_rows
from sentiflow.tracking.recorder import Recorder

NUM_ROWS, SIZE = 12_000, 400


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    table, truth = draw(NUM_ROWS)
    score(folder, table, np.where(np.arange(NUM_ROWS) < 2000, truth, -1))
    return folder, table.to_pandas().assign(truth=truth)


@pytest.fixture(scope="module")
def drawn(corpus):
    return next_draw.draw_rows(load(corpus[0], by="airline"), SIZE)[0]


def read(folder, path):
    config = load(folder, labels=path)
    uri = config.score.output_uri
    return labels.read(config.trends, manifest.read(uri), uri)


def write(folder, text, name="labels.csv"):
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_sample_has_as_many_unlabelled_rows_as_asked_for_and_their_texts(corpus, drawn):
    rows = corpus[1].set_index("row_id")
    assert len(drawn) == drawn["row_id"].nunique() == SIZE
    assert drawn["row_id"].min() >= 2000
    assert drawn["text"].tolist() == rows.loc[drawn["row_id"], "text"].tolist()
    assert not drawn["row_id"].is_monotonic_increasing
    again = next_draw.draw_rows(load(corpus[0], by="airline"), SIZE)[0]
    pd.testing.assert_frame_equal(drawn, again)


def redraw(folder, filled, tmp_path):
    """Read a filled-in file of labels, which draws its rows again."""
    path = tmp_path / "filled.csv"
    path.write_bytes(label_files.to_csv(filled))
    return read(folder, str(path))


def test_weights_stand_for_the_unlabelled_rows(corpus, drawn, tmp_path):
    found = redraw(corpus[0], drawn.assign(label="negative"), tmp_path)
    weight = found.table["weight"]
    assert (len(weight), weight.min() >= 1) == (SIZE, True)
    assert found.sample is not None
    assert weight.sum() == pytest.approx(NUM_ROWS - 2000, rel=0.1)
    airline = corpus[1].set_index("row_id")["airline"]
    counts = airline.loc[drawn["row_id"]].value_counts()
    assert counts["Virgin"] > 1.3 * SIZE * (airline == "Virgin").mean()
    of_virgin = weight[(airline.loc[weight.index] == "Virgin").to_numpy()]
    num_virgin = (airline.loc[2000:] == "Virgin").sum()
    assert of_virgin.nunique() == 1
    assert of_virgin.sum() == pytest.approx(num_virgin, rel=0.3)


def test_no_spreadsheet_and_no_other_model_changes_a_weight(corpus, drawn, tmp_path):
    folder, rows = corpus
    expected = redraw(folder, drawn.assign(label="negative"), tmp_path).table["weight"]
    mangled = drawn.assign(label="negative", weight="29.075", airline="#REF!").sample(frac=0.5)
    found = redraw(folder, mangled, tmp_path).table["weight"]
    pd.testing.assert_series_equal(found, expected[found.index])
    # Scored again by another model, in another order, after the labels came into the corpus.
    columns = {f"probability_{name}": np.full(NUM_ROWS, 1 / 3, np.float32) for name in CLASSES}
    label = np.where(np.arange(NUM_ROWS) < 2000, rows["truth"], -1)
    label[drawn["row_id"]] = 0
    table = draw(NUM_ROWS)[0].to_pandas().assign(label=label, **columns).sample(frac=1)
    label = table.pop("label").to_numpy()
    score(tmp_path, pa.Table.from_pandas(table, preserve_index=False), label)
    again = redraw(tmp_path, drawn.assign(label="negative"), tmp_path).table["weight"]
    pd.testing.assert_series_equal(again.sort_index(), expected.sort_index())


def test_rows_that_were_not_drawn_are_no_sample(corpus, drawn, tmp_path):
    own = drawn.assign(label="negative")
    own.loc[:8, "row_id"] = np.arange(9)
    found = redraw(corpus[0], own, tmp_path)
    assert (found.table["weight"] == 0).sum() == 9
    (note,) = [note for note in found.notes if "are not in the sample" in note]
    assert note.startswith("9 of 400 rows of trends.labels are not in the sample of 400 of 12,000")
    own.loc[:99, "row_id"] = np.arange(100)
    with pytest.raises(UserError, match=r"\d+ of 400 rows of trends.labels are not in the sample"):
        redraw(corpus[0], own, tmp_path)
    outside = own.head(3).assign(sample="400 rows by airline")  # as an earlier version wrote it
    with pytest.raises(UserError, match=r"3 of 3 rows of trends.labels are not in the sample"):
        redraw(corpus[0], outside, tmp_path)
    with pytest.raises(UserError, match=r"filled.csv: column sample: .* have no column brand"):
        redraw(corpus[0], drawn.assign(label="negative", sample="400 rows by brand"), tmp_path)


def test_a_sample_of_more_rows_than_there_are_takes_all_with_weight_one(corpus, tmp_path):
    drawn, _ = next_draw.draw_rows(load(corpus[0]), 100_000)
    assert sorted(drawn["row_id"]) == list(range(2000, NUM_ROWS))
    found = redraw(corpus[0], drawn.assign(label="neutral"), tmp_path)
    assert (found.table["weight"] == 1).all()


def test_the_labelled_sample_corrects_the_shares(corpus, drawn, tmp_path):
    folder, rows = corpus
    truth = rows.set_index("row_id")["truth"]
    filled = drawn.assign(label=[CLASSES[code] for code in truth.loc[drawn["row_id"]]])
    filled.loc[SIZE - 10 :, "label"] = ""
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
    """As where the file of labels was named in ``prepare.corrections``, too.

    A row that is a copy of a learned text measures the error on such texts.
    """
    folder, rows = corpus
    truth = rows.set_index("row_id")["truth"]
    filled = drawn.assign(label=[CLASSES[code] for code in truth.loc[drawn["row_id"]]])
    path = tmp_path / "filled.csv"
    path.write_bytes(label_files.to_csv(filled))
    by_row = filled["row_id"].to_numpy()[:100]
    by_text = hash_texts(pa.array(rows["text"][rows["row_id"] % 10 == 7], pa.string()))
    of_sample = filled["row_id"].to_numpy()[100:]
    num_copies = (of_sample % 10 == 7).sum()
    monkeypatch.setattr(
        training_rows, "find_text_hashes", lambda models: (np.sort(by_text), [True])
    )
    seen = np.sort(by_row), True
    monkeypatch.setattr(training_rows, "find_row_ids", lambda scored, **options: seen)
    record = run_stage(trends, load(folder, labels=str(path)), Recorder(), overwrite=True)
    assert record["counts"]["sample"] == SIZE - 100
    assert record["counts"]["counted"] == 2000 + 100
    learned, copies = record["notes"]
    assert learned.startswith("100 rows of trends.labels were used to train or choose the model")
    assert "texts (8.2%) are copies of texts that the model was trained on" in copies
    assert copies.endswith(f"corrected by themselves, by {num_copies} labels")
    all_seen = np.sort(filled["row_id"].to_numpy()), True
    monkeypatch.setattr(training_rows, "find_row_ids", lambda scored, **options: all_seen)
    berlin = load(folder, labels=str(path), by="created:day", time_zone="Europe/Berlin")
    record = run_stage(trends, berlin, Recorder(), overwrite=True)
    assert record["notes"][0].startswith("fewer than 10 labelled texts that the model has not seen")
    page = (folder / "trends/trends.html").read_text()
    assert "Times are in Europe/Berlin" in page


def test_spreadsheets_are_read_with_their_delimiters(corpus, tmp_path):
    expected = [(3, 1), (7, 0)]
    for delimiter in ",;\t":
        lines = ["row_id,text,label", "7,hm,negative", "3,x, Positive ", "9,y,"]
        text = "\ufeff" + "\n".join(lines).replace(",", delimiter)
        found = read(corpus[0], write(tmp_path, text))
        assert list(found.table["label"].sort_index().items()) == expected
        assert found.table["weight"].tolist() == [1, 1]
        not_yet, no_sample = found.notes
        assert found.sample is None
        assert not_yet == "1 rows of trends.labels have no label yet"
        assert no_sample.endswith("as if each text had had the same chance to be labelled")


def test_files_of_other_columns_are_read_together(corpus, tmp_path):
    """A column that one file lacks does not change the numbers of another one."""
    config = load(corpus[0], labels=[str(tmp_path / "one.parquet"), str(tmp_path / "two.csv")])
    numbers = pa.table({"row_id": [3, 7], "label": [1, 0], "label_2": [1, 1]})
    parquet.write(str(tmp_path / "one.parquet"), numbers)
    write(tmp_path, "text,label,row_id\nx,0,9\ny,,\nz,,11\n", "two.csv")
    scored = manifest.read(config.score.output_uri)
    scored["settings"]["format"] = {
        "kind": "csv",
        "columns": {"text": "text", "label": "label"},
        "labels": {"positive": ["1"], "negative": ["0"]},
    }
    found = labels.read(config.trends, scored, config.score.output_uri)
    assert found.table["label"].to_dict() == {3: 1, 7: 0, 9: 0}
    assert found.agreement.rows == 2
    assert found.notes[0] == "1 rows of trends.labels have no label yet"
    write(tmp_path, "row_id,label\n9,0\n10,2\n", "two.csv")
    with pytest.raises(UserError, match=r"two\.csv: line 3: label '2' is none of"):
        labels.read(config.trends, scored, config.score.output_uri)


def test_labels_are_written_as_in_the_corpus_or_as_classes(corpus, tmp_path):
    config = load(
        corpus[0], labels=write(tmp_path, "row_id,label\n3,gut\n7,positive\n9,SCHLECHT\n")
    )
    uri = config.score.output_uri
    scored = manifest.read(uri)
    scored["settings"]["format"] = {
        "kind": "csv",
        "columns": {"text": "text", "label": "label"},
        "labels": {"positive": ["gut"], "negative": ["schlecht"]},
    }
    found = labels.read(config.trends, scored, uri)
    assert found.table["label"].sort_index().tolist() == [1, 1, 0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row_id,label\n1,good\n2,bad\n", "line 2: label 'good' is none of negative, positive"),
        ("row_id,label\n1,negative\nx,negative\n", "line 3: row_id 'x' is not a row number"),
        ("row_id,label\n1,negative\n1,positive\n", "line 3: row_id '1' was named before"),
        ("row_id,label,sample\n1,negative,x\n", "line 2: sample 'x' is not written as '300"),
        (
            "row_id,label,sample\n1,negative,\n2,negative,9 rows\n",
            "some rows of trends.labels were drawn",
        ),
        ("row_id,label\n1,\n", "has no label: write negative, positive or neutral in column label"),
        ("row_id,text\n1,a\n", "has no column label; its columns are row_id, text"),
        ("", "cannot be read as a table"),
    ],
)
def test_a_wrong_file_is_a_line_that_says_where(corpus, tmp_path, text, message):
    with pytest.raises(UserError) as error:
        read(corpus[0], write(tmp_path, text))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_rows_of_another_corpus_are_refused(corpus, tmp_path):
    path = write(tmp_path, "row_id,label\n1,negative\n99999999,positive\n")
    with pytest.raises(UserError, match=r"1 row ids of .*labels.csv are not in the predictions"):
        run_stage(trends, load(corpus[0], labels=path), Recorder(), overwrite=True)


def test_a_labelled_corpus_has_nothing_to_draw(tmp_path):
    table, truth = draw(100)
    score(tmp_path, table, truth)
    with pytest.raises(UserError, match="every row of the predictions has a label"):
        next_draw.draw_rows(load(tmp_path), 10)


def score_prepared(folder, table, splits):
    """Prepare 30 rows for each split, and score a table without its texts as these data."""
    prepared = str(folder / "prepared")
    tweets = table.select(["row_id", "text"])
    files = []
    for number, split in enumerate(splits):
        part = tweets.slice(30 * number, 30)
        files += parquet.write_part(prepared, f"tweets/split={split}/part-0.parquet", part)
    csv = {"fingerprint": "c5f0", "files": []}
    publish(OutputSpec("prepare", prepared, {"format": {}}, {"csv": csv}), files=files)
    record = manifest.read(prepared)
    score(folder, table.drop_columns("text"), corpus=manifest.reference(prepared, record))
    return tweets


def test_a_row_that_the_prepared_data_lack_is_an_error(tmp_path):
    score_prepared(tmp_path, draw(90)[0], ["train", "test"])
    with pytest.raises(UserError, match=r"prepared lacks 30 of 90 rows of the predictions"):
        next_draw.draw_rows(load(tmp_path), 90)


def test_texts_that_predictions_do_not_have_are_those_of_the_prepared_data(tmp_path):
    tweets = score_prepared(tmp_path, draw(90)[0], ["train", "validation", "test"])
    drawn, _ = next_draw.draw_rows(load(tmp_path, by="airline"), 40)
    texts = dict(zip(tweets["row_id"].to_pylist(), tweets["text"].to_pylist(), strict=True))
    assert drawn["text"].tolist() == [texts[number] for number in drawn["row_id"]]
    assert len(drawn) == 40


def test_without_texts_there_is_nothing_to_label(tmp_path):
    score(tmp_path, draw(100)[0].drop_columns("text"))
    with pytest.raises(UserError, match=r"no text to label: name text in score.keep_columns"):
        next_draw.draw_rows(load(tmp_path), 10)
