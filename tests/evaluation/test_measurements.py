"""Labelled rows become the measurements of ``metrics.json``.

The highlights name what a reader should remember, and nothing that was not measured.
"""

import json
from dataclasses import asdict, replace

import described
import numpy as np
import pyarrow as pa
import pytest

from sentiflow.errors import UserError
from sentiflow.evaluation import cross_validation, evaluated_rows, highlights
from sentiflow.evaluation.behavior import BehaviorResult
from sentiflow.evaluation.evaluated_rows import headline_split
from sentiflow.evaluation.group_bias import GroupBias, TermResult
from sentiflow.evaluation.measurements import Measurements, UnsureMetrics
from sentiflow.evaluation.mistakes import LabelErrors
from sentiflow.evaluation.model_checks import ModelChecks
from sentiflow.evaluation.slice_metrics import SliceMetrics
from sentiflow.metrics import classification
from sentiflow.metrics.calibration import CalibrationError
from sentiflow.metrics.dependence import FoldGroups
from sentiflow.metrics.predicted import Predicted
from sentiflow.storage import filesystem, parquet
from sentiflow.tracking import training_rows

MODEL = {
    "settings": {
        "tokenizer": "tweet",
        "max_length": 64,
        "unsure": {"max_error": 0.05, "threshold": 0.8},
    },
    "calibration": {"temperature": 2.0},
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
        "probability_negative": 1 - probability,
        "probability_positive": probability,
        "num_tokens": rng.integers(0, 9, num_rows).astype(np.int32),
    }
    if texts:
        columns["text"] = pa.array([f"not word{k} really?" for k in range(num_rows)])
    return pa.table(columns)


def measure(rows, *, model=MODEL, patterns=None):
    found = described.measure(rows, model=model, patterns=patterns)
    figures = {split: metrics.to_json() for split, metrics in found.figures.items()}
    return json.loads(json.dumps(asdict(found) | {"figures": figures}, allow_nan=False))


def test_each_split_has_metrics_and_test_is_the_headline():
    rows = pa.concat_tables([rows_of("validation", 300, seed=1), rows_of()])
    found = measure(rows)
    assert found["split"] == "test"
    assert list(found["figures"]) == ["validation", "test"]
    test = rows_of()
    expected = classification.measure(evaluated_rows.predicted_of(test)).scalars
    assert found["figures"]["test"] == pytest.approx(expected)
    assert found["intervals"]["test"]["roc_auc"][0] < expected["roc_auc"]
    assert found["coverage"][0]["num_rows"] == found["figures"]["test"]["num_rows"]


def test_the_calibration_is_that_of_the_package():
    effect = {"before": {"log_loss": 0.5}, "after": {"log_loss": 0.4}}
    found = measure(rows_of(), model=MODEL | {"calibration": {"temperature": 2.0} | effect})
    assert found["calibration"] == {"temperature": 2.0, "bias": {}} | effect


def test_what_is_answered_is_measured_beside_the_promise():
    rows = rows_of()
    sure = np.maximum(*(rows[f"probability_{n}"].to_numpy() for n in ("negative", "positive")))
    unsure = sure <= 0.8
    found = measure(rows.append_column("unsure", pa.array(unsure)))["unsure"]
    right = rows["label"].to_numpy() == rows["prediction"].to_numpy()
    assert found["fraction"] == pytest.approx(unsure.mean())
    assert found["error"] == pytest.approx(1 - right[~unsure].mean())
    assert found["error_low"] < found["error"] < found["error_high"]
    assert (found["max_error"], found["threshold"], found["num_rows"]) == (
        0.05, 0.8, (~unsure).sum()
    )  # fmt: skip
    assert measure(rows)["unsure"] is None
    nothing = measure(rows.append_column("unsure", pa.array(np.ones(400, bool))))["unsure"]
    assert (nothing["fraction"], nothing["num_rows"], nothing["error"]) == (1, 0, None)


def test_what_needs_the_calibration_of_a_model_without_one_is_left_out():
    found = measure(rows_of(neutral=0.2), model=MODEL | {"calibration": None})
    assert found["calibration"] is None
    assert found["figures"]["test"]["num_rows"] > 0


# Highlights

LABEL = np.repeat([1, 1, 0, 0], [40, 10, 10, 40])
PREDICTION = np.repeat([1, 0, 1, 0], [40, 10, 10, 40])
METRICS = classification.measure(
    Predicted.of_positive(label=LABEL, probability=PREDICTION * 0.8, prediction=PREDICTION)
)
METRICS = replace(METRICS, num_rows=1234, accuracy_low=0.79, accuracy_high=0.81)


def slice_of(name, num_rows, accuracy, p_adjusted, **more):
    return SliceMetrics(
        num_rows, accuracy, 0.0, 0.78, name, "", 0.1, -0.05, 0.5, 0.5, p_adjusted=p_adjusted, **more
    )


def behavior_of(name, pass_rate):
    return BehaviorResult("invariance", name, "", 10, 1, pass_rate, None, None, ())


def gap(category, spread, p_adjusted):
    names = ("elderly", "older", "teenage")
    terms = tuple(TermResult(term, (), 0.5, 0.0, 0.0, 0.0) for term in names)
    return GroupBias(category, 18, 54, terms, (), spread, 0.1, 0.01, p_adjusted, 0.0)


MEASURED = Measurements(
    split="test",
    figures={"test": METRICS},
    intervals={"test": {}},
    no_intervals={"test": {}},
    calibration_error={"test": CalibrationError(0.021, 0.0123, 0.0005)},
    calibration=None,
    coverage=[],
    unsure=UnsureMetrics(0.05, 0.81, 0.2, 987, 0.04, 0.03, 0.06),
    label_errors=LabelErrors(1234, 62, 0.05),
    slices=[slice_of("question", 1200, 0.75, 0.004), slice_of("tiny", 2, 0.0, None)],
)
CHECKS = ModelChecks(
    behavior=[behavior_of("praise", 0.9), behavior_of("not bad", 0.1)],
    group_bias=[gap("age", 0.2, 0.002), gap("religion", 0.3, 0.06)],
)


def summarize(checks=CHECKS, **changes):
    return highlights.summarize(replace(MEASURED, **changes), checks)


def test_each_part_gives_the_line_that_a_reader_wants():
    lines = {section: f"{figure} {text}" for figure, text, section in summarize()}
    assert lines["probabilities"] == (
        "2.1 points is the average gap between probability and outcome (chance alone reaches 1.2; "
        "p < 0.001)"
    )
    assert lines["certainty"] == (
        "20.0% of the texts are unsure, and left to people; 4.0% of the answers to the others are "
        "wrong (95% interval 3.0% to 6.0%), as promised, at most 5.0%"
    )
    assert lines["slices"] == (
        "75.0% is the accuracy of the worst slice beyond chance: question (1,200 texts; p = 0.004)"
    )
    assert lines["mistakes"].startswith("5.0% of the labels may be wrong")
    assert (
        lines["behavior"] == "10% is the lowest pass rate of 2 behavior tests, in English: not bad"
    )
    assert lines["groups"] == (
        "20.0 points is the largest gap in probability between groups by age: elderly and teenage, "
        "in the same sentences (p = 0.002)"
    )
    within_chance = ModelChecks(group_bias=CHECKS.group_bias[1:])
    assert "groups" not in [section for _, _, section in summarize(within_chance)]


def test_the_worst_slice_that_a_search_found_has_a_line_of_its_own():
    found = [
        slice_of("“flight” and “delayed”", 214, 0.61, 0.0004, is_found=True),
        slice_of("“hold”", 300, 0.7, 0.02, is_found=True),
    ]
    lines = [f"{number} {text}" for number, text, section in summarize() if section == "slices"]
    more = [line for line in summarize(slices=found + MEASURED.slices) if line.section == "slices"]
    assert f"{more[0].number} {more[0].meaning}" == lines[0]
    assert (more[1].number, more[1].meaning) == (
        "61.0%",
        "is the accuracy on texts with “flight” and “delayed”, a slice found by a search: "
        "5.0 points below the rest (214 texts; p < 0.001); 1 more in the report",
    )
    (alone,) = [line for line in summarize(slices=found[1:]) if line.section == "slices"]
    assert alone.meaning.endswith("below the rest (300 texts; p = 0.02)")


@pytest.mark.parametrize(
    ("error", "low", "said"),
    [
        (0.05, 0.03, "as promised, at most 5.0%"),
        (0.06, 0.04, "more than the promised 5.0%, within chance"),
        (0.09, 0.06, "more than the promised 5.0%, beyond chance"),
        (None, None, "nothing is answered"),
    ],
)
def test_a_broken_promise_is_told_from_chance(error, low, said):
    assert UnsureMetrics(0.05, 0.8, 0.2, 100, error, low, 0.2).verdict == said


CLASSES = ("bad", "dull", "good")


@pytest.fixture
def training(tmp_path, monkeypatch):
    """The answers of two folds, and predictions of the model; rows 90 on are of a first model."""
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 100).astype(np.float32)
    label, fold = rng.integers(0, 3, 100).astype(np.int8), (np.arange(100) % 2 + 1).astype(np.int8)
    table = pa.table(
        {"row_id": range(100), "fold": fold, "label": label}
        | {"prediction": probabilities.argmax(axis=1).astype(np.int8)}
        | {f"probability_{name}": probabilities[:, k] for k, name in enumerate(CLASSES)}
    )
    files = [
        filesystem.write_file(
            str(tmp_path), f"folds/ab/fold-{k}.parquet", parquet.to_bytes(table.filter(fold == k))
        )
        for k in (1, 2)
    ]
    seen = np.arange(90, 200), True
    monkeypatch.setattr(training_rows, "find_row_ids", lambda *_, **__: seen)
    model = {"settings": {"classes": CLASSES}, "training": {"uri": str(tmp_path)}}
    return {"files": files}, {"inputs": {"model": model}}, (label, probabilities, fold)


def test_all_answers_are_measured_but_those_that_a_first_model_has_learned(training):
    record, scored, (label, probabilities, fold) = training
    found = cross_validation.measure_folds(record, scored)

    def measure(rows):
        guess = probabilities[rows].argmax(axis=1)
        groups = FoldGroups(fold[rows])
        return classification.measure(
            Predicted(CLASSES, label[rows], guess, probabilities[rows], groups)
        )

    rows = np.arange(90)
    assert found.metrics == measure(rows)
    assert found.f1_of_folds == [measure(rows[fold[:90] == k]).f1_macro for k in (1, 2)]
    assert found.origin == "cross-validated over 2 folds, 90 rows"
    assert found.to_json()["accuracy"] == found.metrics.accuracy
    first, second = highlights.summarize(MEASURED, ModelChecks(), folds=found)[:2]
    assert first[0] == f"{found.metrics.accuracy:.1%}"
    assert "cross-validated over 2 folds, 90 rows (95% interval" in first.meaning
    assert second[0] == f"{found.metrics.f1_macro:.3f}"
    assert headline_split(["test", "cross-validated"]) == "cross-validated"


def test_answers_of_another_model_are_refused_and_there_may_be_none(training):
    record, scored, _ = training
    assert (
        cross_validation.measure_folds({"files": [{"path": "model/manifest.json"}]}, scored) is None
    )
    scored["inputs"]["model"]["settings"]["classes"] = ("bad", "good", "dull")
    with pytest.raises(UserError, match=r"fold-1\.parquet has answers of another model"):
        cross_validation.measure_folds(record, scored)


def test_folds_whose_rows_a_first_model_has_all_seen_are_refused(training, monkeypatch):
    record, scored, _ = training
    seen = np.arange(100), True
    monkeypatch.setattr(training_rows, "find_row_ids", lambda *_, **__: seen)
    with pytest.raises(UserError, match=r"no row of the folds .*train\.init_from .*all of them"):
        cross_validation.measure_folds(record, scored)
