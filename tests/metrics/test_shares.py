import numpy as np
import pandas as pd
import pytest
import scipy.stats

from sentiflow.metrics import sampling, share_comparison, shares
from sentiflow.metrics.shares import CORRECTED, COUNTED, POOLED, UNCORRECTED


def estimate(probabilities, label, *, group=None, weight=None, **options):
    """Estimate shares; labels below 0 are unknown."""
    group = np.zeros(len(label), int) if group is None else group
    sums = sampling.add_up(
        pd.DataFrame({"group": group}),
        prediction=probabilities.argmax(axis=1),
        probabilities=probabilities,
        label=label,
        weight=np.ones(len(label)) if weight is None else weight,
    )
    return shares.estimate(sums, **options)


def draw_binary(seed, num_labelled, num_others, share, quality, bias):
    """Draw probabilities of two classes, and the labels of the first rows."""
    rng = np.random.default_rng(seed)
    truth = rng.random(num_labelled + num_others) < share
    score = rng.normal(size=len(truth)) + quality * (truth - 0.5)
    positive = 1 / (1 + np.exp(-(quality * score + bias)))
    label = np.where(np.arange(len(truth)) < num_labelled, truth, -1)
    return np.stack([1 - positive, positive], axis=1), label


def draw_three(seed=9, num_labelled=150, num_others=3000):
    rng = np.random.default_rng(seed)
    truth = rng.dirichlet([1.0, 0.5, 2.0], num_labelled + num_others)
    label = (truth.cumsum(axis=1) < rng.random((len(truth), 1))).sum(axis=1)
    probabilities = truth**1.5 / (truth**1.5).sum(axis=1, keepdims=True)
    return probabilities, np.where(np.arange(len(truth)) < num_labelled, label, -1), rng


# Computed once with ppi_mean_pointestimate and ppi_mean_ci of ppi-python 0.2.3, alpha 0.05.
@pytest.mark.parametrize(
    ("draw", "expected", "low", "high"),
    [
        ((0, 100, 5000, 0.3, 2, 0), 0.2766958582146867, 0.2198368215, 0.3335548949),
        ((1, 200, 1000, 0.05, 1, -1), 0.03880415393758822, 0.0117399420, 0.0658683659),
        ((2, 50, 150, 0.8, 3, 1), 0.8080757614295351, 0.7339956142, 0.8821559086),
        ((3, 400, 20000, 0.5, 0.3, 0), 0.471615668193327, 0.4231914590, 0.5200398774),
    ],
)
def test_the_corrected_share_is_that_of_ppi_python(draw, expected, low, high):
    found = estimate(*draw_binary(*draw))
    assert found.share[0, 1] == pytest.approx(expected, abs=1e-12)
    # Its interval is that of further texts, and symmetric: as wide where rows are many.
    ratio = (found.high[0, 1] - found.low[0, 1]) / (high - low)
    assert 0.7 < ratio < 1.05 if draw[2] < 1000 else 0.93 < ratio < 1.2  # two errors more


def test_weights_give_the_point_of_ppi_python():
    probabilities, label, rng = draw_three()
    weight = np.ones(len(label))
    weight[:150] = 1 / (0.2 + rng.random(150))
    sample = label >= 0
    w, y = weight[sample, None], label[sample, None] == np.arange(3)
    error = (w * (y - probabilities[sample])).sum(axis=0) / w.sum()
    untuned = probabilities[~sample].mean(axis=0) + error  # ppi-python's, with lam=1
    expected = [0.29624442831718373, 0.1789503355608149, 0.524805236122001]
    np.testing.assert_allclose(untuned, expected, atol=1e-12)
    found = estimate(probabilities, label, weight=weight)
    np.testing.assert_allclose(found.share[0], expected, atol=0.003)


def test_without_predictions_it_is_wilson_of_the_labels():
    label = np.array([1] * 30 + [0] * 70 + [-1] * 1_000_000)
    found = estimate(np.full((len(label), 2), 0.5), label)
    low, high = scipy.stats.binomtest(30, 100).proportion_ci(method="wilson")
    assert found.share[0, 1] == 0.3
    assert (found.low[0, 1], found.high[0, 1]) == pytest.approx((low, high), abs=0.003)
    assert found.high[0, 1] > high  # Student's t, and n - 2


def test_shares_add_up_to_one():
    probabilities, label, _ = draw_three()
    found = estimate(probabilities, label, group=np.arange(len(label)) % 7)
    assert set(found.method) == {POOLED}
    np.testing.assert_allclose(found.share.sum(axis=1), 1)


def test_a_corpus_whose_rows_are_all_labelled_is_counted():
    probabilities, label = draw_binary(0, 500, 0, 0.3, 1, 0)
    found = estimate(probabilities, label)
    assert found.method[0] == COUNTED
    assert found.share[0, 1] == found.low[0, 1] == found.high[0, 1] == (label == 1).mean()


def test_labels_of_training_rows_are_counted_and_say_nothing_of_errors():
    probabilities, label = draw_binary(0, 200, 2000, 0.3, 1, 1)
    weight = np.ones(len(label))
    alone = estimate(probabilities, label, weight=weight)
    seen = np.full(1000, 1)
    sure = np.tile([0.0, 1.0], (1000, 1))
    found = estimate(
        np.concatenate([probabilities, sure]),
        np.concatenate([label, seen]),
        weight=np.concatenate([weight, np.zeros(1000)]),
    )
    assert found.share[0, 1] == pytest.approx((2200 * alone.share[0, 1] + 1000) / 3200)
    width = (alone.high - alone.low)[0, 1] * 2200 / 3200
    assert (found.high - found.low)[0, 1] == pytest.approx(width)
    assert found.labelled[0] == 1200


def test_sums_of_parts_are_those_of_all_rows():
    probabilities, label, rng = draw_three()
    group, weight = rng.integers(0, 5, len(label)), 1 + rng.random(len(label))
    whole = {"prediction": probabilities.argmax(axis=1), "probabilities": probabilities}
    whole |= {"label": label, "weight": weight}
    keys = pd.DataFrame({"group": np.where(np.arange(len(label)) < 1000, group // 2, group)})
    parts = [
        sampling.add_up(keys[part], **{name: values[part] for name, values in whole.items()})
        for part in (slice(1000), slice(1000, None))
    ]
    assert [len(part) for part in parts] == [3, 5]
    pd.testing.assert_frame_equal(sampling.merge(parts), sampling.add_up(keys, **whole))


def test_few_labelled_rows_take_the_error_of_all_groups():
    probabilities, label = draw_binary(4, 400, 8000, 0.3, 1.5, 1)
    group = np.where(np.arange(len(label)) % 100 == 0, 1, 0)  # 4 of 400 labelled rows
    found = estimate(probabilities, label, group=group)
    assert found.method.tolist() == [CORRECTED, POOLED]
    assert found.labelled.tolist() == [396, 4]
    widths = (found.high - found.low)[:, 1]
    assert widths[0] < widths[1] < 0.5
    assert found.low[1, 1] < 0.3 < found.high[1, 1]


def test_a_pooled_interval_widens_by_how_much_the_error_differs():
    rng = np.random.default_rng(0)
    group = rng.integers(0, 12, 24_000)
    truth = rng.random(24_000) < np.linspace(0.1, 0.9, 12)[group]
    label = np.where(np.arange(24_000) < 200, truth, -1)
    blind = np.full((24_000, 2), 0.5)  # it sees no difference, so its error differs
    knows = np.stack([1 - truth, truth], axis=1) * 0.9 + 0.05
    wide, narrow = (estimate(p, label, group=group) for p in (blind, knows))
    assert set(wide.method) == {POOLED}
    truths = np.array([truth[group == one].mean() for one in range(12)])
    assert ((wide.low[:, 1] < truths) & (truths < wide.high[:, 1])).all()
    assert (wide.high - wide.low).mean() > 3 * (narrow.high - narrow.low).mean()


def test_a_pooled_interval_holds_that_of_a_group_with_as_many_labels():
    one = np.repeat([0, 1], [480, 20])  # four such groups have 80 labels together
    probabilities = np.tile(np.stack([0.95 - 0.5 * one, 0.05 + 0.5 * one], axis=1), (4, 1))
    label = np.tile(np.where(np.arange(500) % 25 == 0, one, -1), 4)
    pooled = estimate(probabilities, label, group=np.repeat(np.arange(4), 500))
    alone = estimate(probabilities, label)
    assert set(pooled.method) == {POOLED}
    assert set(alone.method) == {CORRECTED}
    np.testing.assert_allclose(pooled.share, np.tile(alone.share, (4, 1)))
    assert (pooled.low <= alone.low + 1e-9).all()
    assert (pooled.high >= alone.high - 1e-9).all()


def test_without_labels_nothing_is_corrected():
    found = estimate(np.tile([0.4, 0.6], (50, 1)), np.full(50, -1))
    assert found.method[0] == UNCORRECTED
    assert found.predicted[0].tolist() == [0, 1]
    assert np.isnan([found.share, found.low, found.high]).all()


def test_groups_are_compared_with_the_others_and_with_each_other():
    rng = np.random.default_rng(1)
    group = np.repeat(np.arange(4), 5000)
    truth = rng.random(20_000) < np.array([0.6, 0.3, 0.3, 0.3])[group]
    label = np.where(rng.random(20_000) < 0.05, truth, -1)
    found = estimate(np.stack([~truth, truth], axis=1) * 0.5 + 0.25, label, group=group)
    assert share_comparison.compare_with_others(found)[0, 1] < 1e-6
    p_values = share_comparison.compare_with_each(
        found.compared[:, 1], found.error[:, 1], found.rows, 0
    )
    assert np.isnan(p_values[0])
    assert (p_values[1:] < 1e-6).all()
