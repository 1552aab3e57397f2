"""Groups that are alike are not said to differ, and those that differ are.

Sums of groups are drawn at once: of each pair of a label and a probability the number of rows. The
full grid is marked ``soak``::

    pytest -m soak -s tests/metrics/test_share_claims.py
"""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from sentiflow.metrics import share_comparison, shares
from sentiflow.metrics.paired import SIGNIFICANCE, adjust

NUM_ROWS = 2000
MODELS = [
    *product((0.8, 0.96, 0.99), ("one side", "other side", "both"), (0.995,)),
    *product((0.8, 0.96, 0.99), ("both",), (0.7,)),
    ("moderate", 2.5, 0.0), ("moderate", 1.0, 0.0), ("moderate", 2.0, -1.5),
]  # fmt: skip
"""Accuracy, errors, certainty; or quality and bias of a model with probabilities of all sizes."""


def list_pairs(share, model):
    """List pairs of a label and a probability, and how often each occurs."""
    if model[0] == "moderate":
        _, quality, bias = model
        edges = np.linspace(-4, 4, 25)
        often = np.diff(norm.cdf(edges))
        score = (edges[1:] + edges[:-1]) / 2
        label = np.repeat([0, 1], len(score))
        logit = quality * (np.tile(score, 2) + quality * (label - 0.5)) + bias
        often = np.tile(often / often.sum(), 2) * np.where(label, share, 1 - share)
        return often, label, 1 / (1 + np.exp(-logit))
    accuracy, errors, certainty = model
    parts = (1 - share, share)  # of the errors, by label
    if errors == "one side":
        parts = (0, 1)
    elif errors == "other side":
        parts = (1, 0)
    missed = np.minimum((1 - accuracy) * np.array(parts), [0.9 * (1 - share), 0.9 * share])
    often = np.array([1 - share - missed[0], missed[0], missed[1], share - missed[1]])
    label = np.array([0, 0, 1, 1])
    prediction = np.array([0, 1, 0, 1])
    return often, label, prediction * (2 * certainty - 1) + 1 - certainty


SIMPLE = ((1.0, 1.0, 1.0),)
WEIGHTED = ((0.8, 1.0, 0.9), (0.16, 5**0.5, 1.3), (0.04, 20**0.5, 1.8))
"""Parts of the rows: how many, their chance to be drawn, as ``trends --sample`` has it where they
are groups, and their share of the class by that of all."""


def draw_sums(
    rng, num_draws, num_groups, size, share, model, *, num_rows=NUM_ROWS, parts=SIMPLE, first=None
):
    """Draw groups with samples of one size, and equal shares; or ``first`` in the first group."""
    pairs = [list_pairs(share * factor, model) for _, _, factor in parts]
    often, label, positive = (np.array(each) for each in zip(*pairs, strict=True))
    num = np.array([round(part * num_rows) for part, _, _ in parts])
    chance = np.array([chance for _, chance, _ in parts])
    chance *= size / (num * chance).sum()
    total = num_draws * num_groups
    drawn = rng.multinomial(size, (num * chance / size)[:, None].ravel(), total)
    sample, rest = (
        np.concatenate(
            [rng.multinomial(counts[:, at], often[at]) for at in range(len(num))], axis=1
        )
        for counts in (drawn, num - drawn)
    )
    if first is not None:
        (of_first,) = (list_pairs(first * factor, model)[0] for _, _, factor in parts)
        for counts, n in ((sample, size), (rest, num_rows - size)):
            counts[::num_groups] = rng.multinomial(n, of_first, num_draws)
    w = np.repeat(1 / chance, often.shape[1])[:, None]
    one, y = np.ones((label.size, 1)), label.reshape(-1, 1) == [0, 1]
    p = np.stack([1 - positive.ravel(), positive.ravel()], axis=1)
    every = {"rows": one, "population": one, "predicted": (p >= 0.5), "p": p, "pp": p**2}
    every["truth"] = y
    found = {"labelled": one, "clusters": one, "square": w**2, "w": w, "ww": w**2, "counted": 0 * y}
    found |= {"wy": w * y, "wp": w * p, "wyp": w * y * p, "wwy": w**2 * y, "wwp": w**2 * p}
    found |= {"wwyy": w**2 * y, "wwyp": w**2 * y * p, "wwpp": w**2 * p**2}
    sums = {name: (sample + rest) @ values for name, values in every.items()}
    sums |= {name: sample @ values for name, values in found.items()}
    return pd.concat({name: pd.DataFrame(each, dtype=float) for name, each in sums.items()}, axis=1)


def measure_claims(seed, num_draws, num_groups, *args, **options):
    """Return how often any group is said to differ, one to be the highest, and a change; and how
    often the first is named the highest."""
    rng, claims = np.random.default_rng(seed), []
    for _ in range(num_draws // 50):
        sums = draw_sums(rng, 50, num_groups, *args, **options)
        found = shares.estimate(sums, pool=np.repeat(np.arange(50), num_groups))
        for number in range(50):
            part = slice(number * num_groups, (number + 1) * num_groups)
            one = shares.Shares(**{name: values[part] for name, values in vars(found).items()})
            share, error = one.compared[:, 1], one.error[:, 1]
            top = int(share.argmax())
            is_highest = (
                np.nanmax(share_comparison.compare_with_each(share, error, one.rows, top))
                < SIGNIFICANCE
            )
            of_last = adjust(
                share_comparison.compare_with_each(share, error, one.rows, num_groups - 1)[:-1]
            )
            differs = np.nanmin(share_comparison.compare_with_others(one)) < SIGNIFICANCE
            claims.append(
                (differs, is_highest, min(of_last) < SIGNIFICANCE, is_highest and top == 0)
            )
    return np.mean(claims, axis=0)


def test_equal_groups_do_not_differ():
    sure = measure_claims(0, 300, 20, 100, 0.05, (0.99, "both", 0.7))
    moderate = measure_claims(1, 300, 2, 100, 0.3, ("moderate", 1.0, 0.0))
    assert sure.max() < 0.03
    assert moderate.max() < 0.08  # 5% are allowed


def test_groups_that_differ_are_told():
    differs, _, _, is_first = measure_claims(
        0, 100, 20, 100, 0.05, (0.96, "both", 0.995), first=0.2
    )
    assert differs > 0.95
    assert is_first > 0.9


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("num_groups", [2, 6, 20])
def test_equal_groups_of_any_model_do_not_differ(num_groups):
    cells = list(product((30, 100), (0.05, 0.1, 0.3, 0.5), MODELS))
    found = np.array([measure_claims(at, 2000, num_groups, *cell) for at, cell in enumerate(cells)])
    for at in np.flatnonzero(found.max(axis=1) > 0.04):  # two standard errors below
        found[at] = measure_claims(1000 + at, 5000, num_groups, *cells[at])
    for name, claims in zip(("differs", "highest", "change"), found.T, strict=False):
        worst = np.argsort(-claims)[:3]
        print(num_groups, name, *(f"{claims[at]:.4f} {cells[at]}" for at in worst), sep="\n  ")
    assert found.max() <= 0.05
