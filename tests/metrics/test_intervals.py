"""Intervals are the published ones where there are such, and as wide as those of drawn rows."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiflow.metrics import registry
from sentiflow.metrics.classification import find_intervals, measure
from sentiflow.metrics.intervals import share_interval
from sentiflow.metrics.macro_f1 import MacroF1, macro_f1_interval
from sentiflow.metrics.matthews import matthews_interval
from sentiflow.metrics.predicted import Predicted

SHARES = st.integers(1, 10**7).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def rows_of(num_rows, *, seed=0, skill=1.0):
    """Draw rows whose probabilities are calibrated; the more skill, the more sure."""
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.7 / skill, 0.7 / skill, num_rows).round(3)
    label = (rng.random(num_rows) < probability).astype(np.int8)
    return {
        "label": label,
        "probability": probability,
        "prediction": (probability >= 0.5).astype(np.int8),
    }


def rows_of_classes(num_classes, num_rows, *, seed=0, recall=0.8):
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, num_rows)
    other = (label + rng.integers(1, num_classes, num_rows)) % num_classes
    prediction = np.where(rng.random(num_rows) < recall, label, other)
    probabilities = np.full((num_rows, num_classes), 0.1 / (num_classes - 1))
    probabilities[np.arange(num_rows), prediction] = 0.9
    return Predicted(tuple(map(str, range(num_classes))), label, prediction, probabilities)


def find(predicted):
    return find_intervals(predicted, measure(predicted))


def find_binary(**rows):
    return find(Predicted.of_positive(**rows))[0]


@pytest.mark.parametrize(
    ("successes", "total", "expected"),
    [
        (81, 263, (0.2527, 0.3676)),
        (15, 148, (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1684)),
        (1, 29, (0.0009, 0.1776)),
    ],
)
def test_the_interval_of_a_share_equals_published_values(successes, total, expected):
    # Newcombe, Statistics in Medicine 17 (1998), table I, method 5.
    assert share_interval(successes, total) == pytest.approx(expected, abs=5e-5)


@settings(max_examples=60, deadline=None)
@given(SHARES)
def test_the_interval_of_a_share_is_scipys_and_symmetric(case):
    successes, total = case
    low, high = share_interval(successes, total)
    expected = scipy.stats.binomtest(successes, total).proportion_ci(method="exact")
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert 0 <= low <= successes / total <= high <= 1
    mirrored = share_interval(total - successes, total)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-9)


@pytest.mark.parametrize("total", [1, 10, 15, 50, 300])
def test_the_interval_of_any_share_holds_it(total):
    shares, counts = 1 - np.geomspace(1e-4, 0.5, 300), np.arange(total + 1)
    low, high = share_interval(counts, total)
    holds = (low[:, None] <= shares) & (shares <= high[:, None])
    chances = scipy.stats.binom.pmf(counts[:, None], total, shares)
    assert (chances * holds).sum(axis=0).min() >= 0.95 - 1e-9


def test_intervals_are_as_wide_as_those_of_drawn_rows():
    rows, rng = rows_of(2000, seed=3), np.random.default_rng(5)
    found, drawn = find_binary(**rows), []
    for _ in range(200):
        chosen = rng.integers(0, 2000, 2000)
        part = {name: values[chosen] for name, values in rows.items()}
        drawn.append(measure(Predicted.of_positive(**part)).scalars)
    for name, (low, high) in found.items():
        spread = np.std([each[name] for each in drawn])
        assert high - low == pytest.approx(3.92 * spread, rel=0.2), name


def test_the_macro_f1_of_classes_is_as_wide_as_that_of_drawn_rows():
    drawn = [measure(rows_of_classes(10, 2000, seed=seed)).f1_macro for seed in range(200)]
    low, high = find(rows_of_classes(10, 2000))[0]["f1_macro"]
    assert high - low == pytest.approx(3.92 * np.std(drawn), rel=0.15)


def test_the_bias_of_few_rows_is_taken_from_the_macro_f1():
    counts = [rows_of_classes(30, 150, seed=seed).confusion for seed in range(300)]
    truth = measure(rows_of_classes(30, 300_000)).f1_macro
    plain = np.mean([measure(rows_of_classes(30, 150, seed=s)).f1_macro for s in range(300)])
    corrected = MacroF1.of(np.stack(counts)).corrected.mean()
    assert plain < truth - 0.008
    assert corrected == pytest.approx(truth, abs=0.004)


def test_intervals_hold_the_truth_of_an_accurate_model_on_few_rows():
    truth = measure(Predicted.of_positive(**rows_of(400_000, seed=99, skill=30.0))).scalars
    assert truth["accuracy"] > 0.98
    names = [metric.name for metric in registry.METRICS if not metric.of_ordered]
    held = dict.fromkeys(names)
    for seed in range(100):
        for name, (low, high) in find_binary(**rows_of(60, seed=seed, skill=30.0)).items():
            if name in held:
                held[name] = (held[name] or 0) + (low <= truth[name] <= high)
    assert all(count >= 91 for count in held.values()), held


def test_rows_without_a_mistake_are_no_certainty():
    ones = np.arange(30) % 2
    found = find_binary(label=ones, probability=0.05 + 0.9 * ones, prediction=ones)
    for name, (low, high) in found.items():
        assert high - low > 0.03, name
    assert found["recall_positive"] == found["precision_positive"] == share_interval(15, 15)
    assert found["f1_positive"][0] == pytest.approx(2 / (1 + 1 / found["recall_positive"][0]))


def test_what_is_undefined_has_neither_an_interval_nor_a_reason():
    ones = np.ones(30, np.int8)
    found, missing = find(
        Predicted.of_positive(label=ones, probability=ones * 0.9, prediction=ones)
    )
    for name in ("roc_auc", "average_precision", "matthews", "precision_negative"):
        assert name not in found, name
        assert name not in missing, name
    assert missing == {"f1_macro": "1 of 2 classes has fewer than 2 labelled texts"}


def test_a_class_in_four_may_be_absent_and_may_be_anything():
    low, high, num_rare = macro_f1_interval(np.diag([50.0] * 3 + [0.0]))
    assert num_rare == 1
    assert low < 0.75 < high == 1
    for few, is_known in ((1, True), (2, False)):
        labels = np.repeat(range(4), [50, 50, 50 * (few < 2), 1])
        predicted = Predicted(("a", "b", "c", "d"), labels, labels, np.eye(4)[labels])
        found, missing = find(predicted)
        assert ("f1_macro" in found, "f1_macro" in missing) == (is_known, not is_known)


def test_draws_are_bounded_as_one_by_one():
    counts = np.stack([rows_of_classes(2, 80, seed=seed).confusion for seed in range(5)])
    for bound in (macro_f1_interval, matthews_interval):
        together = np.array(bound(counts)[:2])
        for number, one in enumerate(counts):
            np.testing.assert_allclose(bound(one)[:2], together[:, number])
