import numpy as np
import pytest

from sentiflow.metrics import sampling


def test_rows_are_drawn_with_their_chances():
    rng = np.random.default_rng(0)
    chance = np.repeat([0.05, 0.1, 0.5, 1.0], [40, 40, 8, 4])
    size = round(chance.sum())
    drawn = np.zeros(len(chance))
    for _ in range(4000):
        drawn[np.argsort(sampling.rank_rows(chance, rng.integers(1 << 62, size=92)))[:size]] += 1
    np.testing.assert_allclose(drawn / 4000, chance, atol=0.03)
    assert drawn[-4:].tolist() == [4000] * 4


def test_rows_in_a_row_have_random_numbers_of_their_own():
    rank = sampling.rank_rows(np.full(100_000, 0.5), np.arange(100_000))
    uniform = rank / (1 + rank)  # as the chance is a half
    np.testing.assert_allclose(np.histogram(uniform, 10, (0, 1))[0], 10_000, atol=400)
    assert abs(np.corrcoef(uniform[1:], uniform[:-1])[0, 1]) < 0.01


def draw_predictions(rng, num_rows, num_classes):
    probabilities = rng.dirichlet(np.full(num_classes, 0.3), num_rows)
    return probabilities.argmax(axis=1), probabilities


@pytest.mark.parametrize(("num_classes", "size"), [(2, 30), (2, 300), (3, 1000), (77, 300)])
def test_a_random_sample_is_found_random(num_classes, size):
    rng = np.random.default_rng(0)
    predicted = draw_predictions(rng, 5000, num_classes)
    population = sampling.count_cells(*predicted, np.ones(5000))
    p_values = []
    for _ in range(1000):
        weight = np.zeros(5000)
        weight[rng.choice(5000, size, replace=False)] = 1
        p_values.append(
            sampling.check_randomness(
                population, sampling.count_cells(*predicted, weight), size
            ).min()
        )
    assert np.mean(np.array(p_values) < 0.01) <= 0.02
    assert np.mean(np.array(p_values) < 0.2) > 0.05


def test_a_chosen_sample_is_found():
    rng = np.random.default_rng(1)
    prediction, probabilities = draw_predictions(rng, 5000, 3)
    population = sampling.count_cells(prediction, probabilities, np.ones(5000))
    is_random = rng.random(5000) < 0.05
    sure, first = probabilities.max(axis=1) > 0.9, (prediction == 0) | (rng.random(5000) < 0.5)
    for chosen, place in ((sure, 1), (first, 0)):
        weight = (is_random & chosen) * 1.0
        sample = sampling.count_cells(prediction, probabilities, weight)
        assert sampling.check_randomness(population, sample, weight.sum())[place] < 0.001
