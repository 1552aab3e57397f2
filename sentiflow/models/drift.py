"""Statistics of two corpora and their predictions by one model -> the drift between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sentiflow.data.manifest_types import merge_counts

LENGTH_EDGES = (0, 1, 3, 5, 8, 12, 16, 20, 25, 30, 40, 60)
"""Lower edges, in tokens, of the length bins; the last bin is open."""
NUM_PROBABILITY_BINS = 10

LARGE_PSI = 0.25
"""An index above this is large, see :func:`population_stability_index`."""
LARGE_DIFFERENCE = 0.1
"""A larger difference between two shares is large."""


@dataclass(frozen=True)
class Profile:
    """Counts of a corpus and its predictions by a model; profiles of parts can be added."""

    rows: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    """Tokens out of the model's vocabulary."""
    positive: int = 0
    """Rows predicted to be positive by a binary model; other models use ``predicted``."""
    lengths: tuple[int, ...] = (0,) * len(LENGTH_EDGES)
    """Rows in each length bin of ``LENGTH_EDGES``."""
    probabilities: tuple[int, ...] = (0,) * NUM_PROBABILITY_BINS
    """Rows in each of the equal bins of a probability from 0 to 1: the probability of the second of
    two classes, or of the most probable of more classes."""
    predicted: dict[str, int] = field(default_factory=dict)
    """Rows predicted to be of each class of the model, 0 too; empty for a binary model."""
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)
    """Labelled rows by label, then by prediction; pairs that do not occur are left out."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Profile":
        """Read a profile that was written by ``dataclasses.asdict`` and JSON."""
        histograms = {name: tuple(value[name]) for name in ("lengths", "probabilities")}
        return cls(**{**value, **histograms})

    def __post_init__(self) -> None:
        bins = (len(self.lengths), len(self.probabilities))
        if bins != (len(LENGTH_EDGES), NUM_PROBABILITY_BINS):
            raise ValueError(f"histograms of {bins} bins")

    def __add__(self, other: "Profile") -> "Profile":
        return Profile(**merge_counts([vars(self), vars(other)]))

    @property
    def means(self) -> dict[str, float]:
        """Shares and means; a corpus without rows has none."""
        if not self.rows:
            return {}
        means = {
            "unknown_fraction": self.unknown_tokens / self.tokens if self.tokens else 0.0,
            "mean_length": self.tokens / self.rows,
        }
        if not self.predicted:
            means["positive_fraction"] = self.positive / self.rows
        for name, rows in self.predicted.items():
            means[f"predicted_{name}"] = rows / self.rows
        return means


def compare(profile: Profile, reference: Profile) -> dict[str, Any]:
    """Measure the drift of a corpus from the validation texts of a model.

    Returns:
        A dict for the manifest of a scoring. ``corpus``, ``reference``: the :attr:`Profile.means`
        of each. ``length_psi``, ``probability_psi``: see :func:`population_stability_index`.
        ``warnings``: a line for each large difference. The dict is empty if either has no rows.
    """
    if not profile.rows or not reference.rows:
        return {}
    length_psi = population_stability_index(profile.lengths, reference.lengths)
    probability_psi = population_stability_index(profile.probabilities, reference.probabilities)
    warnings = []
    if length_psi > _large_index(profile, reference, num_bins=len(LENGTH_EDGES)):
        warnings.append(f"length of the texts: population stability index {length_psi:.2f}")
    if probability_psi > _large_index(profile, reference, num_bins=NUM_PROBABILITY_BINS):
        warnings.append(f"probabilities: population stability index {probability_psi:.2f}")
    return {
        "corpus": profile.means,
        "reference": reference.means,
        "length_psi": length_psi,
        "probability_psi": probability_psi,
        "warnings": warnings + _compare_shares(profile, reference),
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


def _compare_shares(profile: Profile, reference: Profile) -> list[str]:
    """Write a line for each share that differs by much more than chance explains."""
    titles = {"unknown_fraction": "unknown words", "positive_fraction": "predicted positive"}
    for name in profile.predicted:
        titles[f"predicted_{name}"] = f"predicted {name}"
    # Four standard errors of a share of the smaller corpus; the largest one is 0.5 / sqrt(rows).
    margin = 2 / np.sqrt(min(profile.rows, reference.rows))
    ours = profile.means
    theirs = reference.means
    lines = []
    for name, title in titles.items():
        if name not in ours or name not in theirs:
            continue
        if abs(ours[name] - theirs[name]) > LARGE_DIFFERENCE + margin:
            lines.append(f"{title}: {ours[name]:.1%} here, {theirs[name]:.1%} in validation")
    return lines


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
