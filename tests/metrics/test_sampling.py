import numpy as np

from sentiflow.metrics import sampling


def test_uncertain_rows_are_drawn_more_often_and_sure_ones_too():
    weights = sampling.choose_weights(np.array([[0.5, 0.5], [0.99, 0.01], [1, 0]]))
    assert weights[0] > weights[1] > weights[2] > 0.2


def test_rows_are_drawn_with_their_chances():
    rng = np.random.default_rng(0)
    chance = np.repeat([0.05, 0.1, 0.5, 1.0], [40, 40, 8, 4])
    size = round(chance.sum())
    drawn = np.zeros(len(chance))
    for _ in range(4000):
        drawn[np.argsort(sampling.rank_rows(chance, rng.random(len(chance))))[:size]] += 1
    np.testing.assert_allclose(drawn / 4000, chance, atol=0.03)
    assert drawn[-4:].tolist() == [4000] * 4
