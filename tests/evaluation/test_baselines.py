"""A simple model is compared with the model, measured on the same rows."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from test_evaluated_rows import LABEL, ROW_IDS, Runs, by_tens
from test_report import Outline, report_data, rows_of, write
from test_report_of_classes import rows_of_classes

from sentiflow.data import manifest
from sentiflow.evaluation import baselines, evaluated_rows, tfidf


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
        monkeypatch.setattr(baselines, "_read_train_rows", lambda scored: (text, label))
        (found,), _ = baselines.measure(baselines.choose_rows(rows), {})
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
    monkeypatch.setattr(baselines, "MAX_TRAIN_ROWS", 200)
    monkeypatch.setattr(baselines, "MAX_ROWS", 100)
    label = np.random.default_rng(2).integers(0, 3, 900)
    train = (texts_of(label, noise=0.1), label)
    monkeypatch.setattr(baselines, "_read_train_rows", lambda scored: train)
    rows = baselines.choose_rows(evaluated(noise=0))
    (found,), _ = baselines.measure(rows, {})
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
    (found,), reason = baselines.measure(rows, record)
    assert reason == ""
    is_train = by_tens() == "train"
    assert found.num_train_rows == found.num_train_rows_in_all == is_train.sum()
    _, label = baselines._read_train_rows(record)
    assert np.bincount(label).tolist() == np.bincount(LABEL[is_train]).tolist()
    shutil.rmtree(f"{run}/prepared")
    assert baselines.measure(rows, record) == (
        [],
        "the texts that the model was trained on are gone",
    )
    assert baselines.measure(None, record) == ([], "there are no texts")


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
    (found,) = baselines.measure_folds(answers, every, record)
    assert found.name == "TF-IDF with logistic regression over the same folds"
    assert found.num_rows == found.num_train_rows_in_all == len(LABEL)
    assert found.accuracy == found.accuracy_of_model == 1 - is_noise.mean()
    assert found.accuracy_difference.value == 0
    (of_some,) = baselines.measure_folds(answers, ~is_noise, record)
    assert (of_some.accuracy, of_some.num_rows) == (1, (~is_noise).sum())
    assert of_some.num_train_rows == found.num_train_rows, "rows that are not measured are learned"
    shutil.rmtree(f"{run}/prepared")
    assert baselines.measure_folds(answers, every, record) == []


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
    monkeypatch.setattr(baselines, "_read_train_rows", lambda scored: found)
    assert baselines.measure(evaluated(noise=0), {}) == ([], reason)
    data = report_data(rows_of("test", 600))
    object.__setattr__(data.result, "no_baseline", reason)
    assert f"There is no comparison with a simple model: {reason}." in Outline(write(data)).text
