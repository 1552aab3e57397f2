"""Intervals of mean ratings hold the truth, and groups that are alike are not said to differ.

Simulated corpora of 1 to 5 and 1 to 10 stars whose truth is known. The full grid is marked
``soak``::

    pytest -m soak -s tests/metrics/test_mean_promises.py

It prints the table of ``docs/trends.md``. The mean of stars is compared with labels alone: the
same labels without a model.
"""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from sentiflow.metrics import sampling, share_changes, share_comparison, shares
from sentiflow.metrics.paired import SIGNIFICANCE
from sentiflow.metrics.rating_scale import RatingScale

STARS = {
    "middle": (3, 1.2, 5),
    "high": (4.6, 1.3, 5),
    "ten": (7.5, 2.5, 10),
    "ends": (3, 6.0, 5),
    "nearly all 5": (6.0, 1.0, 5),
    "three": (2.2, 0.8, 3),
}
"""Mean and standard deviation of latent ratings, and the number of stars."""
MODELS = {"good": (0.5, 0.0), "weak": (2.0, 0.0), "biased": (0.8, 0.7), "biased down": (0.8, -0.7)}
"""Noise and bias of what a model sees of a latent rating, by its standard deviation."""
ACCURATE = [
    *product((0.8, 0.96, 0.99), ("next", "top", "bottom", "any"), (0.995,)),
    *product((0.8, 0.96, 0.99), ("any",), (0.7,)),
]
"""Accuracy, what is predicted in place of the label, and the probability of a prediction."""
NUM_GRID = 33


class Ratings:
    """Kinds of rows: how often each occurs, their label, and the probabilities of a model."""

    def __init__(self, stars, model, *, shift=0.0):
        mean, deviation, num = STARS[stars]
        self.scale = RatingScale(tuple(float(value) for value in range(1, num + 1)))
        edges = np.linspace(-3.5, 3.5, NUM_GRID + 1)
        often = np.diff(norm.cdf(edges))
        often /= often.sum()
        z = (edges[1:] + edges[:-1]) / 2
        latent = mean + shift + deviation * z
        truth = np.clip(np.round(latent), 1, num).astype(int) - 1
        if model not in MODELS:
            self._predict_accurately(often, truth, *model)
            return
        noise, bias = MODELS[model]
        # Nine equal parts of the noise: the model sees one of nine values of a rating.
        of_noise = norm.ppf((np.arange(9) + 0.5) / 9)
        seen = latent[:, None] + deviation * (noise * of_noise + bias)
        logits = -((seen[..., None] - np.arange(1, num + 1)) ** 2) / (2 * (noise * deviation) ** 2)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        self.probabilities = (odds / odds.sum(axis=-1, keepdims=True)).reshape(-1, num)
        self.often = np.repeat(often / 9, 9)
        self.label = np.repeat(truth, 9)

    def _predict_accurately(self, often, truth, accuracy, errors, certainty):
        """Predict most labels right, and some wrong: the next one, the top or bottom, or any."""
        num = len(self.scale.values)
        shares = np.bincount(truth, often, num)
        instead = np.zeros((num, num))
        for label in range(num):
            if errors == "next":
                instead[label, [max(label - 1, 0), min(label + 1, num - 1)]] += 0.5
            elif errors == "any":
                instead[label] = 1 / num
            else:
                instead[label, num - 1 if errors == "top" else 0] = 1
        table = (1 - accuracy) * instead + accuracy * np.eye(num)
        self.often = (shares[:, None] * table).ravel()
        self.label = np.repeat(np.arange(num), num)
        prediction = np.tile(np.arange(num), num)
        other = (1 - certainty) / (num - 1)
        self.probabilities = np.eye(num)[prediction] * (certainty - other) + other

    @property
    def mean(self):
        """The mean of the values of the labels, from 0 to 1."""
        return self.often @ self.scale.units[self.label]

    def add_up(self, sample, rest, *, is_blind=False):
        """Make the sums of the mean of R groups, given the rows of each kind."""
        p = self.probabilities
        if is_blind:
            p = np.full_like(p, 1 / p.shape[1])
        num = len(self.label)
        values = {"prediction": p.argmax(axis=1), "probabilities": p, "values": self.scale.units}
        one = sampling.add_up(
            pd.DataFrame({"kind": np.arange(num)}),
            label=self.label, weight=np.ones(num), **values,
        )  # fmt: skip
        other = sampling.add_up(
            pd.DataFrame({"kind": np.arange(num)}),
            label=np.full(num, -1), weight=np.zeros(num), **values,
        )  # fmt: skip
        one = sampling.of_values(one, p.shape[1])
        other = sampling.of_values(other, p.shape[1]).reindex(columns=one.columns, fill_value=0.0)
        found = sample @ one.to_numpy() + rest @ other.to_numpy()
        return pd.DataFrame(found, columns=one.columns)


def draw(rng, ratings, num_groups, size, num_rows):
    """Draw the labelled and the other rows of groups, by kind; and their means."""
    sample = rng.multinomial(size, ratings.often, num_groups)
    rest = rng.multinomial(num_rows - size, ratings.often, num_groups)
    truth = (sample + rest) @ ratings.scale.units[ratings.label] / num_rows
    return sample, rest, truth


def measure(seed, stars, model, size, num_draws, *, num_rows=20_000):
    """Return the coverage with a model and by labels alone, and the ratio of the widths."""
    rng = np.random.default_rng(seed)
    ratings = Ratings(stars, model)
    sample, rest, truth = draw(rng, ratings, num_draws, size, num_rows)
    pool = np.arange(num_draws)  # each draw by itself
    results = []
    for is_blind in (False, True):
        sums = ratings.add_up(sample, rest, is_blind=is_blind)
        found = shares.estimate(sums, min_labelled=5, pool=pool, step=ratings.scale.step)
        low, high = found.low[:, 0], found.high[:, 0]
        results.append((((low <= truth) & (truth <= high)).mean(), np.mean(high - low)))
    (coverage, width), (alone, width_alone) = results
    return coverage, alone, width / width_alone, width * ratings.scale.span


def measure_all(cells, num_draws, **options):
    """Measure cells, print the worst, and return the coverage and the ratio of the widths."""
    found = {}
    for number, cell in enumerate(cells):
        found[cell] = measure(number, *cell, num_draws, **options)
    for cell in sorted(found, key=lambda cell: found[cell][0])[:5]:
        coverage, alone, ratio, width = found[cell]
        print(f"{coverage:.4f} (labels alone {alone:.4f}), ratio {ratio:.2f}, {width:.2f}", *cell)
    coverage, _, ratio, _ = np.array(list(found.values())).T
    return coverage, ratio


def test_intervals_hold_the_truth():
    cells = [("middle", "biased", 30), ("ten", "biased", 30), ("ten", "good", 100)]
    cells += [("high", "weak", 100), ("ends", (0.96, "top", 0.995), 300)]
    coverage, ratio = measure_all(cells, 600)
    assert coverage.min() > 0.92
    assert coverage.mean() > 0.94
    assert ratio.mean() < 0.75


def test_rare_errors_over_the_whole_scale_are_allowed_for():
    """Most samples have no such error: the added errors are as large as labels differ."""
    coverage, _ = measure_all([("ten", (0.99, "bottom", 0.995), 100)], 600)
    assert coverage.min() > 0.92


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_intervals_of_any_stars_and_model_hold_the_truth():
    cells = list(product(STARS, [*MODELS, *ACCURATE], (30, 100, 300)))
    coverage, ratio = measure_all(cells, 5000)
    print(f"{len(cells)} cells, {coverage.min():.4f} to {coverage.max():.4f}")
    is_moderate = np.array([cell[1] in MODELS for cell in cells])
    for size in (30, 100, 300):
        of_size = is_moderate & np.array([cell[2] == size for cell in cells])
        print(f"{size} labels: width by that of labels alone {ratio[of_size].mean():.2f}")
    assert coverage.min() >= 0.93


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_60_months_of_60_labels_hold_the_truth():
    """Each draw has 60 months of 2,000 texts, 60 of them labelled."""
    cells = list(product(STARS, MODELS, (60,)))
    coverage, ratio = measure_all(cells, 60 * 100, num_rows=2000)
    print(f"months: {coverage.min():.4f} to {coverage.max():.4f}, ratio {ratio.mean():.2f}")
    assert coverage.min() >= 0.93


def draw_groups(rng, num_groups, *, num_rows, error, differ, num_labels):
    """Estimate groups of texts with few labels, whose ratings and errors of the model differ."""
    scale = RatingScale((1.0, 2.0, 3.0, 4.0, 5.0))
    group = np.repeat(np.arange(num_groups), num_rows)
    latent = (3.5 + differ * rng.normal(size=num_groups))[group] + rng.normal(size=len(group))
    truth = np.clip(np.round(latent), 1, 5).astype(int) - 1
    bias = (0.4 + error * rng.normal(size=num_groups))[group]
    seen = latent + bias + 0.8 * rng.normal(size=len(group))
    logits = -((seen[:, None] - np.arange(1, 6)) ** 2)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sums = sampling.add_up(
        pd.DataFrame({"group": group}),
        prediction=probabilities.argmax(axis=1),
        probabilities=probabilities,
        label=np.where(rng.random(len(group)) < num_labels / num_rows, truth, -1),
        weight=np.ones(len(group)),
        values=scale.units,
    )
    found = shares.estimate(sampling.of_values(sums, 5), step=scale.step)
    return found, scale.units[truth].reshape(num_groups, num_rows).mean(axis=1)


def measure_groups(num_draws, num_groups=20, **options):
    """Return the coverage over all groups and draws, and the part with an interval."""
    hits, known = [], []
    for seed in range(num_draws):
        found, truth = draw_groups(np.random.default_rng(seed), num_groups, **options)
        low, high = found.low[:, 0], found.high[:, 0]
        is_known = ~np.isnan(low)
        known.append(is_known.mean())
        if is_known.any():
            hits.append(((low <= truth) & (truth <= high))[is_known].mean())
    return float(np.mean(hits)), float(np.mean(known))


def test_pooled_means():
    coverage, known = measure_groups(20, num_rows=500, error=0.3, differ=0.4, num_labels=10)
    assert coverage > 0.92
    assert known == 1


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_means_of_groups_with_few_labels_hold_the_truth():
    found = {}
    for cell in product((0, 0.3, 0.6), (0, 0.4, 0.8), (5, 10, 20)):
        error, differ, num_labels = cell
        options = {"error": error, "differ": differ, "num_labels": num_labels}
        found["20 groups", *cell] = measure_groups(200, num_rows=500, **options)
    for cell in product((0, 0.3), (0, 0.4), (0.3, 1, 3)):
        error, differ, num_labels = cell
        options = {"error": error, "differ": differ, "num_labels": num_labels}
        found["1,000 groups", *cell] = measure_groups(30, 1000, num_rows=30, **options)
    for cell in sorted(found, key=lambda cell: found[cell][0])[:6]:
        print("{:.4f}, with an interval {:.2f}".format(*found[cell]), *cell)
    for coverage, _ in found.values():
        assert coverage >= 0.93


def measure_claims(seed, num_draws, num_groups, size, stars, model, *, shift=0.0):
    """Return how often any group is said to differ, the highest or the lowest; the first lowest.

    ``shift``: what is added to the latent ratings of the first group.
    """
    rng, claims = np.random.default_rng(seed), []
    ratings = Ratings(stars, model)
    sample, rest, _ = draw(rng, ratings, num_draws * num_groups, size, 2000)
    sums = ratings.add_up(sample, rest)
    if shift:
        other = Ratings(stars, model, shift=shift)
        first = other.add_up(*draw(rng, other, num_draws, size, 2000)[:2])
        sums.iloc[::num_groups] = first.to_numpy()
    step = ratings.scale.step
    found = shares.estimate(sums, pool=np.repeat(np.arange(num_draws), num_groups), step=step)
    for number in range(num_draws):
        part = slice(number * num_groups, (number + 1) * num_groups)
        one = shares.Shares(**{name: values[part] for name, values in vars(found).items()})
        mean, error, spread = one.compared[:, 0], one.error[:, 0], one.spread[:, 0]
        ends = int(mean.argmax()), int(mean.argmin())
        is_claimed = []
        for end in ends:
            p_values = share_comparison.compare_with_each(
                mean, error, one.rows, end, spread=spread, step=step
            )
            is_claimed.append(np.nanmax(p_values) < SIGNIFICANCE)
        differs = np.nanmin(share_comparison.compare_with_others(one, step=step)) < SIGNIFICANCE
        claims.append((differs, any(is_claimed), is_claimed[1] and ends[1] == 0))
    return np.mean(claims, axis=0)


def test_equal_groups_do_not_differ():
    assert measure_claims(0, 300, 6, 100, "middle", "biased")[:2].max() < 0.08  # 5% are allowed
    assert measure_claims(1, 300, 20, 100, "ten", (0.99, "top", 0.995))[:2].max() < 0.03


def test_groups_that_differ_are_told():
    differs, _, is_lowest = measure_claims(0, 100, 6, 100, "middle", "good", shift=-0.6)
    assert differs > 0.95
    assert is_lowest > 0.9


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("num_groups", [2, 6, 20])
def test_equal_groups_of_any_stars_and_model_do_not_differ(num_groups):
    cells = list(product((30, 100), STARS, [*MODELS, *ACCURATE]))
    found = []
    for number, cell in enumerate(cells):
        claims = measure_claims(number, 1000, num_groups, *cell)
        if claims[:2].max() > 0.04:
            claims = measure_claims(1000 + number, 5000, num_groups, *cell)
        found.append(claims[:2])
    for name, claims in zip(("differs", "an end"), np.array(found).T, strict=True):
        worst = np.argsort(-claims)[:3]
        print(num_groups, name, *(f"{claims[at]:.4f} {cells[at]}" for at in worst), sep="\n  ")
    assert np.max(found) <= 0.05


def measure_changes(seed, num_draws, stars, model, labels, *, shift=0.0, num_periods=52):
    """Return how often the mean is said to change, at any look at periods of 500 texts.

    ``shift``: what is added to the latent ratings in the second half.
    """
    rng = np.random.default_rng(seed)
    half = num_periods // 2
    parts = [Ratings(stars, model), Ratings(stars, model, shift=shift)]
    claims = []
    for _ in range(num_draws):
        sums = [each.add_up(*draw(rng, each, half, labels, 500)[:2]) for each in parts]
        looks = share_changes.find_changes(
            pd.concat(sums, ignore_index=True),
            period=np.arange(2 * half),
            model=np.zeros(2 * half, int),
        )
        claims.append(bool(looks.changes))
    return np.mean(claims)


def test_a_mean_that_stays_is_not_said_to_change_and_a_change_is_told():
    assert measure_changes(0, 60, "middle", "biased", 6) <= 0.05
    assert measure_changes(0, 30, "middle", "good", 6, shift=0.7) > 0.9


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_a_mean_of_any_stars_is_not_said_to_change():
    models = [*MODELS, (0.96, "top", 0.995), (0.99, "bottom", 0.995)]
    cells = list(product(STARS, models, (6, 30)))
    found = [measure_changes(at, 400, *cell) for at, cell in enumerate(cells)]
    for at in np.flatnonzero(np.array(found) > 0.04):
        found[at] = measure_changes(1000 + at, 2000, *cells[at])
    for at in np.argsort(found)[::-1][:4]:
        print(f"{found[at]:.4f}", *cells[at])
    power = [
        measure_changes(at, 200, "middle", model, 6, shift=0.6) for at, model in enumerate(MODELS)
    ]
    print("a change of 0.6 stars, 150 labels before and after:", *power)
    assert max(found) <= 0.05
