"""Profiles of two corpora under one model -> how far they are apart."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sentiflow.data.schema import POSITIVE

LENGTH_EDGES = (0, 1, 3, 5, 8, 12, 16, 20, 25, 30, 40, 60)
"""Tokens at which the bins of lengths begin; the last bin is open."""
NUM_PROBABILITY_BINS = 10

LARGE_PSI = 0.25
"""By the rule of thumb of credit scoring (Siddiqi 2006): from here on another population."""
LARGE_DIFFERENCE = 0.1
"""Of two shares."""


@dataclass(frozen=True)
class Profile:
    """Counts that say what a corpus looks like to a model; those of its parts add up."""

    rows: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    """Tokens that the model does not know."""
    positive: int = 0
    """Rows that are predicted to be positive."""
    lengths: tuple[int, ...] = (0,) * len(LENGTH_EDGES)
    """Rows by their number of tokens, in the bins of ``LENGTH_EDGES``."""
    probabilities: tuple[int, ...] = (0,) * NUM_PROBABILITY_BINS
    """Rows by the probability of positive, in bins of equal width."""

    @classmethod
    def of(
        cls,
        *,
        lengths: np.ndarray,
        num_unknown: np.ndarray,
        probability: np.ndarray,
        prediction: np.ndarray,
    ) -> "Profile":
        """Count scored rows.

        Args:
            lengths: Tokens of each of N texts.
            num_unknown: Those of them that the model does not know.
            probability: Of positive, N in [0, 1].
            prediction: N labels.
        """
        by_length = np.searchsorted(LENGTH_EDGES, lengths, side="right") - 1
        by_tenth = np.minimum(probability * NUM_PROBABILITY_BINS, NUM_PROBABILITY_BINS - 1)
        return cls(
            rows=len(lengths),
            tokens=int(lengths.sum()),
            unknown_tokens=int(num_unknown.sum()),
            positive=int((prediction == POSITIVE).sum()),
            lengths=_count(by_length, len(LENGTH_EDGES)),
            probabilities=_count(by_tenth.astype(np.int64), NUM_PROBABILITY_BINS),
        )

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Profile":
        """Read what ``dataclasses.asdict`` and JSON have made of a profile."""
        counts: dict[str, Any] = {
            name: tuple(item) if isinstance(item, list) else item for name, item in value.items()
        }
        return cls(**counts)

    def __post_init__(self) -> None:
        bins = (len(self.lengths), len(self.probabilities))
        if bins != (len(LENGTH_EDGES), NUM_PROBABILITY_BINS):
            raise ValueError(f"histograms of {bins} bins")

    def __add__(self, other: "Profile") -> "Profile":
        return Profile(
            rows=self.rows + other.rows,
            tokens=self.tokens + other.tokens,
            unknown_tokens=self.unknown_tokens + other.unknown_tokens,
            positive=self.positive + other.positive,
            lengths=_add(self.lengths, other.lengths),
            probabilities=_add(self.probabilities, other.probabilities),
        )

    @property
    def figures(self) -> dict[str, float]:
        """Shares and means; of a corpus without rows there are none."""
        if not self.rows:
            return {}
        return {
            "unknown_fraction": self.unknown_tokens / self.tokens if self.tokens else 0.0,
            "mean_length": self.tokens / self.rows,
            "positive_fraction": self.positive / self.rows,
        }


def compare(profile: Profile, reference: Profile) -> dict[str, Any]:
    """Say how far a corpus is from the one that a model was made for.

    Returns:
        ``corpus`` and ``reference``, the figures of each; ``length_psi`` and ``probability_psi``,
        see :func:`population_stability_index`; and ``warnings``, a line for each large difference.
        Empty if one of them has no rows.
    """
    if not profile.rows or not reference.rows:
        return {}
    found: dict[str, Any] = {
        "corpus": profile.figures,
        "reference": reference.figures,
        "length_psi": population_stability_index(profile.lengths, reference.lengths),
        "probability_psi": population_stability_index(
            profile.probabilities, reference.probabilities
        ),
    }
    return found | {"warnings": _warn(found, profile, reference)}


def population_stability_index(counts: tuple[int, ...], reference: tuple[int, ...]) -> float:
    """Sum (p - q) ln(p / q) over the bins of two histograms.

    After Siddiqi, Credit Risk Scorecards, 2006. It is 0 for equal shares and the same both ways
    round; below 0.1 counts as stable, from 0.25 on as another population. Half a row is added
    to each bin, as an empty one would make it infinite.

    Example:
        >>> population_stability_index((50, 50), (50, 50))
        0.0
        >>> round(population_stability_index((50, 50), (90, 10)), 2)
        0.85
    """
    p, q = ((np.array(c) + 0.5) / (sum(c) + 0.5 * len(c)) for c in (counts, reference))
    return float(((p - q) * np.log(p / q)).sum())


def _noise(num_bins: int, profile: Profile, reference: Profile) -> float:
    """Give the index that chance alone rarely exceeds: twice its mean, (bins - 1)(1/n + 1/m).

    The mean after Yurdakul, Statistical Properties of Population Stability Index, 2018.
    """
    return 2 * (num_bins - 1) * (1 / profile.rows + 1 / reference.rows)


def _warn(found: dict[str, Any], profile: Profile, reference: Profile) -> list[str]:
    lines = []
    for name, what, bins in (
        ("length_psi", "length of the texts", len(LENGTH_EDGES)),
        ("probability_psi", "probabilities", NUM_PROBABILITY_BINS),
    ):
        if found[name] > LARGE_PSI + _noise(bins, profile, reference):
            lines.append(f"{what}: population stability index {found[name]:.2f}")
    spread = 2 / np.sqrt(min(profile.rows, reference.rows))  # four standard errors at most
    for name, what in (
        ("unknown_fraction", "unknown words"),
        ("positive_fraction", "predicted positive"),
    ):
        here, there = found["corpus"][name], found["reference"][name]
        if abs(here - there) > LARGE_DIFFERENCE + spread:
            lines.append(f"{what}: {here:.1%} here, {there:.1%} in training")
    return lines


def _add(counts: tuple[int, ...], others: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(a + b for a, b in zip(counts, others, strict=True))


def _count(bins: np.ndarray, num_bins: int) -> tuple[int, ...]:
    return tuple(np.bincount(bins, minlength=num_bins).tolist())
