"""Statistics of two corpora and their predictions by one model -> the drift between them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import special

from sentiflow.config.class_names import BINARY
from sentiflow.models.profile import LENGTH_EDGES, NUM_PROBABILITY_BINS, Profile

LARGE_PSI = 0.25
"""An index above this is large, see :func:`population_stability_index`."""
LARGE_DIFFERENCE = 0.1
"""A larger difference between two shares of unknown tokens is large."""
MIN_SHIFT = 0.03
"""A smaller difference between two shares of predictions is not told, even if it is beyond chance;
nor is a smaller fraction of texts with other probabilities."""
LEVEL = 0.04 / 52
"""Probability that one look finds a drift of predictions by chance. A weekly job looks 52 times a
year, so at most 4% of years have a false alarm (C. E. Bonferroni, 1936), however the looks depend
on each other. docs/scoring.md promises 5%, as small p-values of the chi-square test are somewhat
too small."""
_LEVEL_OF_TEST = LEVEL / 2
"""Level of each of the two tests of a look: of the classes, and of the probabilities."""
_MIN_EXPECTED = 10
"""Minimum expected rows, of either corpus, in a pool of the chi-square test."""


def compare(profile: Profile, reference: Profile) -> dict[str, Any]:
    """Measure the drift of a corpus from the validation texts of a model.

    Returns:
        A dict for the manifest of a scoring. ``corpus``, ``reference``: the :attr:`Profile.means`
        of each. ``length_psi``, ``probability_psi``: see :func:`population_stability_index`.
        ``class_p_value``, ``probability_p_value``: see :func:`compare_counts`. ``warnings``: a line
        for each large difference. The dict is empty if either has no rows.
    """
    if not profile.rows or not reference.rows:
        return {}
    length_psi = population_stability_index(profile.lengths, reference.lengths)
    probability_psi = population_stability_index(profile.probabilities, reference.probabilities)
    probability_p_value = compare_counts(profile.probabilities, reference.probabilities)
    classes_here, classes_there = _count_classes(profile, reference)
    class_p_value = compare_counts(classes_here, classes_there, ordered=False)
    warnings = []
    if length_psi > _large_index(profile, reference, num_bins=len(LENGTH_EDGES)):
        warnings.append(f"length of the texts: population stability index {length_psi:.2f}")
    if probability_psi > _large_index(profile, reference, num_bins=NUM_PROBABILITY_BINS):
        warnings.append(f"probabilities: population stability index {probability_psi:.2f}")
    elif probability_p_value < _LEVEL_OF_TEST:
        warnings += _describe_probabilities(profile, reference)
    warnings += _describe_unknown(profile, reference)
    if class_p_value < _LEVEL_OF_TEST:
        warnings += _describe_classes(profile, reference)
    return {
        "corpus": profile.means,
        "reference": reference.means,
        "length_psi": length_psi,
        "probability_psi": probability_psi,
        "class_p_value": class_p_value,
        "probability_p_value": probability_p_value,
        "warnings": warnings,
    }


def _large_index(profile: Profile, reference: Profile, *, num_bins: int) -> float:
    """Return the index above which a difference is large and not due to chance.

    By chance alone, two samples of n and m rows have an index with the mean (bins - 1)(1/n + 1/m)
    (B. Yurdakul, Statistical Properties of Population Stability Index, 2018). It is rarely above
    twice its mean, which is added to ``LARGE_PSI``.
    """
    twice_per_bin = 2 * (1 / profile.rows + 1 / reference.rows)
    by_chance = (num_bins - 1) * twice_per_bin
    return LARGE_PSI + by_chance


def _describe_unknown(profile: Profile, reference: Profile) -> list[str]:
    """Write a line if the share of unknown words differs by much more than chance explains."""
    # Four standard errors of a share of the smaller corpus; the largest one is 0.5 / sqrt(rows).
    margin = 2 / np.sqrt(min(profile.rows, reference.rows))
    ours = profile.means["unknown_fraction"]
    theirs = reference.means["unknown_fraction"]
    if abs(ours - theirs) <= LARGE_DIFFERENCE + margin:
        return []
    return [f"unknown words: {ours:.1%} here, {theirs:.1%} in validation"]


def _count_classes(profile: Profile, reference: Profile) -> tuple[list[int], list[int]]:
    """Count the rows of both by predicted class, in the same order."""
    ours = profile.of_classes
    theirs = reference.of_classes
    return list(ours.values()), [theirs.get(name, 0) for name in ours]


def _describe_classes(profile: Profile, reference: Profile) -> list[str]:
    """Write a line for each class whose share of the predictions differs by ``MIN_SHIFT``.

    Of negative and positive, only positive is named.
    """
    theirs = reference.of_classes
    lines = []
    for name, rows in profile.of_classes.items():
        is_named = bool(profile.predicted) or name == BINARY[1]
        here = rows / profile.rows
        there = theirs.get(name, 0) / reference.rows
        if is_named and abs(here - there) >= MIN_SHIFT:
            lines.append(f"predicted {name}: {here:.1%} here, {there:.1%} in validation")
    return lines


def _describe_probabilities(profile: Profile, reference: Profile) -> list[str]:
    """Write a line if ``MIN_SHIFT`` of the texts have other probabilities."""
    ours = np.array(profile.probabilities) / profile.rows
    theirs = np.array(reference.probabilities) / reference.rows
    moved = float(np.abs(ours - theirs).sum() / 2)  # the total variation distance
    if moved < MIN_SHIFT:
        return []
    return [f"probabilities: other than in validation for {moved:.1%} of the texts"]


def compare_counts(
    counts: Sequence[int], reference: Sequence[int], *, ordered: bool = True
) -> float:
    """Test whether two corpora have the same shares of K categories; return the p-value.

    The chi-square test of homogeneity (K. Pearson, Biometrika 8, 1911): both corpora are samples,
    so a small reference alone makes no drift. Neighboring categories are pooled until
    ``_MIN_EXPECTED`` rows of the smaller corpus are expected. The p-value is 1 if a corpus has no
    rows, or if all categories are in one pool.

    Args:
        counts: Rows of a corpus by category.
        reference: Rows of the other corpus.
        ordered: Whether neighbors are alike. If not, categories are sorted by their rows first.

    Example:
        40 of 100 against 55 of 100: chi-square is 4 · 7.5² / 100 / (0.475 · 0.525) · 2 / 2 = 4.51.

        >>> round(compare_counts((40, 60), (55, 45)), 4)
        0.0337
    """
    both = np.array([counts, reference], dtype=np.float64)
    if not ordered:
        both = both[:, np.argsort(-both.sum(axis=0), kind="stable")]
    rows = both.sum(axis=1, keepdims=True)
    if not rows.all():
        return 1.0
    expected_of_smaller = both.sum(axis=0) / rows.sum() * rows.min()
    pools = _pool(expected_of_smaller)
    pooled = np.stack([np.bincount(pools, each) for each in both])
    expected = pooled.sum(axis=0) / rows.sum() * rows
    if pooled.shape[1] < 2:
        return 1.0
    chi_square = ((pooled - expected) ** 2 / expected).sum()
    return float(special.chdtrc(pooled.shape[1] - 1, chi_square))


def _pool(expected: np.ndarray) -> np.ndarray:
    """Number the pool of each category. Each pool has ``_MIN_EXPECTED`` rows or is the only one."""
    pools = []
    number = 0
    in_pool = 0.0
    left = float(expected.sum())
    for rows in expected.tolist():
        if in_pool >= _MIN_EXPECTED and left >= _MIN_EXPECTED:
            number += 1
            in_pool = 0.0
        pools.append(number)
        in_pool += rows
        left -= rows
    return np.array(pools)


def population_stability_index(counts: tuple[int, ...], reference: tuple[int, ...]) -> float:
    """Sum (p - q) ln(p / q) over the bins of two histograms.

    p and q are the shares of a bin (N. Siddiqi, Credit Risk Scorecards, 2006). The index is
    symmetric, and 0 for equal shares. By the rule of thumb, below 0.1 a population has not changed,
    and from 0.25 on it has changed much. Half a row is added to each bin, because an empty bin
    would make the index infinite.

    Example:
        >>> population_stability_index((50, 50), (50, 50))
        0.0
        >>> round(population_stability_index((50, 50), (90, 10)), 2)
        0.85
    """
    p = _smooth(counts)
    q = _smooth(reference)
    return float(((p - q) * np.log(p / q)).sum())


def _smooth(counts: tuple[int, ...]) -> np.ndarray:
    """Compute the share of each bin, with half a row added to it."""
    return (np.array(counts) + 0.5) / (sum(counts) + 0.5 * len(counts))
