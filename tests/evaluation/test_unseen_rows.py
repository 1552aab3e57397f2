"""Rows that the model, or the model it began from, has learned are left out."""

import shutil

from test_evaluated_rows import Runs, by_tens, tens

from sentiflow.data import lineage, manifest
from sentiflow.evaluation import evaluated_rows
from sentiflow.evaluation.unseen_rows import leave_out_training_rows


def test_rows_of_the_initial_model_are_left_out_too(tmp_path):
    runs = Runs(tmp_path)
    began = runs.train("old", runs.prepare("old", by_tens(validation=(), test=(9, 0))))
    scored = f"{runs.run('b', train={'init_from': f'{began}/model'})}/scored"
    record = manifest.read(scored)
    corpus = lineage.corpus_of(record)
    rows = evaluated_rows.read(scored, record)
    left, is_unseen, notes = leave_out_training_rows(rows, record, corpus)
    assert sorted(evaluated_rows.of_split(left, "test")["row_id"].to_pylist()) == tens(9)
    assert is_unseen
    assert notes == ["60 rows are left out: they were used to train or choose the model"]
    shutil.rmtree(began)
    left, is_unseen, notes = leave_out_training_rows(rows, record, corpus)
    assert len(left) == len(rows)
    assert not is_unseen
    assert "it is unknown whether" in notes[0]
