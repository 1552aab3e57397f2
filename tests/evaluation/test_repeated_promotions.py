"""Many equal models on the same test rows: the champion stays, and its figure is not too good.

The large simulation is marked ``soak``::

    pytest -m soak -s tests/evaluation/test_repeated_promotions.py
"""

from itertools import product

import numpy as np
import pytest
from scipy.special import bdtr

from sentiflow.evaluation import promotion
from sentiflow.metrics.selection import selection_bias

NUM_MODELS = 20


def draw_right(rng, num_rows, accuracy, kind):
    """Draw which rows each of 21 equal models gets right, ``(models, rows)``.

    ``alike``: some rows are hard for all. ``independent``: each model has its own mistakes.
    ``copies``: each candidate differs from the champion in its own few rows.
    """
    shape = (NUM_MODELS + 1, num_rows)
    if kind == "copies":
        champion = rng.random(num_rows) < accuracy
        is_flipped = rng.random(shape) < np.where(champion, 0.05, 0.05 * accuracy / (1 - accuracy))
        is_flipped[0] = False
        return champion ^ is_flipped
    chance = np.full(num_rows, accuracy)
    if kind == "alike":
        chance = rng.beta(accuracy, 1 - accuracy, num_rows)
    return rng.random(shape) < chance


def promote_all(right, *, is_spent):
    """Return whether the champion was ever replaced, and the last champion's measured accuracy.

    ``is_spent``: whether the limit falls with each comparison, as ``promote`` has it.
    """
    champion = 0
    replaced = False
    for number in range(1, len(right)):
        gained = int((right[number] & ~right[champion]).sum())
        lost = int((right[champion] & ~right[number]).sum())
        p_value = min(1.0, 2 * bdtr(min(gained, lost), gained + lost, 0.5))
        limit = promotion.find_limit(number if is_spent else 1)
        if gained > lost and p_value <= limit:
            champion = number
            replaced = True
    return replaced, right[champion].mean()


def measure(seed, num_draws, num_rows, accuracy, kind):
    """Return how often the champion is replaced, now and without spending; too high accuracies."""
    rng = np.random.default_rng(seed)
    now = []
    before = []
    best = []
    told = []
    for _ in range(num_draws):
        right = draw_right(rng, num_rows, accuracy, kind)
        now.append(promote_all(right, is_spent=True))
        before.append(promote_all(right, is_spent=False))
        best.append(right.mean(axis=1).max())
        apart = (right[0] != right[1]).mean()
        told.append(selection_bias(len(right), disagreement=apart, num_rows=num_rows))
    replaced, reached = np.mean(now, axis=0)
    replaced_before, reached_before = np.mean(before, axis=0)
    return {
        "replaced": replaced,
        "replaced without spending": replaced_before,
        "champion too good": reached - accuracy,
        "champion too good without spending": reached_before - accuracy,
        "best too good": np.mean(best) - accuracy,
        "told": np.mean(told),
    }


def test_limits_sum_to_less_than_a_twentieth():
    limits = [promotion.find_limit(number) / 2 for number in range(1, 10_000)]
    assert limits[0] == 0.025
    assert sum(limits) < 0.042


def test_equal_models_seldom_replace_the_champion():
    found = measure(0, 100, 500, 0.8, "independent")
    assert found["replaced"] <= 0.08  # 4.2% at most, in 100 draws
    assert found["replaced without spending"] > 0.1
    assert found["best too good"] == pytest.approx(found["told"], abs=0.005)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_equal_models_seldom_replace_the_champion_of_any_size():
    cells = list(product((300, 2000), (0.8, 0.95), ("alike", "independent", "copies")))
    for number, cell in enumerate(cells):
        found = measure(number, 2000, *cell)
        print(
            *cell, *(f"{name} {value:.4f}" for name, value in found.items()), sep=", ", flush=True
        )
        assert found["replaced"] <= 0.042
        if cell[2] != "copies":  # models that are alike
            assert found["told"] == pytest.approx(found["best too good"], rel=0.1)
