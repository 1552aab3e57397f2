"""Confusion matrix -> the classes that a model predicts too often or too seldom."""

from collections.abc import Mapping

import pandas as pd

from sentiflow.config.class_names import set_apart
from sentiflow.data.manifest_types import ModelInput
from sentiflow.metrics.paired import SIGNIFICANCE, Difference, accuracy_difference, adjust

_MIN_POINTS = 3
"""Smallest gap between two shares, in points, that is worth a line."""
_MAX_NAMED = 3
"""Maximum number of classes that get a line."""


def compare_shares(confusion: Mapping[str, Mapping[str, int]], texts: str) -> list[tuple[str, str]]:
    """Find the classes that a model predicts too often or too seldom, the largest gap first.

    Both shares are measured on the same rows, so only mistakes count. The test is McNemar's,
    adjusted by Holm over the classes; the interval is by Bonett and Price.

    Args:
        confusion: Labelled rows by label, then by prediction.
        texts: What to call the rows.

    Returns:
        For each such class its predicted share, and the rest of the sentence about it.

    Example:
        30 of 100 rows have the label a. 20 rows of b are predicted a, 2 rows of a are predicted b.

        >>> confusion = {"a": {"a": 28, "b": 2}, "b": {"a": 20, "b": 50}}
        >>> print(*compare_shares(confusion, "texts")[0])  # doctest: +NORMALIZE_WHITESPACE
        48.0% of the texts are predicted a, but 30.0% are:
        18.0 points too many (95% interval 8.9 to 26.4)
    """
    counts = pd.DataFrame(confusion).T
    names = list(dict.fromkeys([*counts.index, *counts.columns]))
    counts = counts.reindex(index=names, columns=names).fillna(0).astype(int)
    labelled = counts.sum(axis=1)
    predicted = counts.sum()
    num_rows = int(counts.to_numpy().sum())
    gaps = {}
    p_values = []
    for name in names:
        right = counts.loc[name, name]
        # A difference of two shares of the same rows: the predicted share minus the true share.
        gap = accuracy_difference(
            only_first=int(labelled[name] - right),
            only_second=int(predicted[name] - right),
            num_rows=num_rows,
        )
        assert gap.p_value is not None, "this difference has a test"
        gaps[name] = gap
        p_values.append(gap.p_value)
    adjusted = adjust(p_values)
    significant = []
    for (name, gap), p_value in zip(gaps.items(), adjusted, strict=True):
        is_large = 100 * abs(gap.value) >= _MIN_POINTS
        if is_large and p_value < SIGNIFICANCE:
            significant.append(name)
    significant.sort(key=lambda name: -abs(gaps[name].value))
    lines = []
    for name in significant[:_MAX_NAMED]:
        share = predicted[name] / num_rows
        lines.append((f"{share:.1%}", _describe_gap(name, share, gaps[name], texts)))
    return lines


def _describe_gap(name: str, share: float, gap: Difference, texts: str) -> str:
    """Say by how many points the predicted share of a class is above or below its true share."""
    # Both bounds have the sign of the gap, because the gap is significant.
    low, high = sorted([100 * abs(gap.low), 100 * abs(gap.high)])
    many = "many" if gap.value > 0 else "few"
    return (
        f"of the {texts} are predicted {set_apart(name)}, but {share - gap.value:.1%} are: "
        f"{100 * abs(gap.value):.1f} points too {many} (95% interval {low:.1f} to {high:.1f})"
    )


def compare_unseen(
    confusion: Mapping[str, Mapping[str, int]], model: ModelInput
) -> list[tuple[str, str]]:
    """Compare the shares of classes in texts that the model was not trained on.

    Labelled rows of the corpus are best. Without them, the validation texts of the model are used.
    An average of models has no validation texts, because its members may have different ones.

    Args:
        confusion: Labelled rows of the corpus that the model was not trained on, by label, then by
            prediction; may be empty.
        model: The model; its ``reference`` has the counts of its validation texts.

    Returns:
        The result of :func:`compare_shares`; empty if there are no such texts.

    Example:
        >>> reference = {"confusion": {"a": {"a": 28, "b": 2}, "b": {"a": 20, "b": 50}}}
        >>> compare_unseen({}, {"reference": reference})[0][1].partition(",")[0]
        'of the validation texts of the model are predicted a'
    """
    if confusion:
        return compare_shares(confusion, "labelled texts that the model has not seen")
    reference = model.get("reference")
    if model.get("members") or not reference:
        return []
    return compare_shares(reference.get("confusion", {}), "validation texts of the model")
