import numpy as np

from sentiflow.metrics import look_boundaries


def test_the_boundary_keeps_its_level_for_any_labels_of_periods():
    """5% of Brownian motions other than those that it was found by, in all looks together."""
    rng = np.random.default_rng(1)
    labels = np.concatenate([[31.0], rng.uniform(1, 40, 60)]).cumsum()
    boundaries = look_boundaries.find_boundaries(tuple(labels.tolist()))
    steps = np.sqrt(np.diff(labels, prepend=0))
    paths = (rng.standard_normal((4000, len(labels))) * steps).cumsum(axis=1)
    is_beyond = np.zeros(4000, bool)
    for number, size in enumerate(labels):
        part = labels[labels <= size - look_boundaries.MIN_LABELS] / size
        gap = paths[:, : len(part)] - part * paths[:, [number]]
        z = np.abs(gap) / np.sqrt(size * part * (1 - part))
        is_beyond |= (z > boundaries[number]).any(axis=1)
    spent = look_boundaries.SPENT * look_boundaries.spend(labels[-1])
    assert abs(is_beyond.mean() - spent) < 0.011  # three standard errors
