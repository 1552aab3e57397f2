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


def test_x():
    found = {}
    for cell in product(STARS, [*MODELS, *ACCURATE], (30, 100, 300)):
        found[cell] = measure(1, *cell, 2000)
    for cell in sorted(found, key=lambda c: found[c][0])[:60]:
        print(*cell, "%.3f alone %.3f ratio %.2f width %.2f" % found[cell])
    for size in (30, 100, 300):
        print(size, np.mean([v[2] for c, v in found.items() if c[1] in MODELS and c[2] == size]))
    for cell in found:
        if cell[1] in MODELS:
            print(*cell, "%.3f alone %.3f ratio %.2f width %.2f" % found[cell])
