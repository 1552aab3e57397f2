"""Rows of two scored directories are joined by number, without training rows of either model."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from test_evaluated_rows import LABEL, NUM_ROWS, ROW_IDS, TEXTS, Runs, by_tens, csv_input, tens

from sentiflow.data import manifest
from sentiflow.errors import UserError
from sentiflow.evaluation import common_rows
from sentiflow.evaluation.scored_runs import ScoredRun
from sentiflow.storage.uris import join
from sentiflow.tracking import training_rows


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def scored(uri):
    return ScoredRun(
        uri.rpartition("/")[2], join(uri, "scored"), manifest.read(join(uri, "scored"))
    )


def read(*uris):
    first, second = map(scored, uris)
    return common_rows.read((first, second))


def row_ids(found):
    return found.table["row_id"].to_pylist()


def refusal(*uris):
    with pytest.raises(UserError) as error:
        read(*uris)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_predictions_are_joined_by_row_number_in_any_order(runs):
    a = runs.run("a", wrong=[8, 19])
    b = runs.score("bb", runs.prepare("a"), f"{a}/trained", split=by_tens(), wrong=[28])
    found = read(a, b)
    assert (row_ids(found), found.split) == (tens(8, 9), "test")
    wrong = [np.array(row_ids(found))[~each.right].tolist() for each in found.predicted]
    assert wrong == [[8, 19], [28]]
    assert found.predicted[0].label.tolist() == LABEL[tens(8, 9)].tolist()
    assert (found.num_only_in, found.num_seen_by, found.notes) == ((0, 0), (0, 0), [])


def test_a_row_that_one_was_trained_on_or_chosen_by_is_not_compared(runs):
    a = runs.run("a")
    b = runs.run("b", split=by_tens(validation=(8,), test=(9, 0, 1)))
    found = read(a, b)
    assert row_ids(found) == tens(9)
    assert found.num_seen_by == (60, 30)
    assert found.num_only_in == (0, 0)


def test_training_rows_of_the_initial_model_are_not_compared(runs):
    old = runs.prepare("old", by_tens(validation=(), test=(9, 0)))
    began = runs.train("old", old)
    a = runs.run("a")
    b = runs.run("b", train={"init_from": f"{began}/model"})
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
    found = read(runs.run("a", label=label, left_out=["neutral"]), runs.run("b", label=label))
    assert row_ids(found) == tens(8, 9)[2:]
    assert found.num_only_in == (0, 0)


@pytest.mark.parametrize("other", [1 - LABEL[18], 2])
def test_labels_that_differ_are_refused(runs, other):
    label = LABEL.copy()
    label[18] = other
    line = refusal(runs.run("a"), runs.run("b", label=label))
    assert line.startswith("1 common rows have different labels: row 18 is ")
    assert " in a and " in line


def grown(runs, name, *, shift=50, prepare=None, **more):
    """A run whose corpus has ``shift`` new rows before rows of the first corpus."""
    texts = [f"a new text {i}" for i in range(shift)] + TEXTS[: NUM_ROWS - shift]
    label = np.roll(LABEL, shift)
    label[:shift] = LABEL[:shift]
    files = csv_input("0ther", "/data/more.csv")
    prepare = {"csv": files, "texts": texts, "label": label} | (prepare or {})
    return runs.run(name, prepare=prepare, label=label, **more)


def test_rows_of_other_files_are_joined_by_text(runs):
    a = runs.run("a", wrong=[8])
    b = grown(runs, "b", shift=50)
    found = read(a, b)
    assert found.joined_by == "text"
    assert row_ids(found) == [i for i in tens(8, 9) if i < 250]
    assert found.predicted[0].label.tolist() == found.predicted[1].label.tolist()
    assert np.array(row_ids(found))[~found.predicted[0].right].tolist() == [8]
    assert (found.num_labelled, found.num_only_in) == ((60, 60), (10, 10))
    assert (found.num_seen_by, found.notes) == ((0, 0), [])
    assert found.table["text"].to_pylist() == [TEXTS[i] for i in row_ids(found)]
    back = read(b, a)
    assert row_ids(back) == [i + 50 for i in row_ids(found)]
    assert back.num_only_in == (10, 10)


def test_texts_that_one_model_has_learned_in_other_files_are_not_compared(runs):
    a = runs.run("a")
    b = grown(runs, "b", shift=51)  # texts of tens 7 and 8 of the first corpus are test rows
    found = read(a, b)
    assert row_ids(found) == [i for i in tens(8) if i < 249]
    num_sevens = len([i for i in tens(7) if i < 249])
    num_nines = len([i for i in tens(9) if i < 249])
    assert found.num_seen_by == (num_sevens, num_nines)
    num_last = len([i for i in tens(8, 9) if i >= 249])  # the second corpus lacks them
    assert found.num_only_in == (num_last, 60 - num_sevens - len(row_ids(found)))


def test_rows_of_other_files_with_another_label_are_left_out_and_counted(runs):
    a = runs.run("a")
    label = np.roll(LABEL, 50)
    label[58] = 1 - label[58]
    b = grown(runs, "b")
    scored_again = runs.score("b", f"{b}/prepared", f"{b}/trained", split=by_tens(), label=label)
    found = read(a, scored_again)
    assert 8 not in row_ids(found)
    assert found.num_only_in == (10, 10)
    assert found.notes == [
        "rows with another label in the other run are left out: 1 of a and 1 of b"
    ]


def test_equal_texts_of_other_files_are_joined_as_often_as_both_have_them(runs):
    texts = list(TEXTS)
    texts[18] = texts[28] = texts[8]
    label = LABEL.copy()
    label[[8, 18, 28]] = 0, 1, 0
    a = runs.run("a", prepare={"texts": texts, "label": label}, label=label)
    fewer = list(texts)
    fewer[28] = "another"
    more = {"texts": fewer, "label": label, "csv": csv_input("0ther")}
    found = read(a, runs.run("b", prepare=more, label=label))
    assert row_ids(found) == [i for i in tens(8, 9) if i != 28]
    assert found.num_only_in == (1, 1)


def test_a_text_that_its_own_model_has_learned_in_another_split_is_left_out(runs):
    texts = list(TEXTS)
    texts[8] = texts[0]
    a = runs.run("a", prepare={"texts": texts})
    b = runs.run("b", prepare={"csv": csv_input("0ther")}, split=by_tens(test=(8, 9, 0)))
    found = read(a, b)
    assert row_ids(found) == tens(8, 9)[1:]
    assert found.num_seen_by == (30, 0)
    assert found.num_only_in == (0, 1)  # row 8 of b has its own text
    assert found.notes == [
        "1 row is left out: the model of a was trained on, or chosen by, the same text in "
        "another split"
    ]


def test_without_a_common_text_or_without_texts_the_files_are_named(runs):
    a = runs.run("a")
    b = runs.run("b", prepare={"csv": csv_input("0ther", "/data/more.csv"), "texts": [
        f"another text {i}" for i in range(NUM_ROWS)
    ]})  # fmt: skip
    line = refusal(a, b)
    assert line.startswith("a and b have scored different files, or ")
    assert "(tweets.csv; more.csv): no labelled text is in both that neither model" in line
    shutil.rmtree(f"{b}/prepared")
    line = refusal(a, b)
    assert "there are no texts for the predictions of b" in line
    assert "score.keep_columns" in line


def test_training_rows_of_other_files_that_are_gone_are_noted(runs):
    a = runs.run("a")
    b = grown(runs, "b")
    shutil.rmtree(f"{b}/trained")
    assert read(a, b).notes == ["it is unknown which rows the model of b was trained on"]


def test_rows_after_a_header_have_other_numbers(runs):
    labels = {"negative": ["0"], "positive": ["4"]}
    form = {"kind": "csv", "columns": {"text": 0, "label": 1}, "labels": labels, "header": None}
    a = runs.run("a", prepare={"form": form})
    b = runs.run("b", prepare={"form": form | {"header": True}})
    assert "only one reads the first record" in refusal(a, b)
    by_name = form | {"columns": {"text": "text", "label": "label"}}
    assert row_ids(read(b, runs.run("c", prepare={"form": by_name}))) == tens(8, 9)


def test_preparations_that_are_gone_are_not_taken_for_the_same(runs):
    a = runs.run("a")
    b = runs.run("b", prepare={"tokenizer": "tutorial"})
    shutil.rmtree(f"{b}/prepared")
    assert "data that are gone or were redone (tweets.csv; prepared): their rows" in refusal(a, b)


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
    both = csv_input("more", "/data/more.csv")["files"] + csv_input()["files"]
    corpus = {"fingerprint": "b07h", "files": both}
    a, b = (runs.score(name, corpus, trained) for name in "ab")
    assert "a was trained on rows of /data/tweets.csv" in refusal(a, b)
    prepared = f"{runs.folder}/x/prepared/tweets/split=train/part-0.parquet"
    corpus = csv_input("pa7t", prepared)
    a, b = (runs.score(name, corpus, trained) for name in "ab")
    assert f"a was trained on rows of {prepared}" in refusal(a, b)


@pytest.mark.parametrize(
    ("splits", "way_out"),
    [
        (None, "score the prepared data of its training: the model was not trained on the test"),
        (["train", "validation"], "score the prepared data of its training"),
        (["train", "validation", "test"], "score another labelled corpus"),
    ],
)
def test_a_refit_that_has_learned_the_test_rows_is_not_sent_to_them(runs, splits, way_out):
    prepared = runs.prepare("x")
    reference = manifest.reference(prepared, manifest.read(prepared))
    refit = {"splits": splits, "of": reference, "prepared": reference, "metrics": {}}
    trained = runs.train("x", prepared, refit=refit if splits else None)
    both = csv_input("more", "/data/more.csv")["files"] + csv_input()["files"]
    run = runs.score("a", {"fingerprint": "b07h", "files": both}, trained)
    with pytest.raises(UserError) as error:
        training_rows.find_row_ids(scored(run).record, name="a")
    assert "a was trained on rows of /data/tweets.csv" in str(error.value)
    assert way_out in str(error.value)


def test_test_rows_are_not_compared_with_rows_without_splits(runs):
    a = runs.run("a")
    b = runs.score("b", csv_input(), f"{a}/trained")
    assert "a has test rows, b has no splits" in refusal(a, b)


def test_no_common_row_is_refused(runs):
    a = runs.run("a")
    b = runs.run("b", split=by_tens(test=(0,)))
    assert "no labelled row in common that neither model was trained on" in refusal(a, b)


def test_texts_are_taken_from_either_run(runs):
    a = runs.run("a")
    b = runs.score("b", f"{a}/prepared", f"{a}/trained", split=by_tens(), text=TEXTS)
    assert read(a, b).table["text"].to_pylist() == [TEXTS[i] for i in tens(8, 9)]
    shutil.rmtree(f"{a}/prepared")
    assert read(a, b).table["text"].to_pylist() == [TEXTS[i] for i in tens(8, 9)]
    assert "text" not in read(a, a).table.column_names


def test_damaged_rows_give_one_clear_line(runs):
    a = runs.run("a")
    b = runs.run("b")
    with open(f"{a}/prepared/tweets/split=validation/part-0.parquet", "wb") as file:
        file.write(b"no parquet")
    assert "is gone or damaged" in refusal(a, b)


def test_a_model_has_learned_no_row_without_a_label_unless_teachers_answered_it(runs):
    is_labelled = ROW_IDS % 4 > 0
    prepared = runs.prepare("a", label=pa.array(LABEL, mask=~is_labelled))
    plain = runs.train("a", prepared)
    taught = runs.train("b", prepared, teachers=[plain])
    for trained, expected in ((plain, is_labelled), (taught, is_labelled | True)):
        corpus = manifest.reference(prepared, manifest.read(prepared))
        record = manifest.read(join(runs.score("c", corpus, trained), "scored"))
        learned, is_known = training_rows.find_row_ids(record, name="the model")
        assert is_known
        assert learned.tolist() == [i for i in tens(*range(8)) if expected[i]]
        texts, _ = training_rows.find_text_hashes([record["inputs"]["model"]])
        assert len(texts) == len({TEXTS[i] for i in learned})


def test_rows_that_only_a_taught_model_has_learned_count_whatever_model_is_read_first(runs):
    is_labelled = ROW_IDS % 4 > 0
    prepared = runs.prepare("a", label=pa.array(LABEL, mask=~is_labelled))
    plain = runs.train("a", prepared)
    taught = runs.train("b", prepared, teachers=[plain])
    corpus = manifest.reference(prepared, manifest.read(prepared))
    models = []
    for trained in (plain, taught):
        record = manifest.read(join(runs.score("c", corpus, trained), "scored"))
        models.append(record["inputs"]["model"])
    of_taught, _ = training_rows.find_text_hashes(models[1:])
    assert training_rows.find_text_hashes(models)[0].tolist() == of_taught.tolist()


def test_whole_authors_are_compared_by_author(runs):
    users = [f"user{row % 10}-{row // 30}" for row in ROW_IDS]
    prepare = {"kind": "user", "user": users}
    found = read(runs.run("a", prepare=prepare, wrong=[8]), runs.run("b", prepare=prepare))
    assert found.num_authors == 20
    assert all(len(each.groups.sizes) == 20 for each in found.predicted)
    assert found.notes == ["the rows are of 20 authors: intervals and tests are by author"]
