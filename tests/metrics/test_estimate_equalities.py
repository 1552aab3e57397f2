"""Estimated shares in special cases, where a simpler rule must give the same numbers."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sentiflow.metrics import drawing, sample_randomness, sampling, share_comparison, shares, strata
from sentiflow.metrics.shares import CORRECTED, COUNTED, POOLED, Shares

NUMBERS = ("rows", "labelled", "predicted", "share", "low", "high", "error")


@st.composite
def corpora(draw, *, min_rows=2, min_label=-1):
    """Draw rows of a corpus in up to three groups; labels below 0 are unknown.

    Probabilities differ within each group: where they are all the same, the tuning is a quotient of
    two roundings.
    """
    num_classes = draw(st.integers(2, 4))
    num_rows = draw(st.integers(min_rows, 60))
    odds = draw(arrays(np.float64, (num_rows, num_classes), elements=st.floats(0.0625, 16)))
    label = draw(arrays(np.int64, num_rows, elements=st.integers(min_label, num_classes - 1)))
    group = draw(arrays(np.int64, num_rows, elements=st.integers(0, 2)))
    odds[:, 0] *= 1 + np.arange(num_rows) % 5
    probabilities = odds / odds.sum(axis=1, keepdims=True)
    for one in np.unique(group):
        of_group = probabilities[group == one]
        assume(len(of_group) == 1 or of_group.var(axis=0).sum() > 1e-4)
    return {"probabilities": probabilities, "label": label, "group": group}


def add_up(*, probabilities, label, group, weight=None, **keys):
    return sampling.add_up(
        pd.DataFrame({"group": group} | keys),
        prediction=probabilities.argmax(axis=1),
        probabilities=probabilities,
        label=label,
        weight=np.ones(len(label)) if weight is None else weight,
    )


def draw_corpus(num_labelled, num_others, *, num_groups=1, seed=0):
    """Draw a corpus of two classes whose first rows are labelled, and the truth."""
    rng = np.random.default_rng(seed)
    num_rows = num_labelled + num_others
    truth = (rng.random(num_rows) < 0.3).astype(int)
    positive = 1 / (1 + np.exp(-2 * (rng.normal(size=num_rows) + truth - 0.3)))
    rows = {
        "probabilities": np.stack([1 - positive, positive], axis=1),
        "label": np.where(np.arange(num_rows) < num_labelled, truth, -1),
        "group": np.arange(num_rows) % num_groups,
    }
    return rows, truth


def assert_equal(found, expected, *, atol=1e-9):
    assert found.method.tolist() == expected.method.tolist()
    for name in NUMBERS:
        np.testing.assert_allclose(
            getattr(found, name), getattr(expected, name), atol=atol, err_msg=name
        )


@settings(max_examples=20, deadline=None)
@given(corpora())
def test_one_stratum_is_the_plain_estimate(rows):
    plain = shares.estimate(add_up(**rows), min_labelled=12)
    joined = strata.join([strata.Stratum(np.arange(len(plain.rows)), plain)])
    assert_equal(joined, plain)


@settings(max_examples=20, deadline=None)
@given(corpora())
def test_clusters_of_one_row_are_rows(rows):
    sums = add_up(**rows, author=np.arange(len(rows["label"])))
    by_author = sampling.join_clusters(sums, "author")
    assert_equal(shares.estimate(by_author), shares.estimate(add_up(**rows)))


@settings(max_examples=20, deadline=None)
@given(corpora(), st.integers(-4, 9))
def test_equal_weights_are_no_weights(rows, exponent):
    weights = np.full(len(rows["label"]), 2.0**exponent)  # no rounding
    weighted = shares.estimate(add_up(**rows, weight=weights))
    assert_equal(weighted, shares.estimate(add_up(**rows)))


def test_equal_weights_of_any_size_are_no_weights():
    rows, _ = draw_corpus(200, 3000, num_groups=4)
    for weight in (0.3, 3.7, 41.1):
        weights = np.full(len(rows["label"]), weight)
        weighted = shares.estimate(add_up(**rows, weight=weights))
        assert_equal(weighted, shares.estimate(add_up(**rows)))


@settings(max_examples=20, deadline=None)
@given(corpora(min_label=0))
def test_if_all_rows_are_labelled_the_shares_are_counted_and_known(rows):
    found = shares.estimate(add_up(**rows))
    assert set(found.method) == {COUNTED}
    for number, group in enumerate(np.unique(rows["group"])):
        label = rows["label"][rows["group"] == group]
        counted = np.bincount(label, minlength=found.share.shape[1]) / len(label)
        assert found.share[number] == pytest.approx(counted)
        assert found.error[number].tolist() == [0] * len(counted)
    np.testing.assert_array_equal(found.low, found.share)
    np.testing.assert_array_equal(found.high, found.share)
    assert found.measured.tolist() == found.rows.tolist()


@settings(max_examples=20, deadline=None)
@given(corpora(min_label=0))
def test_rows_that_are_only_counted_have_the_shares_of_rows_that_are_all_in_the_sample(rows):
    only_counted = shares.estimate(add_up(**rows, weight=np.zeros(len(rows["label"]))))
    sample = shares.estimate(add_up(**rows))
    assert only_counted.method.tolist() == sample.method.tolist()
    for name in ("rows", "labelled", "predicted", "share", "error"):
        np.testing.assert_allclose(
            getattr(only_counted, name), getattr(sample, name), atol=1e-9, err_msg=name
        )
    np.testing.assert_array_equal(only_counted.low, only_counted.share)
    np.testing.assert_array_equal(only_counted.high, only_counted.share)
    np.testing.assert_array_equal(only_counted.measured, sample.measured)


@pytest.mark.parametrize("seed", range(5))
def test_no_interval_goes_beyond_what_the_counted_labels_allow(seed):
    rows, truth = draw_corpus(120, 80, num_groups=5, seed=seed)
    weight = (np.arange(len(truth)) % 6 == 0).astype(float)  # the other labels are only counted
    found = shares.estimate(add_up(**rows, weight=weight))
    is_counted = (rows["label"] >= 0) & (weight == 0)
    for number in range(5):
        of_group = rows["group"] == number
        num_rows = of_group.sum()
        known = np.bincount(rows["label"][of_group & is_counted], minlength=2) / num_rows
        unknown = (of_group & ~is_counted).sum() / num_rows
        for values in (found.low, found.share, found.high):
            assert np.all(values[number] >= known - 1e-9)
            assert np.all(values[number] <= known + unknown + 1e-9)


@settings(max_examples=20, deadline=None)
@given(corpora())
def test_one_group_is_the_whole_and_a_pool_of_all_groups_is_no_pool(rows):
    sums = add_up(**rows)
    whole = add_up(**rows | {"group": np.zeros(len(rows["label"]), int)})
    total = sums.groupby(np.zeros(len(sums))).sum()
    assert_equal(shares.estimate(total), shares.estimate(whole))
    same_pool = np.zeros(len(sums), int)
    assert_equal(shares.estimate(sums, pool=same_pool), shares.estimate(sums))


def test_a_pool_is_estimated_as_if_there_were_no_other():
    rows, _ = draw_corpus(150, 2000, num_groups=6)
    is_odd = rows["group"] % 2 == 1
    rows["probabilities"][is_odd] = rows["probabilities"][is_odd] ** 2
    rows["probabilities"] /= rows["probabilities"].sum(axis=1, keepdims=True)
    sums = add_up(**rows)
    found = shares.estimate(sums, pool=np.array([0, 1] * 3))
    assert set(found.method) == {POOLED}
    odd = shares.estimate(sums[1::2])
    for name in NUMBERS:
        np.testing.assert_allclose(getattr(found, name)[1::2], getattr(odd, name), err_msg=name)


@settings(max_examples=20, deadline=None)
@given(corpora())
def test_the_order_of_classes_does_not_matter(rows):
    found = shares.estimate(add_up(**rows))
    num_classes = rows["probabilities"].shape[1]
    label = np.where(rows["label"] < 0, -1, num_classes - 1 - rows["label"])
    turned = rows | {"probabilities": rows["probabilities"][:, ::-1], "label": label}
    mirrored = shares.estimate(add_up(**turned))
    for name in ("share", "low", "high", "error"):
        np.testing.assert_allclose(
            getattr(mirrored, name)[:, ::-1], getattr(found, name), atol=1e-6, err_msg=name
        )


def test_of_two_classes_the_second_has_the_rest():
    rows, _ = draw_corpus(200, 3000, num_groups=4)
    found = shares.estimate(add_up(**rows))
    np.testing.assert_allclose(found.share[:, 1], 1 - found.share[:, 0])
    np.testing.assert_allclose(found.low[:, 1], 1 - found.high[:, 0])
    np.testing.assert_allclose(found.error[:, 1], found.error[:, 0])


def test_a_perfect_model_on_a_sample_with_the_shares_of_the_corpus_needs_no_correction():
    truth = np.tile(np.repeat([0, 1], [7, 3]), 200)
    label = np.where(np.arange(2000) < 100, truth, -1)
    found = shares.estimate(
        add_up(probabilities=np.eye(2)[truth], label=label, group=np.zeros(2000, int))
    )
    assert found.method.tolist() == [CORRECTED]
    np.testing.assert_allclose(found.share, found.predicted)
    # Two errors, +1 and -1, in a sample of 100 are all that is uncertain.
    variance = (1 - 100 / 2000) * (1999 / 2000) * 2 / 100**2
    at_least = 1.98 * variance**0.5
    assert found.high[0, 1] - found.low[0, 1] == pytest.approx(2 * at_least, rel=0.05)


def test_a_model_that_says_the_same_of_all_rows_leaves_the_share_of_the_labels():
    rows, truth = draw_corpus(100, 3000)
    same = rows | {"probabilities": np.tile([0.7, 0.3], (3100, 1))}
    found = shares.estimate(add_up(**same))
    assert found.share[0, 1] == pytest.approx(truth[:100].mean())


def test_a_group_with_the_error_of_its_pool_has_the_share_of_the_pool():
    rows, _ = draw_corpus(100, 900)
    alone = shares.estimate(add_up(**rows))
    copies = {name: np.concatenate([values] * 3) for name, values in rows.items()}
    copies["group"] = np.repeat([0, 1, 2], 1000)
    pooled = shares.estimate(add_up(**copies), min_labelled=250)
    assert (alone.method[0], set(pooled.method)) == (CORRECTED, {POOLED})
    # Three times as many rows: the variance of their probabilities has another n - 1.
    np.testing.assert_allclose(pooled.share, np.tile(alone.share, (3, 1)), atol=1e-4)
    one = shares.estimate(add_up(**rows), min_labelled=250)  # its own pool
    np.testing.assert_allclose(one.share, alone.share)
    assert (one.low <= alone.low).all()
    assert (one.high >= alone.high).all()


def test_two_strata_alike_have_the_share_of_each_and_an_interval_narrower_by_the_root_of_two():
    rows, _ = draw_corpus(100, 900)
    plain = shares.estimate(add_up(**rows))
    joined = strata.join([strata.Stratum(np.array([0]), plain)] * 2)
    np.testing.assert_allclose(joined.share, plain.share)
    np.testing.assert_allclose((joined.high - plain.share) * 2**0.5, plain.high - plain.share)
    np.testing.assert_allclose((joined.low - plain.share) * 2**0.5, plain.low - plain.share)
    np.testing.assert_allclose(joined.error * 2**0.5, plain.error)
    assert joined.rows == 2 * plain.rows


def groups_of(share, error, rows=100):
    """Make groups of some rows with these shares and standard errors of one class."""
    of_class = np.array(share)[:, None]
    hundred = np.full(len(share), rows)
    method = np.full(len(share), CORRECTED)
    return Shares(
        rows=hundred,
        labelled=hundred,
        measured=hundred,
        method=method,
        predicted=of_class,
        share=of_class,
        low=of_class,
        high=of_class,
        compared=of_class,
        error=np.array(error)[:, None],
        spread=np.ones_like(of_class),
    )


SHARE = st.floats(0, 1)
ERROR = st.floats(0.01, 0.2)


@given(SHARE, SHARE, ERROR, ERROR)
def test_of_two_groups_the_others_are_the_other_one(first, second, error, other):
    both = groups_of([first, second], [error, other])
    p_value = share_comparison.compare_with_each(both.share[:, 0], both.error[:, 0], both.rows, 0)[
        1
    ]
    expected = min(1, 2 * p_value)  # Holm, of two equal p-values
    assert share_comparison.compare_with_others(both)[:, 0] == pytest.approx([expected, expected])


@given(SHARE, ERROR, st.integers(2, 6))
def test_equal_groups_do_not_differ(share, error, num_groups):
    alike = groups_of([share] * num_groups, [error] * num_groups)
    np.testing.assert_allclose(share_comparison.compare_with_others(alike), 1, atol=1e-9)
    of_last = share_comparison.compare_with_each(
        alike.share[:, 0], alike.error[:, 0], alike.rows, num_groups - 1
    )
    assert of_last[:-1].tolist() == [1] * (num_groups - 1)


@given(st.integers(shares.MIN_COMPARED_ROWS, 400), st.floats(0.02, 0.98))
def test_a_group_of_few_counted_texts_is_no_evidence(rows, share):
    """A z-test of a share of 0 with its own variance, 0, would be certain."""
    counted = groups_of([0.0, share], [0.0, 0.0], rows=np.array([rows, 10**6]))
    p_value = share_comparison.compare_with_each(
        counted.share[:, 0], counted.error[:, 0], counted.rows, 0
    )
    exact = (1 - share) ** rows  # the chance of no text of the class
    assert p_value[1] >= 0.5 * exact or exact < 1e-6
    adjusted = share_comparison.compare_with_others(counted)[:, 0]
    assert adjusted[0] >= p_value[1]


def test_groups_below_the_minimum_are_not_tested_and_do_not_count_for_holm():
    alike = groups_of([0.5, 0.2, 0.2, 0.2], [0.05] * 4, rows=np.array([1000, 1000, 1000, 29]))
    found = share_comparison.compare_with_others(alike)[:, 0]
    assert np.isnan(found[3])
    of_three = share_comparison.compare_with_others(
        groups_of([0.5, 0.2, 0.2], [0.05] * 3, rows=np.full(3, 1000))
    )
    assert found[0] == pytest.approx(of_three[0, 0], rel=0.2)  # by Holm it would be 4 / 3


@settings(max_examples=20, deadline=None)
@given(corpora(), st.integers(1, 9))
def test_a_sample_in_proportion_is_as_random_as_can_be(rows, part):
    prediction = rows["probabilities"].argmax(axis=1)
    ones = np.ones(len(prediction))
    population = sample_randomness.count_bins(prediction, rows["probabilities"], ones)
    assert population.sum() == len(prediction)
    p_values = sample_randomness.check_randomness(
        population, population / part, len(prediction) / part
    )
    assert p_values == pytest.approx([1, 1])


@given(st.floats(0.01, 0.99), st.lists(st.integers(0, 10**9), min_size=1, unique=True))
def test_rows_with_equal_chances_are_ranked_as_in_a_simple_random_sample(chance, row_ids):
    row_id = np.array(row_ids)
    odds = drawing.find_odds(row_id)
    rank = drawing.rank_odds(np.full(len(row_id), chance), odds)
    simple = drawing.rank_odds(np.full(len(row_id), 0.5), odds)
    assert np.argsort(rank, kind="stable").tolist() == np.argsort(simple, kind="stable").tolist()
