"""A simple model is compared with the model, measured on the same rows."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import f1_score
from stages import publish
from test_evaluated_rows import LABEL, ROW_IDS, Runs, by_tens, tens
from test_report import Outline, report_data, rows_of, write
from test_report_of_classes import rows_of_classes

from sentiflow.data import manifest, schema
from sentiflow.data.output_spec import OutputSpec
from sentiflow.evaluation import evaluated_rows, other_models, tfidf
from sentiflow.storage import parquet


def texts_of(label, *, noise, seed=0):
    """Texts whose words tell the label, but for a share of noise."""
    rng = np.random.default_rng(seed)
    shown = np.where(rng.random(len(label)) < noise, rng.integers(0, 3, len(label)), label)
    words = ("bad", "good", "plain")
    return pa.array([f"{words[code]} word{number % 7}" for number, code in enumerate(shown)])


def evaluated(num_rows=600, *, noise, seed=1):
    rows = rows_of_classes(num_rows, seed=seed)
    texts = texts_of(rows["label"].to_numpy(), noise=noise)
    return rows.set_column(rows.column_names.index("text"), "text", texts)


@pytest.fixture
def train(monkeypatch):
    """Measure the simple model, given the train rows and those to measure it on."""

    def run(text, label, rows):
        monkeypatch.setattr(other_models, "_read_train_rows", lambda scored: (text, label))
        (found,), _ = other_models.measure(other_models.choose_rows(rows), {})
        return found

    return run


def test_the_difference_is_the_models_metric_minus_the_baselines(train):
    rows = evaluated(noise=0)
    label = np.random.default_rng(2).integers(0, 3, 900)
    found = train(texts_of(label, noise=0), label, rows)
    assert found.accuracy == found.f1_macro == 1
    expected = (rows["label"].to_numpy() == rows["prediction"].to_numpy()).mean()
    assert found.accuracy_of_model == expected
    assert found.accuracy_difference.value == pytest.approx(expected - 1)
    assert "worse" in found.verdict
    noisy = train(texts_of(label, noise=1), label, evaluated(noise=1))
    assert noisy.accuracy < 0.6
    assert "better" in noisy.verdict
    assert noisy.f1_macro_difference.low > 0


def test_the_number_of_rows_is_bounded_and_said(monkeypatch):
    monkeypatch.setattr(other_models, "MAX_TRAIN_ROWS", 200)
    monkeypatch.setattr(other_models, "MAX_ROWS", 100)
    label = np.random.default_rng(2).integers(0, 3, 900)
    train = (texts_of(label, noise=0.1), label)
    monkeypatch.setattr(other_models, "_read_train_rows", lambda scored: train)
    rows = other_models.choose_rows(evaluated(noise=0))
    (found,), _ = other_models.measure(rows, {})
    assert (found.num_train_rows, found.num_train_rows_in_all, found.num_rows) == (200, 900, 100)
    assert found.training.startswith("trained on 200 of 900 train texts (limit 200) in ")


def test_classes_with_fewer_rows_than_folds_choose_nothing(train):
    label = np.array([0] * 60 + [1, 1, 2])
    assert train(texts_of(label, noise=0), label, evaluated(noise=0)).c == tfidf.C_VALUES[1]


def test_train_texts_are_those_of_the_models_training(tmp_path):
    runs = Runs(tmp_path)
    run = runs.run("a")
    record = manifest.read(f"{run}/scored")
    rows = evaluated_rows.of_split(evaluated_rows.read(f"{run}/scored", record), "test")
    (found,), reason = other_models.measure(rows, record)
    assert reason == ""
    is_train = by_tens() == "train"
    assert found.num_train_rows == found.num_train_rows_in_all == is_train.sum()
    _, label = other_models._read_train_rows(record)
    assert np.bincount(label).tolist() == np.bincount(LABEL[is_train]).tolist()
    shutil.rmtree(f"{run}/prepared")
    assert other_models.measure(rows, record) == (
        [],
        "the texts that the model was trained on are gone",
    )
    assert other_models.measure(None, record) == ([], "there are no texts")


def test_over_folds_it_is_measured_on_rows_that_it_has_not_seen(tmp_path, monkeypatch):
    fold = (np.arange(len(LABEL)) % 5 + 1).astype(np.int8)
    words = np.where(LABEL, "good", "bad")
    texts = [f"{word} " + 3 * f"{word}{k} " for word, k in zip(words, fold, strict=True)]
    monkeypatch.setattr("test_evaluated_rows.TEXTS", texts)
    run = Runs(tmp_path).run("a")
    record = manifest.read(f"{run}/scored")
    is_noise = fold == 3  # their own words would tell, but no other fold has them
    label = np.where(is_noise, 1 - LABEL, LABEL).astype(np.int8)
    answers = pa.table(
        {"row_id": ROW_IDS, "fold": fold, "label": label, "prediction": LABEL}
        | {"probability_negative": 1.0 - LABEL, "probability_positive": LABEL.astype(float)}
    )
    every = np.ones(len(LABEL), bool)
    (found,) = other_models.measure_folds(answers, every, record)
    assert found.name == "TF-IDF with logistic regression over the same folds"
    assert found.num_rows == found.num_train_rows_in_all == len(LABEL)
    assert found.accuracy == found.accuracy_of_model == 1 - is_noise.mean()
    assert found.accuracy_difference.value == 0
    (of_some,) = other_models.measure_folds(answers, ~is_noise, record)
    assert (of_some.accuracy, of_some.num_rows) == (1, (~is_noise).sum())
    assert of_some.num_train_rows == found.num_train_rows, "rows that are not measured are learned"
    shutil.rmtree(f"{run}/prepared")
    assert other_models.measure_folds(answers, every, record) == []


@pytest.mark.parametrize(
    ("text", "label", "reason"),
    [
        (
            ["good"] * 49,
            [0, 1] * 25,
            "only 49 texts of the train split are labelled, fewer than 50",
        ),
        (["good"] * 60, [1] * 60, "the texts of the train split have one label"),
        (
            [chr(0x4E00 + i) for i in range(60)],
            [0, 1] * 30,
            "the texts of the train split have no word or characters in common",
        ),
    ],
)
def test_without_a_baseline_the_page_says_why(monkeypatch, text, label, reason):
    found = (pa.array(text), np.array(label[: len(text)]))
    monkeypatch.setattr(other_models, "_read_train_rows", lambda scored: found)
    assert other_models.measure(evaluated(noise=0), {}) == ([], reason)
    data = report_data(rows_of("test", 600))
    object.__setattr__(data.result, "no_baseline", reason)
    assert f"There is no comparison with a simple model: {reason}." in Outline(write(data)).text


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
    return other_models.compare_teachers(chosen, record, split="test")


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
    found, reason = other_models.compare_teachers(rows, record, split="test")
    assert found is None
    assert reason == "the teachers have answered only the rows of the model's prepared data"
    shutil.rmtree(tmp_path / "taught")
    assert compare(uri) == (None, "the answers of the teachers are gone or were redone")


def test_a_model_without_teachers_is_not_compared(runs):
    assert compare(runs.run("plain")) == (None, "")
