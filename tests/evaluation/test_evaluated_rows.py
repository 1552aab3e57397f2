"""Rows of two scored directories are joined by number, without training rows of either model."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from stages import publish

from sentiflow.data import manifest
from sentiflow.data.output_status import OutputSpec
from sentiflow.errors import UserError
from sentiflow.evaluation import evaluated_rows
from sentiflow.evaluation.evaluated_rows import Scored
from sentiflow.storage import filesystem
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
    evaluated_rows.check_columns(["airline"], record)
    rows = evaluated_rows.read(scored, record, columns=["airline"])
    expected = ["Delta" if i % 3 else "United" for i in rows["row_id"].to_pylist()]
    assert rows["own column airline"].to_pylist() == expected
    with pytest.raises(
        UserError, match=r"no column brand; their columns are airline, row_id, .*num_tokens"
    ):
        evaluated_rows.check_columns(["airline", "brand"], record)
    prepared = runs.run("b", prepare={"keep_columns": ["text"]})
    record = manifest.read(f"{prepared}/scored")
    evaluated_rows.check_columns(["text"], record)
    rows = evaluated_rows.read(f"{prepared}/scored", record, columns=["text"])
    assert rows["own column text"].to_pylist() == rows["text"].to_pylist()


def csv_input(content="c5f0", uri="/data/tweets.csv"):
    files = [{"uri": uri, "bytes": 1, "modified_ns": 1, "tree_sha256": content}]
    return {"fingerprint": content, "files": files}


class Runs:
    """Makes what the stages leave behind, below one folder."""

    def __init__(self, folder):
        self.folder = folder

    def prepare(self, name, split=None, *, csv=None, form=None, **settings):
        uri, split = str(self.folder / name / "prepared"), by_tens() if split is None else split
        settings |= {"format": form or {"kind": "sentiment140"}, "split": split[:10].tolist()}
        table = pa.table({"row_id": ROW_IDS, "text": TEXTS, "label": LABEL})
        files = []
        for kind in np.unique(split):
            path = f"tweets/split={kind}/part-0.parquet"
            files += filesystem.write_part(uri, path, table.filter(pa.array(split == kind)))
        spec = OutputSpec("prepare", uri, settings, {"csv": csv or csv_input()})
        publish(spec, files=files)
        return uri

    def train(self, name, prepared, *, init_from=None, **settings):
        uri = str(self.folder / name / "trained")
        inputs = {"prepared": manifest.reference(prepared, manifest.read(prepared))}
        if init_from:
            inputs["init_from"] = manifest.reference(init_from, manifest.read(init_from))
        spec = OutputSpec("train", uri, {"seed": 0} | settings, inputs)
        training = {"uri": uri, "fingerprint": spec.fingerprint}
        model = OutputSpec("model", join(uri, "model"), {}, {"training": training})
        made = publish(model)
        more = {"model_fingerprint": made["fingerprint"]}
        publish(spec, **more)
        return uri

    def score(
        self, name, corpus, trained, *, split=None, label=None, wrong=(), rows=None,
        of_classes=None, classes=None, **more,
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
            "probability": np.where(prediction, 0.55 + noise, 0.05 + noise).astype(np.float32),
            "num_tokens": np.full(NUM_ROWS, 3, np.int32),
        }
        package = PACKAGE
        if of_classes is not None:
            package = PACKAGE | {"classes": list(of_classes)}
            probabilities = np.stack([*of_classes.values()], axis=1).astype(np.float32)
            columns["prediction"] = probabilities.argmax(axis=1).astype(np.int8)
            if list(of_classes) == ["negative", "positive"]:
                columns["probability"] = probabilities[:, 1]
            for code, of_class in enumerate(of_classes):
                columns[f"probability_{of_class}"] = probabilities[:, code]
        order = np.random.default_rng(len(name)).permutation(NUM_ROWS)
        table = pa.table(columns | more).take(order)
        if rows is not None:
            table = table.filter(pa.array(np.isin(order, rows)))
        files = filesystem.write_part(uri, "predictions/part-0.parquet", table)
        training = manifest.read(trained)
        model = {
            "uri": join(trained, "model"),
            "fingerprint": training["model_fingerprint"],
            "settings": package,
            "training": manifest.reference(trained, training),
        }
        if not isinstance(corpus, dict):
            corpus = manifest.reference(corpus, manifest.read(corpus))
        settings = {"text_column": "text", "keep_columns": list(more), "format": {}}
        spec = OutputSpec("score", uri, settings, {"model": model, "corpus": corpus})
        publish(spec, files=files, **({"classes": list(classes)} if classes else {}))
        return str(self.folder / name)

    def run(self, name, *, split=None, prepare=None, train=None, **score):
        """Prepare, train and score; gives the directory of the run."""
        split = by_tens() if split is None else split
        prepared = self.prepare(name, split, **(prepare or {}))
        return self.score(name, prepared, self.train(name, prepared, **(train or {})),
                          split=split, **score)  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def scored(uri):
    return Scored(uri.rpartition("/")[2], join(uri, "scored"), manifest.read(join(uri, "scored")))


def read(*uris):
    first, second = map(scored, uris)
    return evaluated_rows.read_pair((first, second))


def row_ids(found):
    return found.table["row_id"].to_pylist()


def refusal(*uris):
    with pytest.raises(UserError) as error:
        read(*uris)
    assert "\n" not in str(error.value)
    return str(error.value)


def tens(*figures):
    return [i for i in ROW_IDS.tolist() if i % 10 in figures]


def test_predictions_are_joined_by_row_number_in_any_order(runs):
    a = runs.run("a", wrong=[8, 19])
    b = runs.score("bb", runs.prepare("a"), f"{a}/trained", split=by_tens(), wrong=[28])
    found = read(a, b)
    assert (row_ids(found), found.split) == (tens(8, 9), "test")
    wrong = [found.table[f"prediction_{i}"].to_numpy() != found.table["label_0"] for i in (0, 1)]
    assert [np.array(row_ids(found))[w].tolist() for w in wrong] == [[8, 19], [28]]
    assert found.table["label_0"].to_pylist() == LABEL[tens(8, 9)].tolist()
    assert (found.num_only_in, found.num_seen_by, found.notes) == ((0, 0), (0, 0), [])


def test_two_preparations_of_one_csv_number_its_rows_alike(runs):
    a = runs.run("a")
    moved = csv_input(uri="/elsewhere/tweets.csv")
    b = runs.run("b", prepare={"tokenizer": "tutorial", "csv": moved})
    assert row_ids(read(a, b)) == tens(8, 9)


def test_a_row_that_one_was_trained_on_or_chosen_by_is_not_compared(runs):
    a = runs.run("a")
    b = runs.run("b", split=by_tens(validation=(8,), test=(9, 0, 1)))
    found = read(a, b)
    assert row_ids(found) == tens(9)
    assert found.num_seen_by == (60, 30)
    assert found.num_only_in == (0, 0)


def test_a_test_row_of_one_model_that_the_other_was_trained_on_is_not_compared(runs):
    a = runs.run("a")
    other = runs.prepare("other", by_tens(validation=(), test=(9, 0)))
    b = runs.score("b", f"{a}/prepared", runs.train("b", other), split=by_tens())
    found = read(a, b)
    assert row_ids(found) == tens(9), "its row 8 stands as a test row in both, but b has seen it"
    assert found.num_seen_by == (0, 30)


def test_training_rows_of_the_initial_model_are_not_compared(runs):
    old = runs.prepare("old", by_tens(validation=(), test=(9, 0)))
    began = runs.train("old", old)
    a, b = runs.run("a"), runs.run("b", train={"init_from": f"{began}/model"})
    found = read(a, b)
    assert row_ids(found) == tens(9)
    assert found.notes == []
    shutil.rmtree(began)
    assert read(a, b).notes == ["it is unknown which rows the model of b was trained on"]


def test_rows_of_one_alone_are_counted(runs):
    a = runs.run("a")
    b = runs.run("b", rows=[i for i in ROW_IDS if i not in (8, 18, 29)])
    found = read(a, b)
    assert len(found.table) == 57
    assert found.num_only_in == (3, 0)
    assert read(b, a).num_only_in == (0, 3)


def test_rows_without_a_label_or_neutral_are_not_compared(runs):
    label = LABEL.tolist()
    label[8], label[9] = None, 2
    found = read(runs.run("a", label=label), runs.run("b", label=label))
    assert row_ids(found) == tens(8, 9)[2:]
    assert found.num_only_in == (0, 0)


@pytest.mark.parametrize("other", [1 - LABEL[18], 2])
def test_labels_that_differ_are_refused(runs, other):
    label = LABEL.copy()
    label[18] = other
    line = refusal(runs.run("a"), runs.run("b", label=label))
    assert line.startswith("1 common rows have different labels: row 18 is ")
    assert " in a and " in line


def test_other_files_are_refused_and_named(runs):
    a = runs.run("a")
    b = runs.run("b", prepare={"csv": csv_input("0ther", "/data/more.csv")})
    line = refusal(a, b)
    assert line.startswith("a and b have scored different files (/data/tweets.csv; /data/more.csv)")
    c = runs.run("c", prepare={"csv": csv_input("0ther")})
    assert "with different content" in refusal(a, c)


def test_rows_after_a_header_have_other_numbers(runs):
    labels = {"negative": ["0"], "positive": ["4"]}
    form = {"kind": "csv", "columns": {"text": 0, "label": 1}, "labels": labels, "header": None}
    a = runs.run("a", prepare={"form": form})
    b = runs.run("b", prepare={"form": form | {"header": True}})
    assert "only one reads the first record" in refusal(a, b)
    by_name = form | {"columns": {"text": "text", "label": "label"}}
    assert row_ids(read(b, runs.run("c", prepare={"form": by_name}))) == tens(8, 9)


def test_preparations_that_are_gone_are_not_taken_for_the_same(runs):
    a, b = runs.run("a"), runs.run("b", prepare={"tokenizer": "tutorial"})
    shutil.rmtree(f"{b}/prepared")
    assert "b/prepared is gone or was redone" in refusal(a, b)


def test_one_preparation_is_the_same_to_both_also_when_it_is_gone(runs):
    a = runs.run("a")
    b = runs.score("b", f"{a}/prepared", f"{a}/trained", split=by_tens())
    other = runs.train("c", runs.prepare("c", by_tens(test=(9, 0))))
    c = runs.score("c", f"{a}/prepared", other, split=by_tens())
    shutil.rmtree(f"{a}/prepared")
    found = read(a, b)
    assert (row_ids(found), found.notes) == (tens(8, 9), [])
    assert "unknown which rows the model of c" in read(a, c).notes[0]


def test_a_corpus_without_splits_is_compared_without_training_rows(runs):
    elsewhere = runs.prepare("x", csv=csv_input("e15e"))
    stranger = runs.train("x", elsewhere)
    a, b = (runs.score(name, csv_input(), stranger) for name in "ab")
    found = read(a, b)
    assert (row_ids(found), found.split) == (ROW_IDS.tolist(), "all")
    c = runs.score("c", csv_input(), runs.train("c", runs.prepare("c")))
    found = read(a, c)
    assert row_ids(found) == tens(8, 9)
    assert (found.num_only_in, found.num_seen_by) == ((0, 0), (0, 240))


def test_files_that_were_trained_on_under_other_numbers_are_refused(runs):
    trained = runs.train("x", runs.prepare("x"))
    both = csv_input()["files"] + csv_input("more", "/data/more.csv")["files"]
    corpus = {"fingerprint": "b07h", "files": both}
    a, b = (runs.score(name, corpus, trained) for name in "ab")
    assert "a was trained on rows of /data/tweets.csv" in refusal(a, b)
    prepared = f"{runs.folder}/x/prepared/tweets/split=train/part-0.parquet"
    corpus = csv_input("pa7t", prepared)
    a, b = (runs.score(name, corpus, trained) for name in "ab")
    assert f"a was trained on rows of {prepared}" in refusal(a, b)


def test_test_rows_are_not_compared_with_rows_without_splits(runs):
    a = runs.run("a")
    b = runs.score("b", csv_input(), f"{a}/trained")
    assert "a has test rows, b has no splits" in refusal(a, b)


def test_no_common_row_is_refused(runs):
    a, b = runs.run("a"), runs.run("b", split=by_tens(test=(0,)))
    assert "no labelled row in common that neither model was trained on" in refusal(a, b)


def test_validation_rows_are_not_compared(runs):
    a, b = (runs.run(name, split=by_tens(test=())) for name in "ab")
    assert "a has no test row labelled negative or positive" in refusal(a, b)


def test_texts_are_taken_from_either_run(runs):
    a = runs.run("a")
    b = runs.score("b", f"{a}/prepared", f"{a}/trained", split=by_tens(), text=TEXTS)
    assert read(a, b).table["text"].to_pylist() == [TEXTS[i] for i in tens(8, 9)]
    shutil.rmtree(f"{a}/prepared")
    assert read(a, b).table["text"].to_pylist() == [TEXTS[i] for i in tens(8, 9)]
    assert "text" not in read(a, a).table.column_names


def test_damaged_rows_give_one_clear_line(runs):
    a, b = runs.run("a"), runs.run("b")
    with open(f"{a}/prepared/tweets/split=validation/part-0.parquet", "wb") as file:
        file.write(b"no parquet")
    assert "is gone or damaged" in refusal(a, b)
