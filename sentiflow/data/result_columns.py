"""Table of predictions or of prepared rows -> whether its columns are what their readers expect.

A result may come from a stranger, and a file has the size that its manifest names, whatever is in
it.
"""

from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from sentiflow.data.manifest_types import Manifest
from sentiflow.data.schema import PROBABILITY
from sentiflow.errors import UserError

Kind = Callable[[pa.DataType], bool]
"""Says whether a type is of a kind."""
_OF_ALL: dict[str, Kind] = {"row_id": types.is_integer, "label": types.is_integer}
"""Kinds of the columns that all results have."""
_OF_PREDICTIONS: dict[str, Kind] = {
    "prediction": types.is_integer,
    "num_tokens": types.is_integer,
    "split": types.is_string,
    "model_version": types.is_string,
    "unsure": types.is_boolean,
}
"""Kinds of the columns that predictions have in addition, except probabilities."""
_OF_ORDERED: dict[str, Kind] = {
    "expected_rating": types.is_floating,
    "median_label": types.is_string,
}
"""Kinds of the columns that predictions of ordered classes have, too."""
_NULLABLE = ("label", "split")
"""Columns of these that may have nulls; an empty column may have the type null."""
_POSITIONS = ("label", "prediction")
"""Columns of positions among the classes."""


def check(table: pa.Table, record: Manifest, file: str) -> None:
    """Check the kinds of the columns, and that labels and predictions are positions of classes.

    Args:
        table: Rows of predictions or of prepared data.
        record: The manifest that lists the file.
        file: The file, for messages.

    Raises:
        UserError: A column is of another kind, has nulls, or has a position of no class.
    """
    classes = record.get("classes", ())
    for name, kind in _list_kinds(record, classes).items():
        fault = ""
        if name in table.column_names:
            fault = _find_fault(name, table[name], kind, num_classes=len(classes))
        if fault:
            raise UserError(
                f"{file} has {fault}",
                hint=f"sentiflow {record['stage']} CONFIG --overwrite makes it again",
            )


def _list_kinds(record: Manifest, classes: Sequence[str]) -> dict[str, Kind]:
    """List the columns that a stage itself writes; others are of the user."""
    if record["stage"] != "score":
        return _OF_ALL
    probabilities = dict.fromkeys([f"{PROBABILITY}{name}" for name in classes], types.is_floating)
    of_ordered = _OF_ORDERED if "class_values" in record else {}
    return _OF_ALL | _OF_PREDICTIONS | of_ordered | probabilities


def _find_fault(name: str, column: pa.ChunkedArray, kind: Kind, *, num_classes: int) -> str:
    """Say what is wrong with a column; empty if nothing is."""
    is_nullable = name in _NULLABLE
    if is_nullable and types.is_null(column.type):
        return ""
    if not kind(column.type):
        return f"{name} of type {column.type}"
    if column.null_count and not is_nullable:
        return f"{name} with nulls"
    if name in _POSITIONS and num_classes:
        ends = pc.min_max(column).as_py()
        lowest = ends["min"]
        if lowest is not None and not 0 <= lowest <= ends["max"] < num_classes:
            return f"{name} from {lowest} to {ends['max']}, which are no positions of a class"
    return ""
