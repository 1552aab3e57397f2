"""The agreement of two annotators."""

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from sentiflow.metrics import agreement


def annotate(rng, num_rows, noise, shares=(0.5, 0.3, 0.2)):
    """Let two annotators label rows of three classes; each errs by itself."""
    truth = rng.choice(3, num_rows, p=shares)
    labels = []
    for _ in range(2):
        is_wrong = rng.random(num_rows) < noise
        labels.append(np.where(is_wrong, (truth + rng.integers(1, 3, num_rows)) % 3, truth))
    return labels


@pytest.mark.parametrize("noise", [0, 0.1, 0.5])
def test_kappa_is_that_of_scikit_learn(noise):
    first, second = annotate(np.random.default_rng(0), 200, noise)
    found = agreement.measure(first, second, 3)
    assert found.kappa == pytest.approx(cohen_kappa_score(first, second))
    assert found.low <= found.kappa <= found.high


def test_the_interval_holds_that_of_the_example_by_fleiss():
    """Kappa is 0.429, and its standard error 0.054, in the table of Cohen (1960).

    The exact interval of the agreement makes the interval a little wider.
    """
    table = np.array([[106, 10, 4], [22, 28, 10], [2, 12, 6]])
    first, second = np.repeat(np.indices((3, 3)).reshape(2, -1), table.ravel(), axis=1)
    found = agreement.measure(first, second, 3)
    assert found.kappa == pytest.approx(0.429, abs=5e-4)
    assert 0.054 < (found.high - found.low) / (2 * 1.96) < 0.065


def test_intervals_hold_kappa():
    rng = np.random.default_rng(0)
    true = agreement.measure(*annotate(rng, 1_000_000, 0.1), 3).kappa
    hits = []
    for _ in range(500):
        found = agreement.measure(*annotate(rng, 100, 0.1), 3)
        hits.append(found.low <= true <= found.high)
    assert 0.92 < np.mean(hits) < 0.98


@pytest.mark.parametrize("shares", [(0.64, 0.19, 0.17), (0.96, 0.02, 0.02)])
def test_intervals_of_few_rows_that_agree_hold_kappa_and_the_ceiling(shares):
    """All 20 rows agree in most draws; the error of kappa is then 0."""
    rng = np.random.default_rng(0)
    true = agreement.measure(*annotate(rng, 1_000_000, 0.01, shares), 3)
    holds_kappa = []
    holds_ceiling = []
    for _ in range(300):
        found = agreement.measure(*annotate(rng, 20, 0.01, shares), 3)
        if not np.isnan(found.kappa):
            holds_kappa.append(found.low <= true.kappa <= found.high)
        holds_ceiling.append(found.ceiling_low <= true.ceiling <= found.ceiling_high)
    assert np.mean(holds_kappa) > 0.93
    assert np.mean(holds_ceiling) > 0.93


def test_the_ceiling_is_the_accuracy_of_an_annotator():
    first, second = annotate(np.random.default_rng(0), 200_000, 0.1)
    found = agreement.measure(first, second, 3)
    assert found.ceiling == pytest.approx(0.9, abs=0.005)
    assert agreement.find_ceiling(0.1, 2) == 0.5  # below the agreement by chance


def test_one_label_has_no_kappa():
    same = np.zeros(5, int)
    found = agreement.measure(same, same, 2)
    assert (found.agreement, found.ceiling) == (1, 1)
    assert np.isnan([found.kappa, found.low, found.high]).all()
