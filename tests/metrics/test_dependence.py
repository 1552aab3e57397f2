"""Rows that depend on each other: intervals by author, and over the folds of a cross-validation.

``make soak`` runs the large simulations and prints the tables of ``docs/evaluation.md``, or this
file alone::

    pytest -m soak -s tests/metrics/test_dependence.py
"""

import gc
import weakref

import numpy as np
import pytest
from scipy.stats import norm

from sentiflow.metrics import classification, paired
from sentiflow.metrics.abstention import accuracy_by_coverage
from sentiflow.metrics.dependence import AuthorGroups, FoldGroups
from sentiflow.metrics.intervals import Accuracy, right_interval, share_interval
from sentiflow.metrics.predicted import Predicted


def make_rows(num_rows=400, num_classes=3, groups=None, seed=0):
    """Draw the rows of a model of some classes."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, num_classes, num_rows)
    logits = rng.normal(size=(num_rows, num_classes)) + 2 * np.eye(num_classes)[label]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    classes = ("negative", "positive") if num_classes == 2 else tuple("abc")
    return Predicted(classes, label, probabilities.argmax(axis=1), probabilities, groups)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_authors_of_one_text_each_change_no_interval_and_no_difference(num_classes):
    alone = make_rows(num_classes=num_classes)
    other = make_rows(num_classes=num_classes, seed=1)
    by_author = AuthorGroups(np.random.default_rng(0).permutation(400))
    grouped = make_rows(num_classes=num_classes, groups=by_author)
    metrics = classification.measure(alone)
    assert classification.measure(grouped) == metrics
    expected = classification.find_intervals(alone, metrics)
    assert classification.find_intervals(grouped, metrics) == expected
    first = paired.compare_accuracy(alone.right, other.right)
    assert paired.compare_accuracy(alone.right, other.right, by_author) == first
    losses = other.log_losses - alone.log_losses
    expected = paired.mean_difference(losses, step=1)
    assert paired.mean_difference(losses, step=1, groups=by_author) == expected


def test_copies_of_all_rows_by_the_same_author_change_the_interval_hardly():
    alone = make_rows()
    copies = np.repeat(np.arange(400), 4)
    metrics = classification.measure(alone)
    expected, _ = classification.find_intervals(alone, metrics)
    grouped = Predicted(
        alone.classes,
        alone.label[copies],
        alone.prediction[copies],
        alone.probabilities[copies],
        AuthorGroups(copies),
    )
    found, _ = classification.find_intervals(grouped, classification.measure(grouped))
    assert found.keys() == expected.keys()
    for name, ends in expected.items():
        assert found[name] == pytest.approx(ends, abs=0.012), name


def test_the_factor_of_two_authors_is_hand_checked():
    effects = np.array([0.5, 0.5, -0.5, -0.5])
    author = np.array([1, 1, 2, 2])
    # By author 2 / 1 · (1 + 1) = 4, by row 4 / 3 · 1: the ratio is 3. One degree of freedom.
    t = 12.7062 / 1.95996
    assert AuthorGroups(author).factor(effects) == pytest.approx(3 * t**2, rel=1e-4)


def test_without_a_mistake_the_texts_of_an_author_count_as_one():
    right = np.ones(600, bool)
    found = right_interval(right, AuthorGroups(np.repeat(np.arange(300), 2)))
    low, _ = share_interval(300, 300)
    assert found == pytest.approx((low, 1), abs=1e-3)


def test_few_or_very_unequal_authors_give_no_interval_and_300_equal_ones_do():
    assert "fewer than 10 authors: 9" in AuthorGroups(np.arange(9)).no_interval
    assert AuthorGroups(np.arange(10)).no_interval == ""
    assert AuthorGroups(np.repeat(np.arange(300), 7)).no_interval == ""
    sizes = np.repeat(np.arange(300), np.r_[np.full(290, 1), np.full(10, 100)])
    groups = AuthorGroups(sizes)
    assert groups.no_interval == (
        "the texts are of 300 authors, so unequal in size that they count as 17"
    )
    rows = make_rows(num_rows=len(sizes), groups=groups)
    metrics = classification.measure(rows)
    found, missing = classification.find_intervals(rows, metrics)
    assert not found
    assert missing["accuracy"] == missing["f1_macro"] == groups.no_interval
    assert (metrics.accuracy_low, metrics.accuracy_high) == (0, 1)
    assert metrics.to_json()["accuracy_low"] is None
    assert metrics.interval == f"no interval: {groups.no_interval}"
    difference, _ = paired.compare_accuracy(rows.right, rows.right[::-1], groups)
    assert difference.low < difference.value < difference.high, "a difference has an interval"


def test_intervals_by_author_are_not_narrower_than_those_of_independent_texts():
    author = np.repeat(np.arange(200), 3)
    rows = make_rows(num_rows=600, num_classes=2)
    grouped = make_rows(num_rows=600, num_classes=2, groups=AuthorGroups(author))
    metrics = classification.measure(rows)
    alone, _ = classification.find_intervals(rows, metrics)
    found, _ = classification.find_intervals(grouped, metrics)
    for name, (low, high) in alone.items():
        assert found[name][0] <= low + 1e-9, name
        assert found[name][1] >= high - 1e-9, name
    points = accuracy_by_coverage(
        right=rows.right, confidence=rows.confidence, groups=grouped.groups
    )
    assert all(point.low <= point.accuracy <= point.high for point in points)


def test_folds_widen_by_nadeau_and_bengio():
    fold = np.repeat(np.arange(5), 60)
    right = np.tile(np.arange(60) < 45, 5)  # all folds have the same accuracy
    found = Accuracy.of_rows(right, FoldGroups(fold))
    assert (found.low, found.high) == pytest.approx(share_interval(225 / 2.25, 300 / 2.25))
    unequal = np.concatenate([np.arange(60) < count for count in (60, 30, 60, 30, 45)])
    wider = Accuracy.of_rows(unequal, FoldGroups(fold))
    assert wider.high - wider.low > 1.5 * (found.high - found.low)


def test_without_a_difference_over_folds_the_test_finds_none():
    right = np.arange(300) % 4 > 0
    difference, test = paired.compare_accuracy(right, right, FoldGroups(np.arange(300) % 5))
    assert (difference.value, test.p_value) == (0, 1)


# Simulations


def draw_authors(rng, num_authors, sizes, depends, spread=6):
    """Draw authors: sizes, and accuracies that may fall with the size."""
    size = sizes(rng, num_authors)
    mean = 0.8 - depends * 0.08 * np.clip(np.log2(size / 5), -2, 2)
    accuracy = rng.beta(mean * spread, (1 - mean) * spread)
    return size, accuracy


SIZES = {
    "equal": lambda rng, n: np.full(n, 5),
    "geometric": lambda rng, n: rng.geometric(0.2, n),
    "log-normal, 1": lambda rng, n: np.ceil(rng.lognormal(1, 1, n)).astype(int),
    "log-normal, 1.5": lambda rng, n: np.ceil(rng.lognormal(1, 1.5, n)).astype(int),
    "Pareto, 1.5": lambda rng, n: np.ceil(np.minimum(rng.pareto(1.5, n) + 1, 5000)).astype(int),
}
"""Numbers of texts of authors."""


def hold_by_author(seed, num_authors, sizes, depends, num_draws):
    """Count intervals of the accuracy and of a difference that hold, and draws with an interval."""
    rng = np.random.default_rng(seed)
    size, accuracy = draw_authors(rng, 400_000, SIZES[sizes], depends)
    truth = (size * accuracy).sum() / size.sum()
    held = given = held_difference = 0
    for _ in range(num_draws):
        size, accuracy = draw_authors(rng, num_authors, SIZES[sizes], depends)
        author = np.repeat(np.arange(num_authors), size)
        first = rng.random(len(author)) < accuracy[author]
        second = rng.random(len(author)) < accuracy[author]
        groups = AuthorGroups(author)
        difference, _ = paired.compare_accuracy(first, second, groups)
        held_difference += difference.low <= 0 <= difference.high
        if not groups.no_interval:
            low, high = right_interval(first, groups)
            given += 1
            held += low <= truth <= high
    return held, given, held_difference / num_draws


@pytest.mark.parametrize("sizes", ["equal", "geometric"])
def test_intervals_by_author_hold(sizes):
    held, given, of_difference = hold_by_author(1, 100, sizes, 1, 400)
    assert given >= 398
    assert held / given > 0.95 - 2 * np.sqrt(0.95 * 0.05 / 400)
    assert of_difference > 0.95 - 2 * np.sqrt(0.95 * 0.05 / 400)


def fit_ridge(features, target):
    """Fit a linear model; returns its weights, the last one is the intercept."""
    matrix = np.column_stack([features, np.ones(len(features))])
    penalty = 0.01 * len(features) * np.diag([*np.ones(features.shape[1]), 0])
    return np.linalg.solve(matrix.T @ matrix + penalty, matrix.T @ target)


def predict(weights, features):
    return np.sign(features @ weights[:-1] + weights[-1])


def true_accuracy(weights, mean):
    """Compute the accuracy of a linear model of two normal classes around ± mean."""
    length = np.linalg.norm(weights[:-1])
    of_positive = norm.cdf((weights[:-1] @ mean + weights[-1]) / length)
    of_negative = norm.cdf((weights[:-1] @ mean - weights[-1]) / length)
    return (of_positive + of_negative) / 2


def measure_folds(seed, num_rows, num_features, num_folds, num_draws):
    """Compare two procedures that are equal on average: each sees one of two equal views.

    Returns:
        How often they differ (p < .05), how often the interval holds the difference of the final
        models, how often the interval of the accuracy holds the final model's, and by how much the
        accuracy of the folds is lower.
    """
    rng = np.random.default_rng(seed)
    mean = np.full(num_features, 1 / np.sqrt(num_features))
    differs = []
    holds_difference = []
    holds = []
    lower = []
    for _ in range(num_draws):
        target = rng.choice([-1.0, 1.0], num_rows)
        fold = rng.permutation(num_rows) % num_folds
        right = []
        final = []
        for _ in range(2):
            features = target[:, None] * mean + rng.normal(size=(num_rows, num_features))
            answers = np.empty(num_rows)
            for number in range(num_folds):
                is_test = fold == number
                weights = fit_ridge(features[~is_test], target[~is_test])
                answers[is_test] = predict(weights, features[is_test])
            right.append(answers == target)
            final.append(true_accuracy(fit_ridge(features, target), mean))
        difference, test = paired.compare_accuracy(*right, FoldGroups(fold))
        differs.append(test.p_value < 0.05)
        holds_difference.append(difference.low <= final[1] - final[0] <= difference.high)
        low, high = right_interval(right[0], FoldGroups(fold))
        holds.append(low <= final[0] <= high)
        lower.append(final[0] - right[0].mean())
    return np.mean(differs), np.mean(holds_difference), np.mean(holds), np.mean(lower)


def test_equal_procedures_seldom_differ_over_folds_and_the_final_accuracy_is_held():
    differs, holds_difference, holds, _ = measure_folds(1, 100, 40, 5, 150)
    assert differs <= 0.06 + 2 * np.sqrt(0.06 * 0.94 / 150)
    assert holds_difference >= 0.92 - 2 * np.sqrt(0.92 * 0.08 / 150)
    assert holds >= 0.92 - 2 * np.sqrt(0.92 * 0.08 / 150)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("sizes", SIZES)
def test_intervals_by_author_hold_for_all_sizes(sizes):
    noise = 2 * np.sqrt(0.92 * 0.08 / 2000)
    for num_authors in (100, 300, 1000):
        for depends in (0, 1):
            held, given, of_difference = hold_by_author(2, num_authors, sizes, depends, 2000)
            coverage = held / max(given, 1)
            print(
                f"{sizes} | {num_authors} | {'yes' if depends else 'no'} | {given / 2000:.1%} | "
                f"{coverage:.3f} | {of_difference:.3f}"
            )
            if sizes == "equal":
                assert given == 2000
            assert (held + 2000 - given) / 2000 >= 0.92 - noise
            assert of_difference >= 0.93 - noise


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("num_rows", [100, 300, 1000])
def test_folds_hold_for_all_sizes(num_rows):
    for num_features in (5, 20, 80):
        for num_folds in (5, 10):
            found = measure_folds(3, num_rows, num_features, num_folds, 2000)
            print(
                f"{num_rows} | {num_features} | {num_folds} | "
                + " | ".join(f"{f:.3f}" for f in found)
            )
            differs, holds_difference, holds, _ = found
            assert differs <= 0.06
            assert holds_difference >= 0.92
            assert holds >= 0.92


def test_authors_of_some_rows_are_freed_at_once():
    """Commands collect garbage rarely; each slice and each coverage takes authors."""
    groups = AuthorGroups(np.arange(60) // 3)
    taken = groups.take(np.arange(60) % 2 == 0)
    assert taken.num_effective > 0
    author = weakref.ref(taken.author)
    gc.disable()
    try:
        del taken
        assert author() is None
    finally:
        gc.enable()
