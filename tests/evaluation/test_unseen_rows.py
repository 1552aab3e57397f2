"""Rows that the model, or the model it began from, has learned are left out."""

import shutil

from test_evaluated_rows import ROW_IDS, TEXTS, Runs, by_tens, csv_input, tens

from sentiflow.data import lineage, manifest
from sentiflow.evaluation import compact_rows, evaluated_rows
from sentiflow.evaluation.unseen_rows import leave_out_training_rows


def read(scored, record):
    numbers = compact_rows.read(scored, record)
    return numbers.rows, numbers.texts


def test_rows_of_the_initial_model_are_left_out_too(tmp_path):
    runs = Runs(tmp_path)
    began = runs.train("old", runs.prepare("old", by_tens(validation=(), test=(9, 0))))
    scored = f"{runs.run('b', train={'init_from': f'{began}/model'})}/scored"
    record = manifest.read(scored)
    corpus = lineage.corpus_of(record)
    rows, texts = read(scored, record)
    left, is_unseen, notes = leave_out_training_rows(rows, record, corpus, texts)
    assert sorted(evaluated_rows.of_split(left, "test")["row_id"].to_pylist()) == tens(9)
    assert is_unseen
    assert notes == ["60 rows are left out: they were used to train or choose the model"]
    shutil.rmtree(began)
    left, is_unseen, notes = leave_out_training_rows(rows, record, corpus, texts)
    assert len(left) == len(rows)
    assert not is_unseen
    assert "it is unknown whether" in notes[0]


def test_texts_that_the_model_has_learned_are_left_out_of_another_corpus(tmp_path):
    runs = Runs(tmp_path)
    trained = runs.train("old", runs.prepare("old"))
    texts = [TEXTS[0], TEXTS[1].upper(), *(f"another {row}" for row in ROW_IDS[2:])]
    other = {"uri": "/data/new.csv", "fingerprint": "c0", **csv_input("c0", "/data/new.csv")}
    scored = f"{runs.score('new', other, trained, text=texts)}/scored"
    record = manifest.read(scored)
    rows, texts = read(scored, record)
    left, _, notes = leave_out_training_rows(rows, record, lineage.corpus_of(record), texts)
    assert sorted(left["row_id"].to_pylist()) == ROW_IDS[2:].tolist()
    assert notes == ["2 rows are left out: the model has learned their texts"]


def test_texts_of_the_own_test_split_are_left_to_the_split(tmp_path):
    runs = Runs(tmp_path)
    scored = f"{runs.run('own', text=['the same'] * len(ROW_IDS))}/scored"
    record = manifest.read(scored)
    rows, texts = read(scored, record)
    left, _, notes = leave_out_training_rows(rows, record, lineage.corpus_of(record), texts)
    assert (len(left), notes) == (len(rows), [])
