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
"""Populations differ from this index on, by a rule of thumb of credit scoring (Siddiqi 2006)."""
LARGE_DIFFERENCE = 0.1
"""Shares that differ by more differ much."""


@dataclass(frozen=True)
class Profile:
    """Counts of a corpus and its predictions by a model; profiles of parts can be added."""

    rows: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    """Tokens out of the model's vocabulary."""
    positive: int = 0
    """Rows predicted to be positive by a model of negative and positive."""
    lengths: tuple[int, ...] = (0,) * len(LENGTH_EDGES)
    """Rows in each length bin of ``LENGTH_EDGES``."""
    probabilities: tuple[int, ...] = (0,) * NUM_PROBABILITY_BINS
    """Rows in each bin of equal width of a probability: with two classes, of the second class; with
    more, of the most probable class."""
    predicted: dict[str, int] = field(default_factory=dict)
    """Rows predicted to be of each class; empty for a model of negative and positive."""
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
        For the manifest of a scoring: ``corpus`` and ``reference``, the :attr:`Profile.means` of
        both; ``length_psi`` and ``probability_psi``, see :func:`population_stability_index`; and
        ``warnings``, a line for each large difference. Empty if the corpus or the reference has no
        rows.
    """
    if not profile.rows or not reference.rows:
        return {}
    length = population_stability_index(profile.lengths, reference.lengths)
    probability = population_stability_index(profile.probabilities, reference.probabilities)
    warnings = []
    if length > _large_index(profile, reference, num_bins=len(LENGTH_EDGES)):
        warnings.append(f"length of the texts: population stability index {length:.2f}")
    if probability > _large_index(profile, reference, num_bins=NUM_PROBABILITY_BINS):
        warnings.append(f"probabilities: population stability index {probability:.2f}")
    return {
        "corpus": profile.means,
        "reference": reference.means,
        "length_psi": length,
        "probability_psi": probability,
        "warnings": warnings + _compare_shares(profile, reference),
    }


def _large_index(profile: Profile, reference: Profile, *, num_bins: int) -> float:
    """Return the index above which chance does not explain a difference.

    By chance alone, two samples of n and m rows have an index with the mean (bins - 1)(1/n + 1/m)
    (B. Yurdakul, Statistical Properties of Population Stability Index, 2018). It is rarely above
    twice its mean.
    """
    chance = 2 * (1 / profile.rows + 1 / reference.rows)
    return LARGE_PSI + (num_bins - 1) * chance


def _compare_shares(profile: Profile, reference: Profile) -> list[str]:
    """Write a line for each share that differs by much more than chance explains."""
    titles = {"unknown_fraction": "unknown words", "positive_fraction": "predicted positive"}
    for name in profile.predicted:
        titles[f"predicted_{name}"] = f"predicted {name}"
    # Four times the largest possible standard error of a share of the smaller corpus.
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

    With p and q the shares of a bin (N. Siddiqi, Credit Risk Scorecards, 2006). The index is
    symmetric, and 0 for equal shares. By the rule of thumb, a population is stable below 0.1, and
    another one from 0.25 on. Half a row is added to each bin, because an empty bin would make the
    index infinite.

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
