"""Profiles of two corpora under one model -> drift between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict

import numpy as np

from sentiflow.data.manifest_types import merge_counts
from sentiflow.data.schema import BINARY

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
    def of(
        cls,
        *,
        lengths: np.ndarray,
        num_unknown: np.ndarray,
        probabilities: np.ndarray,
        prediction: np.ndarray,
        classes: tuple[str, ...] = BINARY,
        label: np.ndarray | None = None,
        names: Sequence[str] = (),
    ) -> "Profile":
        """Count scored rows.

        Args:
            lengths: Tokens of each of N texts.
            num_unknown: Tokens of each text that are out of the vocabulary.
            probabilities: (N, C) probabilities.
            prediction: N positions in ``classes``.
            classes: Names of the C classes.
            label: N positions in ``names``; others stand for no label.
            names: Names of the labels, first those of the C classes.
        """
        probability = probabilities[:, 1] if len(classes) == 2 else probabilities.max(axis=1)
        predicted = np.bincount(prediction, minlength=len(classes)).tolist()
        is_binary = classes == BINARY
        by_length = np.searchsorted(LENGTH_EDGES, lengths, side="right") - 1
        by_tenth = np.minimum(probability * NUM_PROBABILITY_BINS, NUM_PROBABILITY_BINS - 1)
        return cls(
            rows=len(lengths),
            tokens=int(lengths.sum()),
            unknown_tokens=int(num_unknown.sum()),
            positive=predicted[1] if is_binary else 0,
            lengths=_count(by_length, len(LENGTH_EDGES)),
            probabilities=_count(by_tenth.astype(np.int64), NUM_PROBABILITY_BINS),
            predicted={} if is_binary else dict(zip(classes, predicted, strict=True)),
            confusion={} if label is None else _cross(label, prediction, names),
        )

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


class Drift(TypedDict, total=False):
    """The drift between a corpus and the validation rows of a model, as a manifest has it."""

    corpus: dict[str, float]
    """:attr:`Profile.means` of the corpus."""
    reference: dict[str, float]
    """:attr:`Profile.means` of the validation rows."""
    length_psi: float
    """:func:`population_stability_index` of the lengths."""
    probability_psi: float
    """The same of the probabilities."""
    warnings: list[str]
    """A line for each large difference."""


def compare(profile: Profile, reference: Profile) -> Drift:
    """Measure the drift of a corpus from the reference; empty if one of them has no rows."""
    if not profile.rows or not reference.rows:
        return {}
    found: Drift = {
        "corpus": profile.means,
        "reference": reference.means,
        "length_psi": population_stability_index(profile.lengths, reference.lengths),
        "probability_psi": population_stability_index(
            profile.probabilities, reference.probabilities
        ),
    }
    found["warnings"] = _warn(found, profile, reference)
    return found


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


def _warn(found: Drift, profile: Profile, reference: Profile) -> list[str]:
    """Write a line for each large difference.

    Chance alone rarely exceeds twice the mean of an index, (bins - 1)(1/n + 1/m), which is from
    Yurdakul, Statistical Properties of Population Stability Index, 2018.
    """
    lines, chance = [], 2 * (1 / profile.rows + 1 / reference.rows)
    for index, what, bins in (
        (found["length_psi"], "length of the texts", len(LENGTH_EDGES)),
        (found["probability_psi"], "probabilities", NUM_PROBABILITY_BINS),
    ):
        if index > LARGE_PSI + (bins - 1) * chance:
            lines.append(f"{what}: population stability index {index:.2f}")
    spread = 2 / np.sqrt(min(profile.rows, reference.rows))  # four standard errors at most
    names = {"unknown_fraction": "unknown words", "positive_fraction": "predicted positive"}
    names |= {f"predicted_{name}": f"predicted {name}" for name in profile.predicted}
    for name, what in names.items():
        if name not in found["corpus"].keys() & found["reference"].keys():
            continue
        here, there = found["corpus"][name], found["reference"][name]
        if abs(here - there) > LARGE_DIFFERENCE + spread:
            lines.append(f"{what}: {here:.1%} here, {there:.1%} in validation")
    return lines


def _cross(
    label: np.ndarray, prediction: np.ndarray, names: Sequence[str]
) -> dict[str, dict[str, int]]:
    is_labelled = (label >= 0) & (label < len(names))
    pairs, counts = np.unique(
        np.stack([label[is_labelled], prediction[is_labelled]]), axis=1, return_counts=True
    )
    found: dict[str, dict[str, int]] = {}
    for (one, other), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
        found.setdefault(names[one], {})[names[other]] = count
    return found


def _count(bins: np.ndarray, num_bins: int) -> tuple[int, ...]:
    return tuple(np.bincount(bins, minlength=num_bins).tolist())
