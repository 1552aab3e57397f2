"""Predictions of ordered classes, such as stars -> the scale of their mean rating."""

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.class_names import set_apart
from sentiflow.config.ordered_classes import read_value
from sentiflow.data import manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.metrics import sampling
from sentiflow.metrics.rating_scale import RatingScale

MEAN = "mean rating"
"""What the mean of the values is called, in the place of the name of a class."""
COLUMNS = pa.schema(
    [
        pa.field("by", pa.string(), nullable=False),
        pa.field("group", pa.string()),
        pa.field("period", pa.timestamp("us")),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("predicted_mean", pa.float64(), nullable=False),
        pa.field("expected_mean", pa.float64(), nullable=False),
        pa.field("corrected_mean", pa.float64()),
        pa.field("low", pa.float64()),
        pa.field("high", pa.float64()),
        pa.field("p_adjusted", pa.float64()),
        pa.field("labelled", pa.int64(), nullable=False),
        pa.field("method", pa.string(), nullable=False),
    ]
)
"""Columns of ``means.parquet``."""


def find_scale(scored: Manifest) -> RatingScale | None:
    """Find the values of ordered classes; None if the classes have no order, or one no value."""
    values = manifest.find_class_values(scored)
    if values is None or len(values) < 2:
        return None
    known = tuple(value for value in values if value is not None)
    return RatingScale(known) if len(known) == len(values) else None


def average_expected(sums: pd.DataFrame, group_of_row: np.ndarray) -> np.ndarray:
    """Average what the probabilities tell of G groups: mean probabilities, or mean ratings.

    A row whose label is only counted counts with its label, as in corrected shares.

    Args:
        sums: Sums of :mod:`sampling` in R rows.
        group_of_row: The number of the group of each row, R integers from 0 to G - 1.

    Returns:
        ``(G, C)``; for the values of ordered classes ``(G, 1)``, from 0 to 1.
    """
    of = sampling.by_name(sums)
    totals = np.zeros((group_of_row.max() + 1, of["p"].shape[1]))
    np.add.at(totals, group_of_row, of["p"] + of["counted"])
    rows = np.bincount(group_of_row, of["rows"][:, 0])
    return np.asarray(totals / rows[:, None])


def note_unordered(scored: Manifest) -> list[str]:
    """Say how mean ratings are got, if classes without an order are three numbers or more."""
    classes = manifest.find_classes(scored)
    if manifest.find_class_values(scored) is not None or len(classes) < 3:
        return []
    if any(read_value(name) is None for name in classes):
        return []
    return [
        "the classes are numbers: if they are ratings, format.ordered: true with format.labels in "
        "their order gives mean ratings"
    ]


def note_unknown(scored: Manifest) -> list[str]:
    """Say which ordered classes have no value, so that there is no mean rating."""
    values = manifest.find_class_values(scored) or ()
    classes = manifest.find_classes(scored)
    unknown = [
        set_apart(name) for name, value in zip(classes, values, strict=False) if value is None
    ]
    if not unknown:
        return []
    return [
        f"no mean rating: the number of the class {', '.join(unknown)} is unknown; give it in "
        "score.format.values, and score again"
    ]
