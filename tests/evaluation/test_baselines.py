"""A simple model is compared with the model, measured on the same rows."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
from test_evaluated_rows import LABEL, Runs, by_tens
from test_report import Outline, report_data, rows_of, write
from test_report_of_classes import rows_of_classes

from sentiflow.data import manifest
from sentiflow.evaluation import evaluated_rows, other_models


def texts_of(label, *, noise, seed=0):
    """Texts whose words tell the label, but for a share of noise."""
    rng = np.random.default_rng(seed)
    shown = np.where(rng.random(len(label)) < noise, rng.integers(0, 3, len(label)), label)
    return pa.array([f"{('bad', 'good', 'plain')[k]} word{i % 7}" for i, k in enumerate(shown)])


def evaluated(num_rows=600, *, noise, seed=1):
    rows = rows_of_classes(num_rows, seed=seed)
    texts = texts_of(rows["label"].to_numpy(), noise=noise)
    return rows.set_column(rows.column_names.index("text"), "text", texts)


@pytest.fixture
def train(monkeypatch):
    """Measure the simple model, given the train rows and those to measure it on."""

    def run(text, label, rows):
        monkeypatch.setattr(other_models, "_read_train_rows", lambda scored: (text, label))
        (found,), _ = other_models.measure(rows, {})
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
    (found,), _ = other_models.measure(evaluated(noise=0), {})
    assert (found.num_train_rows, found.num_train_rows_in_all, found.num_rows) == (200, 900, 100)
    assert found.training.startswith("trained on 200 of 900 train texts (limit) in ")


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
    assert other_models.measure(rows.drop_columns("text"), record) == ([], "there are no texts")


@pytest.mark.parametrize(
    ("text", "label", "reason"),
    [
        (["good"] * 49, [0, 1] * 25, "only 49 texts of the train split are labelled"),
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


def test_the_page_says_whether_the_model_is_better(train):
    label = np.random.default_rng(2).integers(0, 3, 900)
    found = train(texts_of(label, noise=0), label, evaluated(noise=0))
    data = report_data(rows_of("test", 600))
    object.__setattr__(data.result, "baselines", [found])
    text = Outline(write(data)).text
    assert "logistic regression, trained on all 900 train texts (limit 100,000) in" in text
    assert "labels 100.0% of the same texts correctly (macro F1 1.000): the model is" in text
