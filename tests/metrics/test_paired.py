"""Differences of two models on the same rows, against hand counts, libraries and simulation."""

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import brier_score_loss, f1_score, log_loss, roc_auc_score

from sentiflow.metrics import classification, paired
from sentiflow.metrics.predicted import Predicted
from sentiflow.metrics.registry import METRICS


def answers(num_rows=600, *, seed=0, ties=False, noise=(0.25, 0.4)):
    """Make labels and two models' probabilities, which err on different rows."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, num_rows)
    first, second = (np.clip(0.3 + 0.4 * label + rng.normal(0, s, num_rows), 0, 1) for s in noise)
    if ties:
        first, second = first.round(1), second.round(1)
    return {"label": label, "first": first, "second": second}


def called(rows):
    """Replace probabilities by predictions."""
    return {"label": rows["label"]} | {
        name: (rows[name] >= 0.5).astype(int) for name in ("first", "second")
    }


def loss_difference(name, *, label, first, second):
    """Compare two models' log losses or Brier scores."""
    (metric,) = (each for each in METRICS if each.name == name)
    return metric.difference(predict(label, first), predict(label, second))


def predict(label, probability):
    prediction = (probability >= 0.5).astype(int)
    return Predicted.of_positive(label=label, probability=probability, prediction=prediction)


def assert_covers(covered, *, least=0.93, most=0.975):
    assert least <= np.mean(covered) <= most


def test_mcnemar_is_the_binomial_test_of_the_discordant_pairs():
    for one, other in ((0, 1), (1, 7), (5, 5), (12, 30), (400, 520)):
        expected = scipy.stats.binomtest(one, one + other).pvalue
        assert paired.mcnemar(one, other) == pytest.approx(expected)
        assert paired.mcnemar(other, one) == pytest.approx(expected)
    assert paired.mcnemar(1, 7) == pytest.approx(2 * (1 + 8) / 2**8), "counted by hand"
    assert paired.mcnemar(0, 0) == 1.0


def test_the_interval_of_accuracy_is_counted_by_hand():
    found = paired.accuracy_difference(only_first=1, only_second=7, num_rows=98)
    assert found.value == pytest.approx(6 / 98)
    reach = 1.959964 * ((0.08 + 0.02 - 0.06**2) / 100) ** 0.5
    assert (found.low, found.high) == pytest.approx((0.06 - reach, 0.06 + reach))
    assert found.p_value == paired.mcnemar(1, 7)


def test_models_that_agree_on_few_rows_are_not_surely_equal():
    none = paired.accuracy_difference(only_first=0, only_second=0, num_rows=20)
    assert none.value == 0
    assert -0.15 < none.low < -0.05
    assert none.high == -none.low
    one = paired.accuracy_difference(only_first=0, only_second=1, num_rows=1)
    assert -1 <= one.low <= one.value <= one.high <= 1


def delong_by_pairs(label, first, second):
    """Work DeLong's difference and its variance out from every pair of rows."""
    parts = []
    for p in (first, second):
        above, below = p[label == 1][:, None], p[label == 0][None]
        wins = (above > below) + 0.5 * (above == below)
        parts.append((wins.mean(axis=1), wins.mean(axis=0)))
    (v10a, v01a), (v10b, v01b) = parts
    s10, s01 = np.cov(v10a, v10b), np.cov(v01a, v01b)
    s = s10 / len(v10a) + s01 / len(v01a)
    return v10b.mean() - v10a.mean(), s[0, 0] + s[1, 1] - 2 * s[0, 1]


@pytest.mark.parametrize("ties", [False, True])
def test_the_area_differs_as_by_all_pairs_and_as_in_sklearn(ties):
    rows = answers(150, seed=2, ties=ties)
    found = paired.roc_auc_difference(**rows)
    value, variance = delong_by_pairs(**rows)
    areas = [roc_auc_score(rows["label"], rows[name]) for name in ("first", "second")]
    assert found.value == pytest.approx(value) == pytest.approx(areas[1] - areas[0])
    rarer = min((rows["label"] == 1).sum(), (rows["label"] == 0).sum())
    error = (variance + (0.5 / rarer) ** 2) ** 0.5
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * error)
    assert found.p_value == pytest.approx(2 * scipy.stats.norm.sf(abs(value) / error))


def test_the_area_is_undefined_with_one_class_or_one_row_of_a_class():
    rows = answers(50)
    for label in (np.zeros(50, int), np.ones(50, int), (np.arange(50) == 0).astype(int)):
        assert paired.roc_auc_difference(**(rows | {"label": label})) is None


def test_a_difference_without_any_spread_claims_no_certainty():
    label, up = np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9])
    found = paired.roc_auc_difference(label=label, first=up, second=1 - up)
    assert (found.low, found.value) == (-1, -1)
    assert found.high > -0.6
    flat = np.full(4, 0.5)
    found = loss_difference("brier", label=np.ones(4), first=flat, second=flat + 0.2)
    assert found.high - found.low > 0.5


def test_losses_differ_as_in_sklearn_with_the_interval_of_the_mean():
    rows = answers(400, seed=4)
    label = rows["label"]
    for name, loss in (
        ("log_loss", lambda p: log_loss(label, p.clip(1e-7, 1 - 1e-7))),
        ("brier", lambda p: brier_score_loss(label, p)),
    ):
        found = loss_difference(name, **rows)
        assert found.value == pytest.approx(loss(rows["second"]) - loss(rows["first"]))
    by_row = np.square(rows["second"] - label) - np.square(rows["first"] - label)
    found = loss_difference("brier", **rows)
    error = np.hypot(scipy.stats.sem(by_row), 1 / 400)  # as if one more row were wrong for certain
    assert found.p_value == pytest.approx(2 * scipy.stats.norm.sf(abs(by_row.mean()) / error))
    interval = scipy.stats.norm.interval(0.95, by_row.mean(), error)
    assert (found.low, found.high) == pytest.approx(interval)


def test_losses_are_those_of_the_metrics_down_to_the_probabilities_of_0_and_1():
    label = np.array([0, 1, 1, 0, 1])
    rows = {"first": np.float32([0, 1, 0, 0.5, 1]), "second": np.float32([1, 1, 0.3, 0.2, 0])}
    metrics = [classification.measure(predict(label, p)) for p in rows.values()]
    for name in ("log_loss", "brier"):
        found = loss_difference(name, label=label, **rows)
        assert found.value == pytest.approx(metrics[1].values[name] - metrics[0].values[name])


def test_the_interval_of_the_log_loss_covers_the_truth():
    big = answers(400_000, seed=5, noise=(0.1, 0.15))
    truth = loss_difference("log_loss", **big).value
    found = [
        loss_difference("log_loss", **answers(300, seed=s, noise=(0.1, 0.15)))
        for s in range(2000, 3000)
    ]
    assert_covers([item.low <= truth <= item.high for item in found], least=0.92)


def test_f1_differs_as_in_sklearn_and_as_by_drawing_rows():
    rows = called(answers(200, seed=6))
    rows["label"][:100] = 0
    found = paired.f1_macro_difference(**rows)
    first, second = (f1_score(rows["label"], rows[n], average="macro") for n in ("first", "second"))
    assert found.value == pytest.approx(second - first)
    rng, drawn = np.random.default_rng(7), []
    for _ in range(1500):
        some = rng.integers(0, 200, 200)
        both = [f1_by_hand(rows["label"][some], rows[n][some]) for n in ("first", "second")]
        drawn.append(both[1] - both[0])
    assert (found.low, found.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.015)


def test_the_p_value_of_f1_is_that_of_exchanging_the_predictions_of_rows():
    rows = called(answers(200, seed=6))
    rows["label"][:100] = 0
    found, rng, reached = paired.f1_macro_difference(**rows), np.random.default_rng(7), 0
    for _ in range(2000):
        swap = rng.random(200) < 0.5
        first = np.where(swap, rows["second"], rows["first"])
        second = np.where(swap, rows["first"], rows["second"])
        change = f1_by_hand(rows["label"], second) - f1_by_hand(rows["label"], first)
        reached += abs(change) >= abs(found.value) - 1e-12
    assert found.p_value == pytest.approx(reached / 2000, abs=0.04)


def f1_by_hand(label, prediction):
    wrong = (label != prediction).sum()
    right = [((label == c) & (prediction == c)).sum() for c in (0, 1)]
    return np.mean([2 * k / (2 * k + wrong) for k in right])


def test_a_class_that_never_occurs_is_left_out_of_f1():
    ones = np.ones(10, int)
    found = paired.f1_macro_difference(label=ones, first=ones, second=ones)
    assert (found.value, found.p_value) == (0, 1)


def test_a_model_does_not_differ_from_itself():
    rows = answers(80, seed=9)
    rows["second"] = rows["first"]
    for found in (
        paired.roc_auc_difference(**rows),
        loss_difference("log_loss", **rows),
        loss_difference("brier", **rows),
        paired.f1_macro_difference(**called(rows)),
    ):
        assert (found.value, found.p_value) == (0, 1)
        assert 0 < found.high == -found.low < 0.1, "other rows may show a difference"


def test_losses_need_two_rows():
    one = {"label": np.array([1]), "first": np.array([0.5]), "second": np.array([0.7])}
    assert loss_difference("log_loss", **one) is None


def test_adjusted_p_values_are_holms():
    assert paired.adjust([]) == []
    assert paired.adjust([0.3]) == [0.3]
    found = paired.adjust([0.04, 0.001, 0.03, 0.9])
    assert found == pytest.approx([0.09, 0.004, 0.09, 0.9]), "counted by hand"
