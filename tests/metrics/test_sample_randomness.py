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


def test_random_labels_are_hardly_ever_uneven():
    rng = np.random.default_rng(0)
    for num_groups, rows, part in (
        (7, 300, 0.3),
        (60, 100, 0.12),
        (1000, 40, 0.3),
        (2, 5000, 0.01),
    ):
        population = np.full(num_groups, rows)
        found = [
            sample_randomness.find_uneven_parts(population, rng.binomial(rows, part, num_groups))
            for _ in range(500)
        ]
        assert sum(each is not None for each in found) <= 2, (num_groups, rows, part)


def test_parts_are_uneven_only_where_many_rows_differ_by_a_factor():
    def find(population, sample):
        return sample_randomness.find_uneven_parts(np.array(population), np.array(sample))

    of_months = find([300, 300, 300, 300, 300, 300, 300], [225, 228, 224, 225, 36, 36, 30])
    assert (of_months.most, of_months.least) == (1, 6)
    assert find([30_000, 30_000], [3000, 5900]) is None  # beyond chance, but no factor of 2
    assert find([29, 300], [29, 30]) is None  # few texts
    assert find([3000, 3000], [6, 1]) is None  # few labels
    assert find([300, 300], [300, 300]) is None
    assert find([300, 300], [0, 0]) is None
    assert find([300, 300], [300, 0]).part_of_least == 0


def test_labels_of_whole_authors_are_less_evidence_that_parts_are_uneven():
    population = np.array([400, 400])
    sample = np.array([120, 50])
    assert sample_randomness.find_uneven_parts(population, sample) is not None
    assert sample_randomness.find_uneven_parts(population, sample, design_effect=20) is None


@pytest.mark.soak
@pytest.mark.parametrize(
    ("num_groups", "rows", "part"),
    [
        (2, 2000, 0.005),
        (2, 2000, 0.5),
        (7, 300, 0.12),
        (7, 300, 0.75),
        (12, 1000, 0.02),
        (60, 100, 0.12),
        (250, 100, 0.3),
        (1000, 40, 0.3),
    ],
)
def test_how_often_random_labels_are_uneven(num_groups, rows, part):
    rng = np.random.default_rng(1)
    population = np.full(num_groups, rows)
    found = 0
    for _ in range(2000):
        sample = rng.binomial(rows, part, num_groups)
        found += sample_randomness.find_uneven_parts(population, sample) is not None
    print(f"\n{num_groups} groups of {rows} texts, {part:.1%} labelled: {found / 2000:.2%}")
    assert found <= 6, "0.1%, and three standard errors"


@pytest.mark.soak
@pytest.mark.parametrize(
    ("rows", "parts"), [(300, [0.75] * 4 + [0.12] * 3), (150, [0.2] * 4 + [0.08] * 3)]
)
def test_how_often_uneven_labels_are_told(rows, parts):
    rng = np.random.default_rng(1)
    population = np.full(len(parts), rows)
    told = 0
    for _ in range(2000):
        told += (
            sample_randomness.find_uneven_parts(population, rng.binomial(rows, parts)) is not None
        )
    print(f"\n{rows} texts a month, parts {parts}: told in {told / 2000:.1%}")
    assert told > 1000
