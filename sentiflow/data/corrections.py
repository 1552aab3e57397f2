"""Files of ``prepare.corrections`` -> labels for rows of the corpus, named by row or by text."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.classes import UNLABELLED
from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, label_files, table_files
from sentiflow.data.label_files import PLACE
from sentiflow.data.row_ids import find_sorted
from sentiflow.data.text_hash import hash_texts
from sentiflow.errors import UserError
from sentiflow.storage.uris import as_typed

SETTING = "prepare.corrections"
NO_ROW = -1
"""Stands for a ``row_id`` that is not given."""


@dataclass(frozen=True)
class CorrectedRows:
    """N rows of the corpus whose labels are replaced."""

    row_id: np.ndarray
    """In rising order, each once."""
    label: np.ndarray
    """Positions in the classes; -1: the row has no label."""
    is_changed: np.ndarray
    """Whether the corpus has another label, or none, or an unknown one."""

    def labels_of(self, row_id: pa.Array) -> tuple[np.ndarray, pa.Array]:
        """Find which rows of a part are corrected, and their labels: int8, null for none."""
        found, place = find_sorted(self.row_id, row_id.to_numpy())
        label = np.full(len(found), -1)
        label[found] = self.label[place[found]]
        return found, pa.array(label, pa.int8(), mask=label < 0)


def read(uris: Sequence[str], form: FormatSettings) -> pd.DataFrame:
    """Read the rows with a label of the files of ``prepare.corrections``.

    Args:
        uris: The files.
        form: The section ``format``, which knows the classes and the written values.

    Returns:
        ``file`` (its position in ``uris``), ``place`` (file and line), ``row_id`` (``NO_ROW`` if
        there is none), ``has_text``, ``text`` (a hash of the normalized text), ``label`` (the name
        of a class, as it is written for ``labels: auto``; empty: the row has no label).

    Raises:
        UserError: A file lacks a column or any label, a label is unknown, or a row is named twice
            with different labels.
    """
    tables = [_read_file(uri, form).assign(file=number) for number, uri in enumerate(uris)]
    rows = pd.concat(tables, ignore_index=True)
    for key, some in (("text", rows[rows["has_text"]]), ("row_id", rows[~rows["has_text"]])):
        refuse_conflict(some, some[key])
    return rows


def refuse_conflict(rows: pd.DataFrame, keys: pd.Series) -> None:
    """Refuse two corrections of the same row or text that differ.

    Args:
        rows: Has ``place`` and ``label``.
        keys: The row or text of each.

    Raises:
        UserError: There are two.
    """
    label = rows["label"].str.casefold()
    is_other = (label != label.groupby(keys).transform("first")).to_numpy()
    if is_other.any():
        other = rows[is_other].iloc[0]
        one = rows[(keys == keys[is_other].iloc[0]).to_numpy()].iloc[0]
        labels = [row["label"] or UNLABELLED for row in (one, other)]
        raise UserError(
            f"{other[PLACE]}: label {labels[1]}, but {one[PLACE]} names the same row or text "
            f"with label {labels[0]}",
            hint="correct the file and run the same command again",
        )


def _read_file(uri: str, form: FormatSettings) -> pd.DataFrame:
    name = as_typed(uri)
    hint = "corrections have row_id or text, and label"
    table = label_files.read(uri, setting=SETTING, hint=hint)
    if "row_id" not in table and "text" not in table:
        label_files.require(table, ("row_id or text",), name, hint=hint)
    table = table[table["label"] != ""]
    if not len(table):
        named = ", ".join(form.classes or ()) or "the name of a class"
        raise UserError(f"{name} has no label", hint=f"write {named} in column label")
    table = table.assign(**{n: "" for n in ("row_id", "text") if n not in table})
    text = label_files.read_texts(table, uri)
    has_text, has_number = text.str.strip() != "", table["row_id"].str.strip() != ""
    label_files.refuse(
        table, ~has_text & ~has_number, "label", "is of no row: it has neither row_id nor text"
    )
    row_id = pd.Series(NO_ROW, table.index, dtype="int64")
    row_id[has_number] = label_files.read_row_ids(table[has_number]) if has_number.any() else 0
    return pd.DataFrame(
        {
            PLACE: table[PLACE],
            "row_id": row_id,
            "has_text": has_text,
            "text": hash_texts(pa.array(text, pa.string())),
            "label": _name_labels(table, form),
        }
    )


def _name_labels(table: pd.DataFrame, form: FormatSettings) -> pd.Series:
    """Name the class of each label, see :func:`read`."""
    if form.classes is None:  # labels: auto
        return table["label"].where(table["label"].str.casefold() != UNLABELLED, "")
    values: dict[str, int | None] = dict(csv_format.meanings(form))
    if form.kind == "sentiment140":
        values = dict(table_files.NUMBERED) | values
    codes = label_files.read_labels(table, form.classes, values)
    return codes.map(dict(enumerate(form.classes)) | {-1: ""})
