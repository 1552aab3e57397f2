"""The mean of values in special cases, where the shares of classes must give the same."""

import numpy as np
import pandas as pd
import pytest

from sentiflow.metrics import sampling, share_changes, share_comparison, shares
from sentiflow.metrics.rating_scale import RatingScale

NUM_GROUPS = 12
TWO = RatingScale((0.0, 1.0))


def draw_sums(values, *, num_labels=240, seed=0, clusters=False, weights=(0.0, 1.0, 3.0)):
    """Draw sums of groups of texts of two or more classes, for weighted labels."""
    rng = np.random.default_rng(seed)
    num = len(values)
    group = rng.integers(0, NUM_GROUPS, 6000)
    truth = rng.integers(0, num, len(group)) * (rng.random(len(group)) < 0.2 + group / 20)
    logits = rng.normal(size=(len(group), num)) + 1.5 * np.eye(num)[truth]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    is_labelled = rng.random(len(group)) < num_labels / len(group)
    keys = pd.DataFrame({"group": group})
    if clusters:
        keys["author"] = np.where(is_labelled, rng.integers(1, 90, len(group)), 0)
    sums = sampling.add_up(
        keys,
        prediction=probabilities.argmax(axis=1),
        probabilities=probabilities,
        label=np.where(is_labelled, truth, -1),
        weight=np.where(is_labelled, rng.choice(weights, len(group)), 0),
        values=RatingScale(values).units,
    )
    return sampling.join_clusters(sums, "author") if clusters else sums


def assert_equal(mean, share):
    """The mean is the share of the second of two classes, with all that belongs to it."""
    for name in ("predicted", "share", "low", "high", "compared", "error", "spread"):
        of_class = getattr(share, name)[:, 1:]
        np.testing.assert_allclose(getattr(mean, name), of_class, atol=1e-10, err_msg=name)
    assert mean.method.tolist() == share.method.tolist()


@pytest.mark.parametrize("num_labels", [0, 20, 100, 240, 1000, 9000])
@pytest.mark.parametrize("clusters", [False, True])
def test_the_mean_of_two_classes_is_the_share_of_the_second(num_labels, clusters):
    sums = draw_sums(TWO.values, num_labels=num_labels, clusters=clusters)
    mean = shares.estimate(sampling.of_values(sums, 2), step=TWO.step)
    assert_equal(mean, shares.estimate(sampling.of_classes(sums, 2)))


def test_groups_and_periods_of_two_classes_are_compared_as_by_their_shares():
    sums = draw_sums(TWO.values, num_labels=1000)
    of_values = sampling.of_values(sums, 2)
    of_classes = sampling.of_classes(sums, 2)
    mean = share_comparison.compare_with_others(shares.estimate(of_values), step=TWO.step)
    share = share_comparison.compare_with_others(shares.estimate(of_classes))
    assert (share[:, 1] < 0.05).any()
    np.testing.assert_allclose(mean, share[:, 1:], atol=1e-10)
    options = {"period": np.arange(NUM_GROUPS), "model": np.zeros(NUM_GROUPS, int)}
    change = share_changes.find_changes(of_values, **options).changes[0]
    expected = share_changes.find_changes(of_classes, **options).changes[1]
    assert (change.first, change.claimed) == (expected.first, expected.claimed)
    assert (change.low, change.high) == pytest.approx((expected.low, expected.high))


def test_sums_of_classes_do_not_depend_on_values():
    rows = {
        "prediction": np.array([0, 2, 1]),
        "probabilities": np.array([[0.6, 0.3, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3]]),
        "label": np.array([1, 2, -1]),
        "weight": np.array([2.0, 0.0, 0.0]),
    }
    keys = pd.DataFrame({"group": [0, 0, 1]})
    plain = sampling.add_up(keys, **rows)
    both = sampling.add_up(keys, **rows, values=np.array([0.0, 0.5, 1.0]))
    pd.testing.assert_frame_equal(sampling.of_classes(both, 3), plain)


def test_if_all_are_labelled_the_mean_is_that_of_the_shares():
    values = (1.0, 2.0, 5.0)
    sums = draw_sums(values, num_labels=6000, weights=(1.0,))
    mean = shares.estimate(sampling.of_values(sums, 3), step=0.5)
    share = shares.estimate(sampling.of_classes(sums, 3)).share
    is_counted = mean.method == shares.COUNTED
    assert is_counted.all()
    np.testing.assert_allclose(mean.share[:, 0], share @ RatingScale(values).units)
    np.testing.assert_array_equal(mean.low, mean.share)


def test_falling_values_mirror_the_mean():
    up = draw_sums((1.0, 2.0, 3.0, 4.0))
    down = draw_sums((4.0, 3.0, 2.0, 1.0))
    first = shares.estimate(sampling.of_values(up, 4), step=1 / 3)
    second = shares.estimate(sampling.of_values(down, 4), step=1 / 3)
    np.testing.assert_allclose(first.share, 1 - second.share)
    np.testing.assert_allclose(first.low, 1 - second.high)
    np.testing.assert_allclose(first.error, second.error)


def test_labels_that_are_all_equal_leave_an_interval():
    label = np.where(np.arange(2000) < 50, 2, -1)
    probabilities = np.tile([0.0, 0.1, 0.8, 0.1, 0.0], (2000, 1))
    sums = sampling.add_up(
        pd.DataFrame({"group": np.zeros(2000)}),
        prediction=probabilities.argmax(axis=1),
        probabilities=probabilities,
        label=label,
        weight=np.ones(2000),
        values=np.linspace(0, 1, 5),
    )
    found = shares.estimate(sampling.of_values(sums, 5), step=0.25)
    assert found.share[0, 0] == pytest.approx(0.5)
    assert 0.02 < found.high[0, 0] - found.low[0, 0] < 0.4
