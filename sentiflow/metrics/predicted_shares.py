"""Labelled rows and their predictions -> the classes that are predicted too often or too seldom."""

from collections.abc import Mapping

import pandas as pd

from sentiflow.data.manifest_types import ModelInput
from sentiflow.metrics.paired import SURE, accuracy_difference, adjust

_LEAST_POINTS, _MAX_NAMED = 3, 3
"""Fewest points between two shares that are worth a line; most classes with one."""


def compare_shares(confusion: Mapping[str, Mapping[str, int]], texts: str) -> list[tuple[str, str]]:
    """Tell the classes that a model predicts too often or too seldom, the largest gap first.

    The two shares are of the same rows, so that only mistakes count: the test is McNemar's,
    adjusted by Holm over the classes, the interval that of Bonett and Price.

    Args:
        confusion: Labelled rows by label, then by prediction.
        texts: What to call the rows.

    Returns:
        For each class the predicted share, and what it means.
    """
    counts = pd.DataFrame(confusion).T
    names = list(dict.fromkeys([*counts.index, *counts.columns]))
    counts = counts.reindex(index=names, columns=names).fillna(0).astype(int)
    labelled, predicted, num_rows = counts.sum(axis=1), counts.sum(), int(counts.to_numpy().sum())
    gaps = {
        name: accuracy_difference(
            only_first=int(labelled[name] - counts.loc[name, name]),
            only_second=int(predicted[name] - counts.loc[name, name]),
            num_rows=num_rows,
        )
        for name in names
    }
    adjusted = adjust([gap.p_value for gap in gaps.values() if gap.p_value is not None])
    sure = [
        name
        for name, p_value in zip(names, adjusted, strict=True)
        if p_value < SURE and 100 * abs(gaps[name].value) >= _LEAST_POINTS
    ]
    lines = []
    for name in sorted(sure, key=lambda name: -abs(gaps[name].value))[:_MAX_NAMED]:
        gap, share = gaps[name], predicted[name] / num_rows
        ends = sorted([100 * abs(gap.low), 100 * abs(gap.high)])
        meaning = (
            f"of the {texts} are predicted {name}, but {share - gap.value:.1%} are: "
            f"{100 * abs(gap.value):.1f} points too {'many' if gap.value > 0 else 'few'} "
            f"(95 % interval {ends[0]:.1f} to {ends[1]:.1f})"
        )
        lines.append((f"{share:.1%}", meaning))
    return lines


def compare_unseen(
    confusion: Mapping[str, Mapping[str, int]], model: ModelInput
) -> list[tuple[str, str]]:
    """Compare the shares in the texts that tell most, see :func:`compare_shares`.

    Args:
        confusion: That of the labelled texts of a corpus that the model has not seen.
        model: The model, which knows its validation texts. Those of an average are not its own.
    """
    if confusion:
        return compare_shares(confusion, "labelled texts that the model has not seen")
    if model.get("members") or not (profile := model.get("reference")):
        return []
    return compare_shares(profile.get("confusion", {}), "validation texts of the model")
