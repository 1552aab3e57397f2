"""Metrics of any number of classes equal scikit-learn's, and with two those of positive."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from sentiflow.metrics.classification import measure, measure_probabilities
from sentiflow.metrics.predicted import Predicted

CLASSES = ("negative", "positive", "neutral", "mixed")


def random_rows(num_rows=400, *, num_classes=3, seed=0, num_used=None):
    """Rows about three in five of which are right; the classes from ``num_used`` on never occur."""
    rng = np.random.default_rng(seed)
    used = num_used or num_classes
    label = rng.integers(0, used, num_rows)
    logits = rng.normal(0, 1, (num_rows, num_classes))
    logits[np.arange(num_rows), label] += 1
    logits[:, used:] = -9
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    probabilities = probabilities.astype(np.float32)
    return {
        "classes": CLASSES[:num_classes],
        "label": label,
        "prediction": probabilities.argmax(axis=1).astype(np.int8),
        "probabilities": probabilities,
    }


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("num_classes", "num_used"), [(3, 3), (4, 4), (4, 3)])
def test_metrics_equal_those_of_scikit_learn(seed, num_classes, num_used):
    rows = random_rows(num_classes=num_classes, seed=seed, num_used=num_used)
    found = measure(Predicted(**rows))
    label, prediction = rows["label"], rows["prediction"]
    probabilities = np.float64(rows["probabilities"])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert found.accuracy == sklearn_metrics.accuracy_score(label, prediction)
    assert found.f1_macro == pytest.approx(
        sklearn_metrics.f1_score(label, prediction, average="macro")
    )
    loss = sklearn_metrics.log_loss(label, probabilities, labels=range(num_classes))
    assert found.values["log_loss"] == pytest.approx(loss, rel=1e-6)
    brier = sklearn_metrics.brier_score_loss(label, probabilities, labels=range(num_classes))
    assert found.values["brier"] == pytest.approx(brier, rel=1e-5)
    counts = sklearn_metrics.confusion_matrix(label, prediction, labels=range(num_classes))
    assert [list(row.values()) for row in found.confusion.values()] == counts.tolist()
    by_class = sklearn_metrics.precision_recall_fscore_support(
        label, prediction, labels=range(num_used)
    )
    for code, expected in enumerate(zip(*by_class, strict=True)):
        of_class = found.by_class[CLASSES[code]]
        values = [of_class.values[name] for name in ("precision", "recall", "f1")]
        assert (*values, of_class.num_rows) == pytest.approx(expected)
        area = sklearn_metrics.roc_auc_score(label == code, probabilities[:, code])
        assert of_class.values["roc_auc"] == pytest.approx(area)


def test_a_class_that_does_not_occur_has_no_metrics_and_does_not_count():
    found = measure(Predicted(**random_rows(num_classes=4, num_used=3)))
    mixed = found.by_class["mixed"]
    for name in ("precision", "recall", "f1", "roc_auc"):
        assert mixed.values[name] is None, name
    others = [found.by_class[name].f1 for name in CLASSES[:3]]
    assert found.f1_macro == pytest.approx(np.mean(others))


def test_a_class_that_is_only_predicted_counts_and_is_named():
    rows = random_rows(num_classes=4, num_used=3)
    assert measure(Predicted(**rows)).f1_macro_remark == ""
    rows["prediction"][:2] = 3
    found = measure(Predicted(**rows))
    label, prediction = rows["label"], rows["prediction"]
    expected = sklearn_metrics.f1_score(label, prediction, average="macro")
    assert found.f1_macro == pytest.approx(expected)
    of_labelled = sklearn_metrics.f1_score(label, prediction, average="macro", labels=range(3))
    assert found.f1_macro_of_labelled == pytest.approx(of_labelled)
    assert expected == pytest.approx(of_labelled * 3 / 4)
    assert found.only_predicted == {"mixed": 2}
    remark = f"without mixed (2 predictions, no label) it is {of_labelled:.4f}"
    assert found.f1_macro_remark == remark


def test_metrics_of_two_classes_are_the_binary_ones():
    rows = random_rows(num_classes=2)
    rows["prediction"] = (rows["probabilities"][:, 1] >= 0.5).astype(np.int8)
    binary = measure(Predicted(**rows))
    found = measure(Predicted(**rows | {"classes": ("no", "yes")}))
    for name in ("num_rows", "accuracy", "accuracy_low", "accuracy_high", "f1_macro", "log_loss"):
        assert found.scalars[name] == binary.scalars[name], name
    assert found.values["brier"] == pytest.approx(2 * binary.values["brier"], rel=1e-6)
    assert found.values["roc_auc"] == pytest.approx(binary.values["roc_auc"])
    classes = zip(found.by_class.values(), binary.by_class.values(), strict=True)
    for of_class, of_binary in classes:
        assert of_class.to_json() == pytest.approx(of_binary.to_json())


def test_the_calibration_error_is_that_of_the_predicted_class():
    confidence = np.array([0.9, 0.9, 0.5, 0.5])
    rest = (1 - confidence) / 2
    probabilities = np.stack([confidence, rest, rest], axis=1)
    label, prediction = np.array([0, 0, 0, 1]), np.zeros(4, int)
    found = measure_probabilities(Predicted(CLASSES[:3], label, prediction, probabilities))
    assert found["expected_calibration_error"] == pytest.approx((0.1 + 0.0) / 2)
