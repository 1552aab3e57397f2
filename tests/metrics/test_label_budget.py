"""The intervals become as wide as planned: simulated corpora, drawn as ``trends --sample`` draws.

The full grid is marked ``soak``::

    pytest -m soak -s tests/metrics/test_label_budget.py
"""

from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit, ndtri

from sentiflow.metrics import drawing, label_budget, sampling, shares
from sentiflow.metrics.share_samples import measure

NUM_ROWS = 20_000
SIZES = np.array([0.8, 0.16, 0.04])
"""Parts of the rows in each group."""
ODDS = np.array([0.8, 1.5, 0.5])
"""By how much the odds of the class differ by group."""
CALIBRATION = {
    "right": (0, 1),
    "too sure": (0, 2.5),
    "too unsure": (0, 0.4),
    "biased": (1.5, 1),
    "biased and too sure": (-1.5, 2),
}
"""By how much the logits of the model are off, and their factor."""
FIRST = 100
"""Labels of a first draw."""


def draw_rows(rng, share, accuracy, calibration):
    """Draw groups, true classes and probabilities of two classes.

    The accuracy is the one on as many rows of each class: a score is normal in each class.
    """
    group = rng.choice(3, NUM_ROWS, p=SIZES)
    of_group = expit(logit(share) + np.log(ODDS))[group]
    truth = (rng.random(NUM_ROWS) < of_group).astype(int)
    distance = ndtri(accuracy)
    score = rng.normal(size=NUM_ROWS) + distance * (2 * truth - 1)
    bias, factor = CALIBRATION[calibration]
    p = expit(bias + factor * (logit(of_group) + 2 * distance * score))
    return group, truth, np.stack([1 - p, p], axis=1)


def find_chances(group, size):
    """Find the chance of each group in a draw, as ``trends --sample`` does."""
    rows = np.bincount(group).astype(float)
    rate = drawing.find_rate(rows, rows, np.zeros(len(rows)), size)
    return drawing.find_least_chances(rows, rate)


class Corpus(NamedTuple):
    """Rows whose truth is known."""

    group: np.ndarray
    truth: np.ndarray
    probabilities: np.ndarray
    cells: pd.DataFrame
    """Sums by group."""


def make_corpus(rng, *cell):
    """Draw a corpus, and add up its rows by group."""
    group, truth, probabilities = draw_rows(rng, *cell)
    nobody = np.full(len(group), -1)
    cells = sampling.add_up(
        pd.DataFrame({"group": group}),
        prediction=probabilities.argmax(axis=1),
        probabilities=probabilities,
        label=nobody,
        weight=np.ones(len(group)),
    )
    return Corpus(group, truth, probabilities, cells)


def draw(corpus, odds, size):
    """Draw a sample, and add up its rows: the whole corpus is its population."""
    chance = find_chances(corpus.group, size)[corpus.group]
    drawn = np.argpartition(drawing.rank_odds(chance, odds), size - 1)[:size]
    sums = sampling.add_up(
        pd.DataFrame({"group": np.zeros(size, int)}),
        prediction=corpus.probabilities[drawn].argmax(axis=1),
        probabilities=corpus.probabilities[drawn],
        label=corpus.truth[drawn],
        weight=1 / chance[drawn],
    )
    for name in ("rows", "population", "p", "pp"):
        sums[name] = corpus.cells[name].sum().to_numpy()[None]
    return sums


def plan(corpus, wanted, sample=None, size=0):
    """Count the labels that a half-width needs, by a sample of some size if there is one."""
    whole = np.zeros(len(corpus.cells), int)
    factors = None
    if sample is not None:
        expected = label_budget.expect(corpus.cells, find_chances(corpus.group, size), whole)
        factors = label_budget.find_factors(measure(sample), expected)

    def reach(number):
        chances = find_chances(corpus.group, int(number[0]))
        samples = label_budget.expect(corpus.cells, chances, whole, factors)
        return label_budget.join_reach(samples, np.ones(1)).max(keepdims=True)

    return int(label_budget.count_labels(reach, wanted, np.array([len(corpus.group)]))[0])


def find_reach(sample):
    """Return the half-width of the widest interval of a sample."""
    found = shares.estimate(sample)
    return float(((found.high - found.low) / 2).max())


class Reached(NamedTuple):
    """Mean half-widths over the wanted one, and the mean number of labels."""

    by_model: float
    """Planned by the probabilities."""
    by_labels: float
    """Planned by the first labels."""
    number: float
    """Labels of the second plan."""

    @property
    def is_first_enough(self):
        """Say whether the first labels are nearly as many as needed, so they reach more."""
        return self.number < 1.5 * FIRST


def compare(share, accuracy, calibration, wanted, *, num_draws):
    """Compare the widths of some draws with the wanted one."""
    rng = np.random.default_rng([int(1000 * share), int(1000 * accuracy)])
    corpus = make_corpus(rng, share, accuracy, calibration)
    by_model = plan(corpus, wanted)
    found = []
    for _ in range(num_draws):
        uniform = rng.random(len(corpus.group))
        odds = uniform / (1 - uniform)
        number = max(plan(corpus, wanted, draw(corpus, odds, FIRST), FIRST), FIRST)
        reached = [find_reach(draw(corpus, odds, size)) / wanted for size in (by_model, number)]
        found.append([*reached, number])
    return Reached(*np.mean(found, axis=0))


def check(found, calibration):
    """Check that the wanted width is reached: by labels, or by probabilities that are right."""
    assert found.by_labels < 1.1
    assert found.by_labels > (0.8 if found.is_first_enough else 0.9)
    if calibration == "right":
        assert found.by_model == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(
    "cell", [(0.1, 0.7, "too sure"), (0.3, 0.8, "right"), (0.5, 0.95, "biased and too sure")]
)
def test_the_width_that_was_planned_is_reached(cell):
    check(compare(*cell, 0.04, num_draws=20), cell[-1])


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_the_width_that_was_planned_is_reached_by_any_model():
    grid = list(product((0.05, 0.1, 0.3, 0.5), (0.7, 0.85, 0.95), CALIBRATION, (0.02, 0.04)))
    results = []
    for *cell, wanted in grid:
        found = compare(*cell, wanted, num_draws=60)
        print(f"{found.by_model:.3f} {found.by_labels:.3f}", *cell, wanted, f"{found.number:.0f}")
        results.append((found, cell[-1]))
    for found, calibration in results:
        check(found, calibration)


def test_a_plan_by_a_sample_expects_the_interval_of_this_sample():
    rng = np.random.default_rng(0)
    corpus = make_corpus(rng, 0.3, 0.8, "biased and too sure")
    uniform = rng.random(NUM_ROWS)
    sample = draw(corpus, uniform / (1 - uniform), 400)
    chances = find_chances(corpus.group, 400)
    whole = np.zeros(len(chances), int)
    expected = label_budget.expect(corpus.cells, chances, whole)
    factors = label_budget.find_factors(measure(sample), expected)
    planned = label_budget.expect(corpus.cells, chances, whole, factors)
    found = shares.estimate(sample)
    reach = label_budget.expect_reach(planned)
    np.testing.assert_allclose(reach, (found.high - found.low) / 2, rtol=0.03)


def test_more_labels_are_needed_for_less_width_and_without_predictions():
    corpus = make_corpus(np.random.default_rng(0), 0.3, 0.9, "right")
    numbers = [plan(corpus, wanted) for wanted in (0.01, 0.02, 0.04, 0.2)]
    assert numbers == sorted(numbers, reverse=True)
    assert numbers[-1] == pytest.approx(shares.MIN_LABELLED, abs=10)  # weighted labels count less
    chances = find_chances(corpus.group, 500)
    samples = label_budget.expect(corpus.cells, chances, np.zeros(3, int))
    alone = label_budget.expect_reach(label_budget.without_predictions(samples))
    assert (alone > 1.2 * label_budget.expect_reach(samples)).all()


def test_no_width_is_expected_of_too_few_labels_and_none_is_left_if_all_are_labelled():
    corpus = make_corpus(np.random.default_rng(0), 0.3, 0.9, "right")
    for chance, reach in ((5 / NUM_ROWS, label_budget.UNKNOWN), (1.0, 0)):
        samples = label_budget.expect(corpus.cells, np.full(3, chance), np.zeros(3, int))
        found = label_budget.join_reach(samples, np.ones(1))
        np.testing.assert_allclose(found, reach, atol=1e-12)
