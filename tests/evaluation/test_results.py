"""Labelled rows become the measurements of ``metrics.json``."""

import json
from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest

from sentiflow.evaluation import results
from sentiflow.metrics import calibration, classification

MODEL = {
    "settings": {"tokenizer": "tweet", "max_length": 64},
    "calibration": {"temperature": 2.0, "neutral_margin": 0.2},
}


def rows_of(split="test", num_rows=400, *, seed=0, neutral=0.0, texts=True):
    rng = np.random.default_rng(seed)
    probability = rng.random(num_rows).astype(np.float32)
    label = (rng.random(num_rows) < probability).astype(np.int8)
    label[rng.random(num_rows) < neutral] = 2
    columns = {
        "row_id": np.arange(num_rows),
        "split": pa.array([split] * num_rows),
        "label": label,
        "prediction": (probability >= 0.5).astype(np.int8),
        "probability": probability,
        "num_tokens": rng.integers(0, 9, num_rows).astype(np.int32),
    }
    if texts:
        columns["text"] = pa.array([f"not word{k} really?" for k in range(num_rows)])
    return pa.table(columns)


def measure(rows, *, model=MODEL, margin=None, patterns=None):
    found = results.measure(rows, model=model, margin=margin, patterns=patterns or {})
    return json.loads(json.dumps(asdict(found), allow_nan=False))


def test_each_split_has_metrics_and_test_is_the_headline():
    rows = pa.concat_tables([rows_of("validation", 300, seed=1), rows_of()])
    found = measure(rows)
    assert found["split"] == "test"
    assert list(found["figures"]) == ["validation", "test"]
    test = rows_of()
    names = ("label", "probability", "prediction")
    expected = vars(
        classification.binary_metrics(**{name: test[name].to_numpy() for name in names})
    )
    assert found["figures"]["test"] == pytest.approx(expected)
    assert found["intervals"]["test"]["roc_auc"][0] < expected["roc_auc"]
    assert found["coverage"][0]["num_rows"] == found["figures"]["test"]["num_rows"]


def test_the_temperature_is_taken_back_where_it_was_applied():
    rows = rows_of()
    known = rows["num_tokens"].to_numpy() > 0
    after = rows["probability"].to_numpy()
    before = results.before_temperature(after, rows["num_tokens"].to_numpy(), temperature=2.0)
    np.testing.assert_array_equal(before[~known], after[~known])
    again = calibration.rescale(before[known], temperature=2.0)
    np.testing.assert_allclose(again, after[known], atol=1e-4)
    found = measure(rows)["calibration"]
    assert found["temperature"] == 2
    assert found["after"]["log_loss"] < found["before"]["log_loss"]


def test_neutral_labels_are_measured_beside_the_two():
    rows = rows_of("all", neutral=0.3)
    found = measure(rows)
    assert found["split"] == "all"
    assert found["figures"]["all"]["num_rows"] < 400
    three = found["three_class"]["all"]
    assert three["num_rows"] == 400
    assert sum(three["confusion"]["neutral"].values()) == 400 - found["figures"]["all"]["num_rows"]


def test_a_margin_in_the_settings_replaces_that_of_the_model():
    found = measure(rows_of(), margin=0.4)
    answered = np.abs(rows_of()["probability"].to_numpy() - 0.5) >= 0.4
    assert found["neutral"]["margin"] == 0.4
    assert found["neutral"]["coverage"] == pytest.approx(answered.mean())
    assert measure(rows_of())["neutral"]["margin"] == 0.2


def test_what_needs_the_settings_of_an_unknown_model_is_left_out():
    found = measure(rows_of(neutral=0.2), model={"settings": None, "calibration": None})
    assert found["calibration"] is None
    assert found["neutral"] is None
    assert found["three_class"] == {}
    assert found["slices"] == found["lengths"] == []
    assert found["figures"]["test"]["num_rows"] > 0


def test_texts_give_slices_and_without_them_there_are_none():
    names = [
        item["name"] for item in measure(rows_of(), patterns={"even": "word.?[02468]"})["slices"]
    ]
    assert {"negation", "question", "even"} <= set(names)
    assert measure(rows_of(texts=False))["slices"] == []


def test_with_a_margin_above_all_probabilities_nothing_is_answered():
    neutral = measure(rows_of(), margin=0.5)["neutral"]
    assert (neutral["num_rows"], neutral["accuracy"], neutral["low"]) == (0, None, None)
