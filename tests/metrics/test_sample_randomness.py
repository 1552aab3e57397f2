import numpy as np
import pytest

from sentiflow.metrics import sample_randomness


def draw_predictions(rng, num_rows, num_classes):
    probabilities = rng.dirichlet(np.full(num_classes, 0.3), num_rows)
    return probabilities.argmax(axis=1), probabilities


@pytest.mark.parametrize(("num_classes", "size"), [(2, 30), (2, 300), (3, 1000), (77, 300)])
def test_a_random_sample_is_found_random(num_classes, size):
    rng = np.random.default_rng(0)
    predicted = draw_predictions(rng, 5000, num_classes)
    population = sample_randomness.count_bins(*predicted, np.ones(5000))
    p_values = []
    for _ in range(1000):
        weight = np.zeros(5000)
        weight[rng.choice(5000, size, replace=False)] = 1
        p_values.append(
            sample_randomness.check_randomness(
                population, sample_randomness.count_bins(*predicted, weight), size
            ).min()
        )
    assert np.mean(np.array(p_values) < 0.01) <= 0.02
    assert np.mean(np.array(p_values) < 0.2) > 0.05


def test_a_chosen_sample_is_found():
    rng = np.random.default_rng(1)
    prediction, probabilities = draw_predictions(rng, 5000, 3)
    population = sample_randomness.count_bins(prediction, probabilities, np.ones(5000))
    is_random = rng.random(5000) < 0.05
    sure, first = probabilities.max(axis=1) > 0.9, (prediction == 0) | (rng.random(5000) < 0.5)
    for chosen, place in ((sure, 1), (first, 0)):
        weight = (is_random & chosen) * 1.0
        sample = sample_randomness.count_bins(prediction, probabilities, weight)
        assert sample_randomness.check_randomness(population, sample, weight.sum())[place] < 0.001
