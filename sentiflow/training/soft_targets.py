"""Soft targets of ordered classes: part of a label's weight goes to the neighboring classes.

A text with 4 stars could as well have got 3 or 5. A network or a linear model that learns this
errs less far, and its probabilities are better.
"""

import numpy as np

from sentiflow.config.train_sections import NeighborWeight
from sentiflow.training.learned_classes import LearnedClasses

_AUTO = 0.15
"""``train.neighbor_weight: auto`` for ordered classes."""


def list_weights(setting: NeighborWeight, learned: LearnedClasses) -> tuple[float, ...]:
    """List the weights of a neighboring class to train with, by ``train.neighbor_weight``.

    A linear model is fitted with each of them, and rows that it has not seen choose one. The
    network is trained with the last one.
    """
    if setting != "auto":
        return (setting,)
    if learned.values is None:
        return (0.0,)
    return (0.0, _AUTO)


def make_matrix(num_classes: int, neighbor_weight: float) -> np.ndarray:
    """Return the target of a text with each label, ``(C, C)`` float32; each row sums to 1.

    Example:
        >>> make_matrix(3, 0.25).tolist()
        [[0.75, 0.25, 0.0], [0.25, 0.5, 0.25], [0.0, 0.25, 0.75]]
    """
    matrix = np.zeros((num_classes, num_classes))
    matrix += np.diag(np.full(num_classes - 1, neighbor_weight), 1)
    matrix += np.diag(np.full(num_classes - 1, neighbor_weight), -1)
    matrix += np.diag(1 - matrix.sum(axis=1))
    return matrix.astype(np.float32)
