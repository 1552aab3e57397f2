"""A distilled model is compared with its teachers, on the rows that these answered."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score
from stages import publish
from test_evaluated_rows import LABEL, Runs, by_tens, tens

from sentiflow.data import manifest, schema
from sentiflow.data.output_spec import OutputSpec
from sentiflow.evaluation import compared_teachers, evaluated_rows
from sentiflow.storage import parquet


@pytest.fixture
def runs(tmp_path):
    return Runs(tmp_path)


def teach(folder, row_ids, positive):
    """Publish answers of teachers to test rows, in another order than that of the rows."""
    order = np.random.default_rng(0).permutation(len(row_ids))
    lists = np.stack([1 - positive, positive], axis=1)[order].tolist()
    columns = [pa.array(np.array(row_ids)[order]), pa.array(lists, pa.list_(pa.float32()))]
    table = pa.table(columns, schema=schema.HELD_OUT)
    files = parquet.write_part(folder, "split=test/part-00000.parquet", table)
    publish(OutputSpec("teach", folder, {}, {}), files=files)
    record = manifest.read(folder)
    counts = {"train": {"rows": 1, "answered": 1}, "unlabelled": {"rows": 0}}
    return {"uri": folder, "fingerprint": record["fingerprint"], "counts": counts}


@pytest.fixture
def run(runs, tmp_path):
    """Make a student that is wrong in rows 8 and 18, with a teacher that is wrong in 8 and 28."""
    teacher = runs.run("teacher")
    test = tens(8, 9)
    right = np.isin(test, (8, 28), invert=True)
    positive = np.where(right == (LABEL[test] == 1), 0.9, 0.2)
    taught = teach(str(tmp_path / "taught"), test[:-1], positive[:-1])
    uri = runs.run(
        "student", wrong=(8, 18), train={"teachers": [f"{teacher}/trained"], "taught": taught}
    )
    return uri, test[:-1], positive[:-1]


def compare(uri):
    record = manifest.read(f"{uri}/scored")
    rows = evaluated_rows.read(f"{uri}/scored", record)
    chosen = evaluated_rows.of_split(rows, "test")
    return compared_teachers.compare(chosen, record, split="test")


def test_student_and_teachers_are_measured_on_the_rows_that_these_answered(run):
    uri, test, positive = run
    found, reason = compare(uri)
    label = LABEL[test]
    theirs = (positive >= 0.5).astype(int)
    ours = np.where(np.isin(test, (8, 18)), 1 - label, label)
    assert reason == ""
    assert found.num_teachers == 1
    assert found.num_rows == len(test) == len(tens(8, 9)) - 1
    assert found.accuracy == pytest.approx((theirs == label).mean())
    assert found.accuracy_of_model == pytest.approx((ours == label).mean())
    assert found.agreement == pytest.approx((ours == theirs).mean()) == 1 - 2 / len(test)
    assert found.agreement_low < found.agreement < found.agreement_high
    assert found.f1_macro == pytest.approx(f1_score(label, theirs, average="macro"))
    assert found.f1_macro_of_model == pytest.approx(f1_score(label, ours, average="macro"))
    assert found.accuracy_difference.value == 0
    assert found.accuracy_difference.low < 0 < found.accuracy_difference.high


def test_answers_that_are_gone_or_of_another_corpus_give_the_reason(run, runs, tmp_path):
    uri, *_ = run
    other = runs.prepare("other", csv={"fingerprint": "b", "files": []})
    elsewhere = runs.score("elsewhere", other, f"{uri}/trained", split=by_tens())
    record = manifest.read(f"{elsewhere}/scored")
    rows = evaluated_rows.of_split(evaluated_rows.read(f"{elsewhere}/scored", record), "test")
    found, reason = compared_teachers.compare(rows, record, split="test")
    assert found is None
    assert reason == "the teachers have answered only the rows of the model's prepared data"
    shutil.rmtree(tmp_path / "taught")
    assert compare(uri) == (None, "the answers of the teachers are gone or were redone")


def test_a_model_without_teachers_is_not_compared(runs):
    assert compare(runs.run("plain")) == (None, "")
