import numpy as np

from sentiflow.metrics import drawing


def test_rows_are_drawn_with_their_chances():
    rng = np.random.default_rng(0)
    chance = np.repeat([0.05, 0.1, 0.5, 1.0], [40, 40, 8, 4])
    size = round(chance.sum())
    drawn = np.zeros(len(chance))
    for _ in range(4000):
        odds = drawing.find_odds(rng.integers(1 << 62, size=92))
        drawn[np.argsort(drawing.rank_odds(chance, odds))[:size]] += 1
    np.testing.assert_allclose(drawn / 4000, chance, atol=0.03)
    assert drawn[-4:].tolist() == [4000] * 4


def test_rows_in_a_row_have_random_numbers_of_their_own():
    rank = drawing.rank_odds(np.full(100_000, 0.5), drawing.find_odds(np.arange(100_000)))
    uniform = rank / (1 + rank)  # as the chance is a half
    np.testing.assert_allclose(np.histogram(uniform, 10, (0, 1))[0], 10_000, atol=400)
    assert abs(np.corrcoef(uniform[1:], uniform[:-1])[0, 1]) < 0.01
