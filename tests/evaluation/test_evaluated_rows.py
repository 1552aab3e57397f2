"""Labelled rows are read from predictions, with columns of the user's own."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn import metrics
from stages import publish, refresh_sizes

from sentiflow.config.class_names import BINARY, SENTIMENT140
from sentiflow.data import lineage, manifest
from sentiflow.data.output_spec import OutputSpec
from sentiflow.errors import JobError, UserError
from sentiflow.evaluation import compact_rows, evaluated_classes, evaluated_rows
from sentiflow.metrics import classification
from sentiflow.storage import parquet
from sentiflow.storage.uris import join

NUM_ROWS = 300
ROW_IDS = np.arange(NUM_ROWS)
LABEL = np.random.default_rng(0).integers(0, 2, NUM_ROWS).astype(np.int8)
TEXTS = [f"not number {i}?" if i % 4 == 0 else f"number {i}" for i in range(NUM_ROWS)]
PACKAGE = {
    "model": {"cell": "gru", "hidden_size": 6, "bidirectional": True, "pooling": "last"},
    "tokenizer": "tweet",
    "max_length": 20,
    "vocabulary_size": 1234,
    "classes": list(BINARY),
}


def by_tens(*, validation=(7,), test=(8, 9)):
    """Split rows by the last figure of their numbers."""
    kinds = {**dict.fromkeys(validation, "validation"), **dict.fromkeys(test, "test")}
    return np.array([kinds.get(i % 10, "train") for i in ROW_IDS.tolist()])


def test_columns_of_the_users_own_are_read_from_predictions_or_prepared_tweets(tmp_path):
    runs = Runs(tmp_path)
    airline = pa.array(["Delta" if i % 3 else "United" for i in ROW_IDS.tolist()])
    scored = f"{runs.run('a', airline=airline)}/scored"
    record = manifest.read(scored)
    corpus = lineage.corpus_of(record)
    evaluated_rows.check_columns(["airline"], record, corpus)
    rows = evaluated_rows.read(scored, record, columns=["airline"])
    expected = ["Delta" if i % 3 else "United" for i in rows["row_id"].to_pylist()]
    assert rows["own column airline"].to_pylist() == expected
    with pytest.raises(
        UserError, match=r"no column brand; their columns are airline, row_id, .*confidence"
    ):
        evaluated_rows.check_columns(["airline", "brand"], record, corpus)
    prepared = runs.run("b", prepare={"keep_columns": ["text"]})
    record = manifest.read(f"{prepared}/scored")
    evaluated_rows.check_columns(["text"], record, lineage.corpus_of(record))
    rows = evaluated_rows.read(f"{prepared}/scored", record, columns=["text"])
    assert rows["own column text"].to_pylist() == rows["text"].to_pylist()


def test_kept_columns_are_searched_but_for_texts_labels_times_and_authors(tmp_path):
    runs = Runs(tmp_path)
    form = {"kind": "csv", "columns": {"text": "tweet", "label": "mood", "user": "author"}}
    kept = ["user", "author", "airline", "label", "mood", "time"]
    airline = pa.array(["Delta"] * NUM_ROWS)
    run = runs.run("a", prepare={"keep_columns": kept, "form": form}, brand=airline, text=airline)
    record = manifest.read(f"{run}/scored")
    corpus = lineage.corpus_of(record)
    assert evaluated_rows.list_searched(record, corpus) == ["airline", "brand"]


@pytest.mark.parametrize("is_gone", [True, False], ids=["gone", "replaced"])
def test_prepared_data_that_are_gone_or_were_replaced_are_not_read(tmp_path, is_gone):
    runs = Runs(tmp_path)
    run = runs.run("a", prepare={"keep_columns": ["airline"]})
    scored = f"{run}/scored"
    record = manifest.read(scored)
    planned = lineage.corpus_of(record)
    assert "text" in evaluated_rows.read(scored, record).column_names
    prepared = record["inputs"]["corpus"]["uri"]
    shutil.rmtree(prepared)
    if not is_gone:
        runs.prepare("a", keep_columns=["airline"], seed=1)
    assert "text" not in evaluated_rows.read(scored, record).column_names
    corpus = lineage.corpus_of(record)
    assert corpus.prepared is None
    assert corpus.input_files is None
    assert corpus.given_test_files == []
    assert corpus.name == "prepared"
    assert evaluated_rows.list_searched(record, corpus) == []
    with pytest.raises(UserError, match="the predictions have no column airline"):
        evaluated_rows.check_columns(["airline"], record, corpus)
    columns = evaluated_rows.list_searched(record, planned)
    assert columns == ["airline"]
    with pytest.raises(JobError, match="prepared was replaced while it was read: run again"):
        evaluated_rows.read(scored, record, columns=columns)


def csv_input(content="c5f0", uri="/data/tweets.csv"):
    files = [{"uri": uri, "bytes": 1, "modified_ns": 1, "tree_sha256": content}]
    return {"fingerprint": content, "files": files}


class Runs:
    """Makes what the stages leave behind, below one folder."""

    def __init__(self, folder):
        self.folder = folder

    def prepare(
        self,
        name,
        split=None,
        *,
        csv=None,
        form=None,
        label=LABEL,
        kind="hash",
        user=None,
        texts=None,
        **settings,
    ):
        uri, split = str(self.folder / name / "prepared"), by_tens() if split is None else split
        rule = {"kind": kind, "of_rows": split[:10].tolist()}
        settings |= {"format": form or {"kind": "sentiment140"}, "split": rule}
        texts = TEXTS if texts is None else texts
        columns = {"row_id": ROW_IDS, "text": texts, "label": label}
        if user is not None:
            columns["user"] = user
            settings["keep_columns"] = ["user"]
        table = pa.table(columns)
        files = []
        for kind in np.unique(split):
            path = f"tweets/split={kind}/part-0.parquet"
            files += parquet.write_part(uri, path, table.filter(pa.array(split == kind)))
        spec = OutputSpec("prepare", uri, settings, {"csv": csv or csv_input()})
        publish(spec, files=files, classes=list(SENTIMENT140))
        return uri

    def train(
        self, name, prepared, *, init_from=None, teachers=(), taught=None, refit=None, **settings
    ):
        uri = str(self.folder / name / "trained")
        inputs = {"prepared": manifest.reference(prepared, manifest.read(prepared))}
        if init_from:
            first = manifest.read(init_from)
            reference = manifest.reference(init_from, first)
            inputs["init_from"] = reference | {"training": first["inputs"]["training"]}
        for number, teacher in enumerate(teachers, start=1):
            model = manifest.read(f"{teacher}/model")
            reference = manifest.reference(f"{teacher}/model", model)
            inputs[f"teacher_{number}"] = reference | {"training": model["inputs"]["training"]}
        spec = OutputSpec("train", uri, {"seed": 0} | settings, inputs)
        training = {"uri": uri, "fingerprint": spec.fingerprint}
        model = OutputSpec("model", join(uri, "model"), {}, {"training": training})
        made = publish(model)
        more = {"model_fingerprint": made["fingerprint"]}
        if taught:
            more["taught"] = taught
        if refit:
            more["refit"] = refit
        publish(spec, **more)
        return uri

    def score(
        self, name, corpus, trained, *, split=None, label=None, wrong=(), rows=None,
        of_classes=None, classes=SENTIMENT140, left_out=(), counts=(), unknown_values=(), **more,
    ):  # fmt: skip
        """Score rows, of which the model gets some ``wrong``.

        ``of_classes`` are the predictions of a model by name of its classes, ``(N,)`` each;
        ``classes`` those of the manifest.
        """
        uri, label = str(self.folder / name / "scored"), LABEL if label is None else label
        right = ~np.isin(ROW_IDS, list(wrong))
        prediction = np.where(right, LABEL, 1 - LABEL).astype(np.int8)
        noise = np.random.default_rng(len(name)).random(NUM_ROWS) * 0.4
        columns = {
            "row_id": ROW_IDS,
            "split": pa.array([None] * NUM_ROWS if split is None else split, pa.string()),
            "label": pa.array(label, pa.int8()),
            "prediction": prediction,
            "num_tokens": np.full(NUM_ROWS, 3, np.int32),
        }
        package = PACKAGE
        positive = np.where(prediction, 0.55 + noise, 0.05 + noise)
        given = {"negative": 1 - positive, "positive": positive}
        if of_classes is not None:
            package, given = PACKAGE | {"classes": list(of_classes)}, of_classes
            columns["prediction"] = (
                np.stack([*given.values()], axis=1).argmax(axis=1).astype(np.int8)
            )
        columns |= {f"probability_{n}": p.astype(np.float32) for n, p in given.items()}
        order = np.random.default_rng(len(name)).permutation(NUM_ROWS)
        table = pa.table(columns | more).take(order)
        if rows is not None:
            table = table.filter(pa.array(np.isin(order, rows)))
        files = parquet.write_part(uri, "predictions/part-0.parquet", table)
        training = manifest.read(trained)
        model = {
            "uri": join(trained, "model"),
            "fingerprint": training["model_fingerprint"],
            "settings": package | {"left_out": [*left_out]},
            "training": manifest.reference(trained, training),
        }
        if not isinstance(corpus, dict):
            corpus = manifest.reference(corpus, manifest.read(corpus))
        settings = {"text_column": "text", "keep_columns": list(more), "format": {}}
        spec = OutputSpec("score", uri, settings, {"model": model, "corpus": corpus})
        unknown = dict(unknown_values)
        publish(spec, files=files, counts=counts, classes=list(classes), unknown_values=unknown)
        return str(self.folder / name)

    def run(self, name, *, split=None, prepare=None, train=None, **score):
        """Prepare, train and score; gives the directory of the run."""
        split = by_tens() if split is None else split
        prepared = self.prepare(name, split, **(prepare or {}))
        return self.score(name, prepared, self.train(name, prepared, **(train or {})),
                          split=split, **score)  # fmt: skip


def replace_column(scored, name, values):
    """Give the predictions in a directory other ``values`` of a column, a function of a table."""
    for file in (scored / "predictions").glob("*.parquet"):
        table = pq.read_table(file)
        place = table.schema.get_field_index(name)
        pq.write_table(table.set_column(place, table.schema.field(name), values(table)), file)
    refresh_sizes(scored)


def match_classes(run):
    """Read the rows of a run, and count those of other classes."""
    record = manifest.read(f"{run}/scored")
    return evaluated_classes.match_classes(evaluated_rows.read(f"{run}/scored", record), record)


@pytest.mark.parametrize("left_out", [[], ["neutral"]])
def test_rows_of_a_class_that_the_model_lacks_are_mistakes_unless_it_was_left_out(
    tmp_path, left_out
):
    label = LABEL.copy()
    label[[7, 8, 9, 18]] = (2, 2, 3, 3)  # a neutral validation row; the last label is mixed
    classes = (*SENTIMENT140, "mixed")
    rows, notes = match_classes(
        Runs(tmp_path).run("a", label=label, classes=classes, left_out=left_out)
    )
    assert notes[0] == (
        "the model does not know these labels, and their rows count as mistakes: "
        + ("mixed 2" if left_out else "neutral 2, mixed 2")
    )
    assert notes[1:] == (
        ["rows are left out, as the settings of the training leave out their classes: neutral 2"]
        if left_out
        else []
    )
    test = evaluated_rows.of_split(rows, "test")
    assert len(test) == 60 - len(left_out)
    found = classification.measure(evaluated_rows.predicted_of(test))
    assert list(found.confusion)[:2] == ["negative", "positive"]
    mixed = found.by_class["mixed"]
    assert (mixed.num_rows, mixed.num_predicted) == (2, 0)
    assert mixed.values["recall"] == mixed.values["f1"] == 0
    assert found.accuracy == (57 / 59 if left_out else 57 / 60)
    frame = test.to_pandas()
    expected = metrics.f1_score(frame["label"], frame["prediction"], average="macro")
    assert found.f1_macro == pytest.approx(expected)
    names = [f"probability_{name}" for name in found.confusion]
    right = frame[names].to_numpy()[np.arange(len(frame)), frame["label"]].clip(1e-7, 1 - 1e-7)
    assert found.values["log_loss"] == pytest.approx(-np.log(right).mean())
    assert found.values["log_loss"] > 0.5


def test_unknown_labels_are_told_and_too_many_are_refused(tmp_path):
    runs, label = Runs(tmp_path), [1 if i % 10 == 9 else None for i in ROW_IDS.tolist()]
    few = {
        "label": LABEL,
        "unknown_values": {"postive": 1},
        "counts": {"unknown_labels": 1, "labelled": 300},
    }
    _, notes = match_classes(runs.run("few", split=np.full(NUM_ROWS, "test"), **few))
    assert notes == [
        "rows with an unknown label are in no figure: 1 of 301 labels are unknown: 'postive' (1)"
    ]
    many = {
        "label": label,
        "unknown_values": {"postive": 4},
        "counts": {"unknown_labels": 4, "labelled": 30},
    }
    with pytest.raises(UserError) as error:
        match_classes(runs.run("many", split=np.full(NUM_ROWS, "test"), **many))
    assert str(error.value).startswith(
        "tweets.csv: 4 of 34 labels are unknown: 'postive' (4): correct the file, or name the "
    )


def tens(*figures):
    return [i for i in ROW_IDS.tolist() if i % 10 in figures]


USERS = [f"user{row // 3}" for row in ROW_IDS]


@pytest.mark.parametrize(("kind", "is_by_author"), [("user", True), ("hash", False)])
def test_rows_of_a_split_by_user_have_their_authors(tmp_path, kind, is_by_author):
    run = Runs(tmp_path).run("a", prepare={"kind": kind, "user": USERS})
    record = manifest.read(f"{run}/scored")
    rows = evaluated_rows.read(f"{run}/scored", record)
    predicted = evaluated_rows.predicted_of(rows)
    assert (predicted.groups is not None) == is_by_author
    if is_by_author:
        assert len(predicted.groups.sizes) == len(
            {USERS[row] for row in rows["row_id"].to_pylist()}
        )
    assert evaluated_rows.note_unknown_authors(record) == []


def test_a_split_by_user_without_its_users_is_told(tmp_path):
    run = Runs(tmp_path).run("a", prepare={"kind": "user"})
    record = manifest.read(f"{run}/scored")
    rows = evaluated_rows.read(f"{run}/scored", record)
    assert evaluated_rows.predicted_of(rows).groups is None
    (note,) = evaluated_rows.note_unknown_authors(record)
    assert "name user in prepare.keep_columns" in note


def test_a_corpus_without_splits_that_keeps_its_users_is_by_author(tmp_path):
    runs = Runs(tmp_path)
    trained = runs.train("a", runs.prepare("a"))
    corpus = {"uri": "/data/new.csv", "fingerprint": "c0", **csv_input("c0", "/data/new.csv")}
    run = runs.score("new", corpus, trained, text=TEXTS, user=[None, "", *USERS[2:]])
    record = manifest.read(f"{run}/scored")
    rows = evaluated_rows.read(f"{run}/scored", record)
    groups = evaluated_rows.predicted_of(rows).groups
    assert len(groups.sizes) == 102, "a text without an author is the only one of its author"


def test_texts_are_read_by_row_whatever_the_order_of_files_and_rows(tmp_path):
    runs = Runs(tmp_path)
    scored = f"{runs.run('a')}/scored"
    numbers = compact_rows.read(scored, manifest.read(scored))
    assert "text" not in numbers.rows.column_names
    for row_ids in (np.array([298, 9, 8, 17]), np.array([7, 8, 9]), np.empty(0, np.int64)):
        texts = numbers.texts.take_texts(row_ids).to_pylist()
        assert texts == [TEXTS[row_id] for row_id in row_ids]
    with pytest.raises(UserError, match=r"prepared lacks 2 of 3 rows of the predictions"):
        numbers.texts.take_texts(np.array([9, 1, 2]))  # rows of the train split


@pytest.mark.parametrize("kept", ["text", "null", "number"])
def test_a_kept_column_is_the_text_if_each_row_has_a_text(tmp_path, kept):
    columns = {
        "text": pa.array(TEXTS).cast(pa.large_string()),
        "null": pa.array([None if i == 9 else "kept" for i in ROW_IDS.tolist()]),
        "number": pa.array(ROW_IDS),
    }
    scored = f"{Runs(tmp_path).run('a', text=columns[kept])}/scored"
    numbers = compact_rows.read(scored, manifest.read(scored))
    is_of_predictions = numbers.texts.uri == scored
    assert is_of_predictions == (kept == "text")
    assert numbers.texts.take_texts(np.array([9, 8])).to_pylist() == [TEXTS[9], TEXTS[8]]
    rows = evaluated_rows.read(scored, manifest.read(scored)).drop_columns("text").to_pydict()
    assert numbers.rows.to_pydict() == rows
