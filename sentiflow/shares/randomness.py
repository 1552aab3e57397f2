"""Labelled rows and all rows -> whether the labelled rows may be a random sample."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sentiflow.metrics import sample_randomness
from sentiflow.metrics.paired import write_p

_IMPROBABLE = 0.01
"""Labelled rows are not a random sample if their difference from all rows has a lower p-value."""


@dataclass(frozen=True)
class BinCounts:
    """Rows by predicted class and probability: ``sample_randomness.count_bins`` of all batches.

    Shape:
        - population, sample: ``(C, NUM_BINS)``.
    """

    population: np.ndarray
    """All rows that the sample stands for."""
    sample: np.ndarray
    """The sum of the weights of the sample."""

    @classmethod
    def zeros(cls, num_classes: int) -> "BinCounts":
        """Make the counts of no rows."""
        shape = (num_classes, sample_randomness.NUM_BINS)
        return cls(population=np.zeros(shape), sample=np.zeros(shape))

    def __add__(self, other: "BinCounts") -> "BinCounts":
        """Add the counts of other rows."""
        return BinCounts(
            population=self.population + other.population, sample=self.sample + other.sample
        )

    def __sub__(self, other: "BinCounts") -> "BinCounts":
        """Subtract the counts of rows that are among these rows."""
        return BinCounts(
            population=self.population - other.population, sample=self.sample - other.sample
        )


def describe_differences(counts: BinCounts, size: float, classes: tuple[str, ...]) -> list[str]:
    """Say how the labelled rows differ from all rows, if that is improbable in a random sample.

    Args:
        counts: The rows by predicted class and probability.
        size: The effective size of the sample.
        classes: The C classes.

    Returns:
        One note on the larger difference, by predicted class or by probability; or none.
    """
    p_values = sample_randomness.check_randomness(counts.population, counts.sample, size)
    if p_values.min() >= _IMPROBABLE:
        return []
    bins = np.stack([counts.population, counts.sample])
    totals = bins.sum(axis=(1, 2))[:, None]
    p_of_classes, p_of_bins = p_values
    if p_of_bins < p_of_classes:
        of_bins = bins.sum(axis=1) / totals
        # The bin with the largest gap between the two cumulative distributions.
        gaps = np.diff(of_bins, axis=0).cumsum()
        at = int(np.abs(gaps).argmax()) + 1
        of_all, of_sample = of_bins[:, at:].sum(axis=1)
        what = f"have a probability of {at / sample_randomness.NUM_BINS:.2f} or more"
    else:
        of_classes = bins.sum(axis=2) / totals
        at = int(np.abs(of_classes[1] - of_classes[0]).argmax())
        of_all, of_sample = of_classes[:, at]
        what = f"are predicted {classes[at]}"
    return [
        f"the labelled texts are not a random sample: {of_sample:.1%} of them {what}, but "
        f"{of_all:.1%} of all texts ({write_p(p_values.min())}); the intervals hold only for texts "
        "like the labelled ones, and no group or period is claimed to differ"
    ]


def describe_uneven_parts(sums: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Say where the part of texts with a label differs far beyond chance between groups.

    No interval and no claim depends on it: within each group the labelled texts may be a random
    sample nevertheless.

    Args:
        sums: Sums of G groups by one model, whose labels have equal weights; see
            ``metrics.sampling``.
        names: G names of groups, as in "the texts of NAME".

    Returns:
        One note, or none.
    """
    population = sums["population", 0].to_numpy()
    labelled = sums["labelled", 0].to_numpy()
    if not labelled.any():
        return []
    design_effect = float(sums["ww", 0].sum() / sums["w", 0].sum())
    found = sample_randomness.find_uneven_parts(population, labelled, design_effect=design_effect)
    if found is None:
        return []
    without = ""
    if sums["counted"].to_numpy().any():
        without = " (leaving out texts whose label does not measure the error)"
    return [
        f"labels are uneven: {_write_part(found.part_of_most)} of the texts of "
        f"{names[found.most]} have one, {_write_part(found.part_of_least)} of "
        f"{names[found.least]}{without}; the intervals assume that the labelled texts are a "
        "random sample: draw one by --sample"
    ]


def _write_part(part: float) -> str:
    """Write a part in percent with at most three digits.

    Example:
        >>> [_write_part(part) for part in (1.0, 0.7512, 0.12, 0.000473, 0.0)]
        ['100%', '75.1%', '12%', '0.0473%', '0%']
    """
    return f"{100 * part:.3g}%"
