"""Metrics equal scikit-learn's and hand-counted ones, and are None where undefined."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from sentiflow.metrics.calibration import expected_calibration_error, reliability_bins
from sentiflow.metrics.classification import measure
from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.predicted import Predicted

SETTINGS = settings(max_examples=60, deadline=None)

ROWS = st.lists(
    st.tuples(st.integers(0, 1), st.floats(0, 1, width=32), st.integers(0, 1)),
    min_size=1,
    max_size=40,
)


def metrics_of(rows):
    """Measure rows of (label, probability, prediction)."""
    label, probability, prediction = zip(*rows, strict=True)
    predicted = Predicted.of_positive(
        label=np.array(label, dtype=np.int8),
        probability=np.array(probability, dtype=np.float32),
        prediction=np.array(prediction, dtype=np.int8),
    )
    return measure(predicted).scalars


@pytest.fixture(scope="module")
def random_rows():
    """2,000 rows whose probability says something about the label."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, 2000).astype(np.int8)
    probability = rng.beta(2 + 2 * label, 4 - 2 * label).astype(np.float32)
    return {
        "label": label,
        "probability": probability,
        "prediction": (probability > 0.45).astype(np.int8),
    }


def test_metrics_equal_scikit_learn(random_rows):
    label, prediction = random_rows["label"], random_rows["prediction"]
    probability = random_rows["probability"].astype(np.float64)
    precision, recall, f1, _ = sklearn_metrics.precision_recall_fscore_support(label, prediction)
    (tn, fp), (fn, tp) = sklearn_metrics.confusion_matrix(label, prediction)
    expected = {
        "num_rows": 2000,
        "positive_fraction": label.mean(),
        "accuracy": sklearn_metrics.accuracy_score(label, prediction),
        "precision_positive": precision[1],
        "recall_positive": recall[1],
        "f1_positive": f1[1],
        "precision_negative": precision[0],
        "recall_negative": recall[0],
        "f1_negative": f1[0],
        "f1_macro": f1.mean(),
        "matthews": sklearn_metrics.matthews_corrcoef(label, prediction),
        "roc_auc": sklearn_metrics.roc_auc_score(label, probability),
        "average_precision": sklearn_metrics.average_precision_score(label, probability),
        "log_loss": sklearn_metrics.log_loss(label, probability),
        "brier": sklearn_metrics.brier_score_loss(label, probability),
        "true_positive": tp,
        "false_positive": fp,
        "true_negative": tn,
        "false_negative": fn,
    }
    found = measure(Predicted.of_positive(**random_rows)).scalars
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    low, high = share_interval(int(tp + tn), 2000)
    assert (found["accuracy_low"], found["accuracy_high"]) == (low, high)
    assert set(found) - set(expected) == {
        "accuracy_low",
        "accuracy_high",
        "expected_calibration_error",
    }


def test_one_class_leaves_ranking_undefined():
    found = metrics_of([(1, 0.8, 1), (1, 0.3, 0)])
    undefined = {"roc_auc", "average_precision", "recall_negative", "matthews"}
    assert {name for name, value in found.items() if value is None} == undefined
    assert found["accuracy"] == 0.5
    assert found["precision_negative"] == found["f1_negative"] == 0


def test_a_certain_mistake_costs_a_finite_log_loss():
    found = metrics_of([(0, 1.0, 1)])
    assert found["log_loss"] == pytest.approx(-math.log(1e-7))


@SETTINGS
@given(ROWS)
def test_metrics_are_plain_json(rows):
    found = metrics_of(rows)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {type(value) for value in found.values()} <= {int, float, type(None)}


@SETTINGS
@given(ROWS)
def test_exchanging_the_classes_exchanges_their_metrics(rows):
    found = metrics_of(rows)
    exchanged = metrics_of([(1 - label, 1 - p, 1 - guess) for label, p, guess in rows])
    for name in ("precision", "recall", "f1"):
        assert found[f"{name}_positive"] == exchanged[f"{name}_negative"]
    assert found["accuracy"] == exchanged["accuracy"]
    assert found["matthews"] == pytest.approx(exchanged["matthews"])


@SETTINGS
@given(ROWS, st.integers(1, 20))
def test_reliability_bins_hold_every_row_once(rows, num_bins):
    label = np.array([row[0] for row in rows], dtype=np.int8)
    probability = np.array([row[1] for row in rows], dtype=np.float32)
    bins = reliability_bins(label=label, probability=probability, num_bins=num_bins)
    assert bins["num_rows"].sum() == len(rows)
    assert (bins["num_rows"] * bins["positive_fraction"]).sum() == pytest.approx(label.sum())
    assert bins["mean_probability"].is_monotonic_increasing
    assert 1 <= len(bins) <= num_bins


def test_the_last_reliability_bin_holds_one_and_an_empty_bin_is_left_out():
    bins = reliability_bins(label=np.array([0, 1, 1]), probability=np.array([0.0, 0.95, 1.0]))
    assert bins["num_rows"].tolist() == [1, 2]
    assert bins["mean_probability"].tolist() == [0, 0.975]


def test_calibration_error_equals_its_definition(random_rows):
    label, probability = random_rows["label"], random_rows["probability"]
    expected = 0.0
    for b in range(15):
        inside = (probability >= b / 15) & (probability < (b + 1) / 15)
        if inside.any():
            gap = abs(probability[inside].mean(dtype=np.float64) - label[inside].mean())
            expected += inside.mean() * gap
    error = expected_calibration_error(label=label, probability=probability)
    assert error == pytest.approx(expected)
