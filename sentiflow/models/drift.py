"""Profiles of two corpora under one model -> drift between them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sentiflow.data.manifest_types import merge_counts

LENGTH_EDGES = (0, 1, 3, 5, 8, 12, 16, 20, 25, 30, 40, 60)
"""Lower edges, in tokens, of the length bins; the last bin is open."""
NUM_PROBABILITY_BINS = 10

LARGE_PSI = 0.25
"""From here on populations differ, by a rule of thumb of credit scoring (Siddiqi 2006)."""
LARGE_DIFFERENCE = 0.1
"""A large difference between two shares."""


@dataclass(frozen=True)
class Profile:
    """Counts that describe a corpus as a model sees it; profiles of parts can be added."""

    rows: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    """Tokens out of the model's vocabulary."""
    positive: int = 0
    """Rows predicted to be positive by a model of negative and positive."""
    lengths: tuple[int, ...] = (0,) * len(LENGTH_EDGES)
    """Rows in each length bin of ``LENGTH_EDGES``."""
    probabilities: tuple[int, ...] = (0,) * NUM_PROBABILITY_BINS
    """Rows in each bin of the probability of the second of two classes, or of the most probable of
    more; the bins have equal width."""
    predicted: dict[str, int] = field(default_factory=dict)
    """Rows predicted to be of each class by a model of other classes; else empty."""
    confusion: dict[str, dict[str, int]] = field(default_factory=dict)
    """Labelled rows by label, then by prediction; without pairs that do not occur."""

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
        predicted = {"positive_fraction": self.positive / self.rows}
        if self.predicted:
            predicted = {f"predicted_{n}": rows / self.rows for n, rows in self.predicted.items()}
        return {
            "unknown_fraction": self.unknown_tokens / self.tokens if self.tokens else 0.0,
            "mean_length": self.tokens / self.rows,
            **predicted,
        }


def compare(profile: Profile, reference: Profile) -> dict[str, Any]:
    """Measure the drift of a corpus from the held-out texts of a model.

    Returns:
        As the manifest of a scoring has it: ``corpus`` and ``reference``, the :attr:`Profile.means`
        of both; ``length_psi`` and ``probability_psi``, see :func:`population_stability_index`;
        and ``warnings``, a line for each large difference. Empty if one of them has no rows.
    """
    if not profile.rows or not reference.rows:
        return {}
    length = population_stability_index(profile.lengths, reference.lengths)
    probability = population_stability_index(profile.probabilities, reference.probabilities)
    # Chance alone rarely exceeds twice the mean of an index, (bins - 1)(1/n + 1/m), which is from
    # Yurdakul, Statistical Properties of Population Stability Index, 2018.
    chance = 2 * (1 / profile.rows + 1 / reference.rows)
    indexes = {"length of the texts": length, "probabilities": probability}
    bins = len(LENGTH_EDGES), NUM_PROBABILITY_BINS
    lines = [
        f"{what}: population stability index {index:.2f}"
        for (what, index), number in zip(indexes.items(), bins, strict=True)
        if index > LARGE_PSI + (number - 1) * chance
    ]
    margin = 2 / np.sqrt(min(profile.rows, reference.rows))  # four standard errors at most
    names = {
        "unknown_fraction": "unknown words",
        "positive_fraction": "predicted positive",
        **{f"predicted_{name}": f"predicted {name}" for name in profile.predicted},
    }
    ours, theirs = profile.means, reference.means
    lines += [
        f"{what}: {ours[name]:.1%} here, {theirs[name]:.1%} in validation"
        for name, what in names.items()
        if name in ours.keys() & theirs.keys()
        and abs(ours[name] - theirs[name]) > LARGE_DIFFERENCE + margin
    ]
    return {
        "corpus": ours,
        "reference": theirs,
        "length_psi": length,
        "probability_psi": probability,
        "warnings": lines,
    }


def population_stability_index(counts: tuple[int, ...], reference: tuple[int, ...]) -> float:
    """Sum (p - q) ln(p / q) over the bins of two histograms.

    After Siddiqi, Credit Risk Scorecards, 2006. The index is symmetric, and 0 for equal shares.
    Below 0.1 counts as stable, from 0.25 on as another population. Half a row is added to each bin,
    because an empty bin would make the index infinite.

    Example:
        >>> population_stability_index((50, 50), (50, 50))
        0.0
        >>> round(population_stability_index((50, 50), (90, 10)), 2)
        0.85
    """
    p, q = ((np.array(c) + 0.5) / (sum(c) + 0.5 * len(c)) for c in (counts, reference))
    return float(((p - q) * np.log(p / q)).sum())
