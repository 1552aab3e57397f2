"""Counts of a corpus and its predictions, by which two corpora are compared."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sentiflow.config.class_names import BINARY
from sentiflow.data.merged_counts import merge_counts

LENGTH_EDGES = (0, 1, 3, 5, 8, 12, 16, 20, 25, 30, 40, 60)
"""Lower edges, in tokens, of the length bins; the last bin is open."""
NUM_PROBABILITY_BINS = 10


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
    def of_classes(self) -> dict[str, int]:
        """Rows predicted to be of each class; of a binary model, negative and positive."""
        if self.predicted:
            return self.predicted
        negative, positive = BINARY
        return {negative: self.rows - self.positive, positive: self.positive}

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
