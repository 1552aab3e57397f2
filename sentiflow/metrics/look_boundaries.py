"""Numbers of labels -> the looks that count, and the boundary of |z| at each of them.

Somebody looks at a test again and again, and may claim a result at any look. The boundaries keep
the probability of any false claim at ``LEVEL``, however long the looks go on.

They spend the level by number of labels (K. K. G. Lan and D. L. DeMets, "Discrete sequential
boundaries for clinical trials", Biometrika 70, 1983, with labels as information): of N labels, the
fraction ``spend`` of the level may have been used. The boundaries that do this come from a
simulation of Brownian motion at the numbers of labels (``find_boundaries``), with the same seed
each time. Like an asymptotic confidence sequence (I. Waudby-Smith et al., "Time-uniform central
limit theory and asymptotic confidence sequences", Annals of Statistics 52, 2024) they rely on means
of ``MIN_LABELS`` labels and more being nearly normal.
"""

from functools import lru_cache

import numpy as np

LEVEL = 0.05
"""Probability of any false claim: at any look, of any class."""
SPENT = 0.9 * LEVEL
"""The part of it that the boundaries spend. The rest is for estimated variances and for means that
are not quite normal."""
MIN_LABELS = 30
"""A change needs this many labels before it and after it."""
_GROWTH = 1.03
"""A look counts if there are this many times the labels of the last look that counted."""
_NUM_PATHS = 20_000
"""Brownian motions by which the boundaries are found."""
_FOCUS_PART = 0.8
"""Part of the level for the class that the page is about, or for the mean of ordered classes; the
other classes share the rest."""


def list_looks(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List the looks that count: the labels have grown enough since the last one.

    Args:
        labels: Labels of each of K periods.

    Returns:
        The period of each look, and the labels up to it. The first has ``MIN_LABELS``, and each
        next one ``_GROWTH`` times the labels of the last one.
    """
    total = labels.cumsum()
    ends = []
    needed = float(MIN_LABELS)
    for number, so_far in enumerate(total.tolist()):
        if so_far >= needed:
            ends.append(number)
            needed = so_far * _GROWTH
    at = np.array(ends, np.int64)
    return at, total[at]


def spend(labels: np.ndarray) -> np.ndarray:
    """Return the fraction of the level that may be used up to some numbers of labels.

    With j the doublings of twice ``MIN_LABELS``, j⁴ / (j⁴ + 10): half of it by 206 labels. It never
    reaches 1, so a look at any later time has a level of its own.

    Example:
        >>> spend(np.array([60, 206, 300, 1560, 100_000])).round(3).tolist()
        [0.0, 0.501, 0.744, 0.98, 0.999]
    """
    doublings = np.log2(np.maximum(labels / (2 * MIN_LABELS), 1))
    return np.asarray(doublings**4 / (doublings**4 + 10))


def count_before(labels: np.ndarray, look: int) -> int:
    """Count the earlier looks with ``MIN_LABELS`` labels since: a change may be after each of them.

    Args:
        labels: Labels up to each look, ascending.
        look: Position of the look.

    Example:
        >>> count_before(np.array([30.0, 40.0, 60.0, 80.0]), 3)
        2
    """
    return int(np.searchsorted(labels, labels[look] - MIN_LABELS, side="right"))


@lru_cache(maxsize=16)
def find_boundaries(labels: tuple[float, ...]) -> np.ndarray:
    """Find the boundary of |z| at each of some looks, for one test of the level ``SPENT``.

    At each look as many paths cross as the level allows that is spent up to it. The paths are
    drawn look by look, so a later look does not change the boundaries of earlier ones.

    Args:
        labels: Labels up to each look, ascending; a change may be after each look but the last.

    Returns:
        A boundary for each look; infinite where no change can be claimed.

    Example:
        52 weeks of 6 labels: the first change can be claimed in week 13.

        >>> boundaries = find_boundaries(tuple(6.0 * week for week in range(5, 53)))
        >>> int(np.isfinite(boundaries).argmax()) + 5, bool(3.3 < boundaries[30] < 3.6)
        (13, True)
    """
    random = np.random.default_rng(0)
    total = np.array(labels)
    step = np.sqrt(np.diff(total, prepend=0.0))
    allowed = (SPENT * _NUM_PATHS * spend(total)).astype(np.int64)
    paths = np.zeros((len(total), _NUM_PATHS), np.float32)
    path = np.zeros(_NUM_PATHS)
    is_left = np.ones(_NUM_PATHS, bool)
    boundaries = np.full(len(total), np.inf)
    for look, size in enumerate(total):
        path = path + step[look] * random.standard_normal(_NUM_PATHS)
        paths[look] = path
        num_before = count_before(total, look)
        num_crossing = allowed[look] - (_NUM_PATHS - is_left.sum())
        if num_before == 0 or num_crossing <= 0:
            continue
        largest = _find_largest(paths[:num_before], path, total[:num_before], size)
        boundaries[look] = np.sort(largest[is_left])[-num_crossing - 1]
        is_left &= largest <= boundaries[look]
    return boundaries


def _find_largest(
    before: np.ndarray, path: np.ndarray, labels_before: np.ndarray, labels: float
) -> np.ndarray:
    """Return the largest |z| of each of P paths over the S possible changes.

    Args:
        before: ``(S, P)``, the paths at the changes.
        path: ``(P,)``, the paths at the look.
        labels_before: ``(S,)``, labels at the changes.
        labels: Labels at the look.
    """
    largest = np.zeros(before.shape[1], np.float32)
    for at_change, number in zip(before, labels_before, strict=True):
        fraction = number / labels
        scale = 1 / np.sqrt(labels * fraction * (1 - fraction))
        gap = at_change - np.float32(fraction) * path.astype(np.float32)
        np.maximum(largest, np.float32(scale) * np.abs(gap), out=largest)
    return largest


def divide_level(num_classes: int, focus: int) -> np.ndarray:
    """Divide the level among the tests of C classes: the part of each, ``(C,)``.

    Two classes are one test, because their shares add up to 1. Of more classes, the focus has
    ``_FOCUS_PART`` of the level, and the others share the rest.
    """
    if num_classes <= 2:
        return np.ones(num_classes)
    part = np.full(num_classes, (1 - _FOCUS_PART) / (num_classes - 1))
    part[focus] = _FOCUS_PART
    return part


def divide_level_with_mean(num_classes: int) -> np.ndarray:
    """Divide the level among the tests of C ordered classes and of their mean, the last one.

    The mean takes the place of the focus. The mean of two classes tells the same as their shares.
    """
    if num_classes <= 2:
        return np.ones(num_classes + 1)
    return divide_level(num_classes + 1, focus=num_classes)


def raise_for_parts(boundaries: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Raise the boundaries of looks for tests that have a part of the level: ``(looks, C)``.

    For a part f of the level, 2.5 ln(1 / f) is added to the square of the boundary. Tails of a
    normal distribution would need 2 ln(1 / f), and the largest of many |z| has a somewhat longer
    tail.
    """
    return np.asarray(np.sqrt(boundaries[:, None] ** 2 - 2.5 * np.log(part)))
