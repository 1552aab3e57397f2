"""Slices of rows -> the accuracy of a model in each, and whether it is worse than elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from sentiflow.data.schema import BINARY
from sentiflow.evaluation.slices import MIN_ROWS, SliceOfRows
from sentiflow.metrics import paired
from sentiflow.metrics.dependence import RowGroups
from sentiflow.metrics.intervals import Accuracy
from sentiflow.metrics.macro_f1 import macro_f1
from sentiflow.metrics.predicted import count_confusion


@dataclass(frozen=True)
class SliceMetrics(Accuracy):
    """How a model does on the texts of one slice."""

    name: str
    about: str
    fraction: float
    """Share of all rows; for a slice found by a search, of the rows that were not searched."""
    difference: float | None
    """Accuracy of the slice minus the accuracy on all other rows; None if there are no others."""
    positive_fraction: float | None
    """Share of the labels that are positive; None unless the classes are negative and positive."""
    mean_probability: float | None
    """Mean probability of positive; None unless the classes are negative and positive."""
    is_own: bool = False
    """Whether the user named it, by a pattern or a column."""
    p_adjusted: float | None = None
    """p-value of Fisher's exact test against all other rows, two-sided, adjusted by Holm for all
    tested slices. For a slice found by a search: one-sided, adjusted for all candidates. None if it
    is not tested: fewer than ``MIN_ROWS`` rows, or no other rows."""
    is_found: bool = False
    """Whether a search has found it. Then all figures are of the half that was not searched."""
    f1_macro: float | None = None
    """Mean of the F1 of the classes that occur in its labels or predictions."""
    labelled_shares: Mapping[str, float] = field(default_factory=dict)
    """Share of each class in its labels; classes that do not occur are left out."""
    predicted_shares: Mapping[str, float] = field(default_factory=dict)
    """Share of each class in its predictions; classes that do not occur are left out."""

    @property
    def widest_gap(self) -> "ClassShares":
        """Find the class whose shares of labels and of predictions differ most."""
        shares = [
            ClassShares(
                name=name,
                labelled=self.labelled_shares.get(name, 0.0),
                predicted=self.predicted_shares.get(name, 0.0),
            )
            for name in [*self.labelled_shares, *self.predicted_shares]
        ]
        return max(shares, key=lambda each: abs(each.predicted - each.labelled))

    @property
    def group_title(self) -> str:
        """Return the title of the group that the report lists it in."""
        if self.is_own:
            return "Your own"
        if self.is_found:
            return "Found by a search, figures of the tested half"
        return "Others"

    @property
    def is_worse(self) -> bool:
        """Say whether the accuracy is lower than on all other rows, beyond chance."""
        if self.p_adjusted is None or self.difference is None:
            return False
        return self.p_adjusted < paired.SIGNIFICANCE and self.difference < 0


class ClassShares(NamedTuple):
    """The shares of a class in the labels and in the predictions of some rows."""

    name: str
    labelled: float
    predicted: float


def measure(
    slices: list[SliceOfRows],
    *,
    label: np.ndarray,
    probability: np.ndarray | None,
    prediction: np.ndarray,
    classes: Sequence[str] = BINARY,
    groups: RowGroups | None = None,
) -> list[SliceMetrics]:
    """Measure a model in each slice: user-defined slices, slices found by a search, then others.

    The least accurate comes first, slices of few rows come last. A candidate of a search is kept
    only if it is worse than the rest beyond chance, and still is without the rows of the candidates
    kept before it.

    Args:
        slices: Slices of N rows.
        label: N labels.
        probability: Probability of positive; None unless the labels are negative (0) and positive.
        prediction: N predicted labels.
        classes: Their names.
        groups: Groups of rows that depend on each other. None: the rows are independent.
    """
    right = prediction == label
    measured = [_measure(item, label, probability, prediction, classes, groups) for item in slices]
    tested = _add_p_values(slices, measured, right, groups)
    return sorted(_drop_redundant(slices, tested, right, groups), key=_order)


def _measure(
    item: SliceOfRows,
    label: np.ndarray,
    probability: np.ndarray | None,
    prediction: np.ndarray,
    classes: Sequence[str],
    groups: RowGroups | None,
) -> SliceMetrics:
    """Measure a model in one slice, without a test."""
    mask = item.mask
    num_rows = int(mask.sum())
    num_others = int(item.others.sum())
    right = prediction == label
    difference = positive_fraction = mean_probability = None
    if num_others:
        difference = float(right[mask].mean() - right[item.others].mean())
    if probability is not None:
        positive_fraction = float(label[mask].mean())
        mean_probability = float(probability[mask].astype(np.float64).mean())
    confusion = count_confusion(label[mask], prediction[mask], num_labels=len(classes))
    return SliceMetrics.of_rows(
        right[mask],
        groups.take(mask) if groups else None,
        name=item.name,
        about=item.about,
        fraction=num_rows / (num_rows + num_others),
        difference=difference,
        positive_fraction=positive_fraction,
        mean_probability=mean_probability,
        is_own=item.is_own,
        is_found=item.is_found,
        f1_macro=macro_f1(confusion),
        labelled_shares=_share(classes, confusion.sum(axis=1)),
        predicted_shares=_share(classes, confusion.sum(axis=0)),
    )


def _share(classes: Sequence[str], counts: np.ndarray) -> dict[str, float]:
    """Divide the counts of the classes that occur by the number of rows."""
    num_rows = int(counts.sum())
    return {
        name: count / num_rows
        for name, count in zip(classes, counts.tolist(), strict=True)
        if count
    }


def _add_p_values(
    slices: list[SliceOfRows],
    measured: list[SliceMetrics],
    right: np.ndarray,
    groups: RowGroups | None,
) -> list[SliceMetrics]:
    """Test the slices of enough rows, and add the adjusted p-values.

    Candidates of a search are adjusted for each other alone. They were chosen as worse, on other
    rows, so their test is one-sided.
    """
    with_p_values = list(measured)
    for is_found, alternative in ((True, "less"), (False, "two-sided")):
        tested = [
            number
            for number, each in enumerate(measured)
            if each.is_found == is_found
            and each.num_rows >= MIN_ROWS
            and each.difference is not None
        ]
        p_values = [
            _test(right, slices[number].mask, slices[number].others, alternative, groups)
            for number in tested
        ]
        for number, p_adjusted in zip(tested, paired.adjust(p_values), strict=True):
            with_p_values[number] = replace(measured[number], p_adjusted=p_adjusted)
    return with_p_values


def _drop_redundant(
    slices: list[SliceOfRows],
    measured: list[SliceMetrics],
    right: np.ndarray,
    groups: RowGroups | None,
) -> list[SliceMetrics]:
    """Leave out candidates that are not worse, or not worse without the rows of earlier ones."""
    kept = []
    explained = np.zeros(len(right), bool)
    for item, metrics in zip(slices, measured, strict=True):
        if metrics.is_found:
            mask = item.mask & ~explained
            others = item.others & ~explained
            if not metrics.is_worse:
                continue
            if _test(right, mask, others, "less", groups) >= paired.SIGNIFICANCE:
                continue
            explained |= item.mask
        kept.append(metrics)
    return kept


def _test(
    right: np.ndarray,
    mask: np.ndarray,
    others: np.ndarray,
    alternative: str,
    groups: RowGroups | None,
) -> float:
    """Return the p-value for the hypothesis that the rows of two masks are right equally often.

    Fisher's exact test. With groups of rows that depend on each other, a normal test of the
    difference of both shares, whose variance the groups widen.
    """
    from scipy.stats import fisher_exact, norm

    if groups is not None:
        num_rows = int(mask.sum())
        num_others = int(others.sum())
        if not num_rows or not num_others:
            return 1.0
        share = right[mask].mean()
        share_of_others = right[others].mean()
        both = mask | others
        in_slice = mask[both]
        is_right = right[both]
        effects = np.full(len(in_slice), share_of_others / num_others)
        effects[is_right] = -(1 - share_of_others) / num_others
        effects[in_slice] = -share / num_rows
        effects[in_slice & is_right] = (1 - share) / num_rows
        mean = right[both].mean()
        variance = mean * (1 - mean) * (1 / num_rows + 1 / num_others)
        error = np.sqrt(variance * groups.take(both).factor(effects))
        if not error:
            return 1.0
        distance = (share - share_of_others) / error
        if alternative == "less":
            return float(norm.cdf(distance))
        return float(2 * norm.sf(abs(distance)))
    table = [[int((right & each).sum()), int((~right & each).sum())] for each in (mask, others)]
    return float(fisher_exact(table, alternative).pvalue)


def _order(metrics: SliceMetrics) -> tuple[bool, bool, bool, float, str]:
    """Order slices as the report lists them."""
    is_small = metrics.num_rows < MIN_ROWS
    return not metrics.is_own, not metrics.is_found, is_small, metrics.accuracy, metrics.name
