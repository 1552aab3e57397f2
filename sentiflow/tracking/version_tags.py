"""Test figures of a model -> tags of its version in MLflow's registry."""

from collections.abc import Mapping

from sentiflow.data.manifest_types import Manifest, RunPart
from sentiflow.tracking.runs import AT_A_GLANCE

_AT_A_GLANCE = f"sentiflow.{AT_A_GLANCE}"
"""Tag with the figures for people. MLflow sorts the tags of a version by name, so it comes first.
"""
_SPLITS = ("cross-validated", "test", "all", "validation")
"""Names of splits whose figures an evaluation adds to the run of the training."""


def describe(
    split: str, *, accuracy: float, f1_macro: float | None, num_rows: int | None, data: str
) -> dict[str, str]:
    """Make the tags of a version, the figures for people first.

    Args:
        split: The split that was measured.
        accuracy: The accuracy.
        f1_macro: The macro F1; None if it is unknown.
        num_rows: Number of measured rows; None if it is unknown.
        data: Fingerprint of the prepared data; empty if it is unknown.
    """
    text = f"{accuracy:.1%} {split} accuracy"
    tags = {f"sentiflow.{split}_accuracy": f"{accuracy:.6f}"}
    if f1_macro is not None:
        text += f", macro F1 {f1_macro:.3f}"
        tags[f"sentiflow.{split}_f1_macro"] = f"{f1_macro:.6f}"
    if num_rows is not None:
        text += f", {num_rows:,} texts"
        tags[f"sentiflow.{split}_rows"] = str(num_rows)
    if data:
        tags[f"sentiflow.{split}_data"] = data
    return {_AT_A_GLANCE: text, **tags}


def describe_evaluation(record: Manifest, part: RunPart, *, data: str) -> dict[str, str]:
    """Make the tags of a version from the manifest of its evaluation.

    Args:
        record: The manifest.
        part: What the evaluation has added to the run of the training.
        data: Fingerprint of the prepared data; empty if it is unknown.

    Returns:
        Empty if the manifest has no accuracy.
    """
    figures = record.get("figures", {})
    for split in _SPLITS:
        accuracy = part["metrics"].get(f"{split}/accuracy")
        if accuracy is None:
            continue
        of_split = figures.get(split, {})
        num_rows = of_split.get("num_rows") if isinstance(of_split, Mapping) else None
        return describe(
            split,
            accuracy=accuracy,
            f1_macro=part["metrics"].get(f"{split}/f1_macro"),
            num_rows=num_rows if isinstance(num_rows, int) else None,
            data=data,
        )
    return {}
