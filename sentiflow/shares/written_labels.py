"""Files of manual labels -> their rows, and the draws that these rows are from."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from sentiflow.data import label_files, label_values, lineage, manifest
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError
from sentiflow.shares import draw_history

SECOND = "label_2"
"""The column of a second annotator's labels."""
_COLUMNS = ("row_id", "sample", "label", SECOND)
"""Columns that are read."""
NO_LABEL = -1


class WrittenLabels(NamedTuple):
    """What files of labels have."""

    labelled: pd.DataFrame
    """The labelled rows: ``sample``, ``place``, ``row_id``; ``label`` and ``label_2``, positions
    among the classes (-1: none); and ``both``, whether two annotators have labelled the row."""
    row_ids: np.ndarray
    """Numbers of all rows, with or without a label."""
    num_missing: int
    """Rows without a label."""
    histories: dict[str, str]
    """The values of the column ``sample``, each with the first place where it is found."""


def read(uris: Sequence[str], scored: Manifest) -> WrittenLabels:
    """Read the rows of files, with labels as the scored corpus has them.

    A row that only the second annotator has labelled takes this label. Where both have, the label
    of the first counts.

    Args:
        uris: The files.
        scored: Manifest of the scored directory. A label is one of the values that its input files
            have, or the name of a class.

    Raises:
        UserError: A file cannot be read or lacks a column, a label is no class, or ``row_id`` of a
            labelled row is not a number.
    """
    classes = manifest.find_classes(scored)
    values = lineage.label_values(scored)
    hint = "sentiflow trends CONFIG --sample 300 --output FILE.csv draws rows to label"
    needs = ("row_id", "label")
    table = label_files.read_columns(
        uris, _COLUMNS, setting="trends.labels", needs=needs, hint=hint
    )
    table = table[(table[["row_id", "label", SECOND]] != "").any(axis=1)]
    first_of_samples = table.drop_duplicates("sample")
    filled = table[(table[["label", SECOND]] != "").any(axis=1)].reset_index(drop=True)
    second = _read_column(filled, classes, values, column=SECOND)
    first = _read_column(filled, classes, values, column="label")
    labelled = filled[["sample", "place"]].assign(
        row_id=label_values.read_row_ids(filled),
        label=first.where(first >= 0, second),
        both=(first >= 0) & (second >= 0),
        label_2=second,
    )
    histories = zip(first_of_samples["sample"], first_of_samples["place"], strict=True)
    return WrittenLabels(
        labelled=labelled,
        row_ids=label_values.find_row_ids(table),
        num_missing=len(table) - len(filled),
        histories=dict(histories),
    )


def _read_column(
    table: pd.DataFrame, classes: Sequence[str], values: Mapping[str, int], *, column: str
) -> pd.Series:
    """Convert a column of labels to positions of classes, -1 for an empty field."""
    codes = pd.Series(NO_LABEL, table.index)
    is_filled = table[column] != ""
    codes[is_filled] = label_values.read_labels(table[is_filled], classes, values, column=column)
    return codes


def find_history(places: Mapping[str, str]) -> draw_history.History:
    """Find the history of all files: the longest, as it holds the draws of the others.

    Args:
        places: Values of the column ``sample``, each with its place. There may be none.

    Returns:
        The draws; empty if the rows were not drawn, or if there are none.

    Raises:
        UserError: A value cannot be read, only some rows were drawn, or files have other histories.
    """
    histories: dict[str, draw_history.History] = {}
    for written, place in places.items():
        history = draw_history.read_history(written) if written else ()
        if history is None:
            raise UserError(
                f"{place}: sample {written!r} is not written as '300 of 10,208 rows' or "
                "'300 of 10,208 rows by X'"
            )
        histories[place] = history
    if not histories:
        return ()
    place_of_longest = max(histories, key=lambda place: len(histories[place]))
    longest = histories[place_of_longest]
    for place, history in histories.items():
        if bool(history) != bool(longest):
            raise UserError(
                f"{place}: some rows of trends.labels were drawn by --sample, and others were not",
                hint="name only files of one kind",
            )
        if not draw_history.is_before(history, longest):
            raise UserError(
                f"{place}: sample {draw_history.write_history(history)!r} and sample "
                f"{draw_history.write_history(longest)!r} are not draws of one corpus, one after "
                "the other",
                hint=f"name the files of one corpus (the second value is at {place_of_longest})",
            )
    return longest


def find_orders(places: Mapping[str, str], num_draws: int) -> np.ndarray:
    """Say of each draw whether the order of its rows is known, bool.

    It is unknown for files of an earlier version, which do not say how many rows the corpus had.
    """
    has_order = np.ones(num_draws, bool)
    for written in places:
        history = draw_history.read_history(written)
        if history and history[-1].num_rows is None:
            has_order[len(history) - 1] = False
    return has_order
