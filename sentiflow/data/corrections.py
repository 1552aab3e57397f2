"""Files of ``prepare.corrections`` -> the rows of the corpus to correct, and their labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa

from sentiflow.config.class_names import UNLABELLED
from sentiflow.config.format_sections import FormatSettings
from sentiflow.data import csv_format, label_files, label_values, table_files
from sentiflow.data.arrays import find_sorted, hash_texts
from sentiflow.errors import UserError, few
from sentiflow.storage.uris import display_uri

CORRECTIONS = "prepare.corrections"
"""The setting that names the files, for messages."""
NO_ROW = -1
"""Value of ``row_id`` in a row that has none."""


@dataclass(frozen=True)
class CorrectedRows:
    """N rows of the corpus whose labels are replaced."""

    row_id: np.ndarray
    """N distinct row ids in ascending order."""
    label: np.ndarray
    """N positions in the classes; -1: the row has no label."""

    def find_labels(self, row_id: pa.Array) -> tuple[np.ndarray, pa.Array]:
        """Look up the rows of a part by their ids.

        Returns:
            Whether each row is corrected, bool; and its new label, int8, null if it has none.
        """
        is_corrected, place = find_sorted(self.row_id, row_id.to_numpy())
        label = np.full(len(is_corrected), -1)
        label[is_corrected] = self.label[place[is_corrected]]
        return is_corrected, pa.array(label, pa.int8(), mask=label < 0)


def read_corrections(uris: Sequence[str], form: FormatSettings) -> pd.DataFrame:
    """Read the labelled rows of the files of ``prepare.corrections``.

    Args:
        uris: The files.
        form: The section ``format``, which knows the classes and the written values.

    Columns:
        file: Position of the file in ``uris``.
        place: File and line.
        row_id: ``NO_ROW`` if there is none.
        has_text: Whether the row has a text.
        text: Hash of the text, by ``arrays.hash_texts``; of no use without a text.
        label: The name of a class; with ``labels: auto`` the written label. Empty: the label of the
            row is removed.

    Raises:
        UserError: A file lacks a column or has no label at all, a row has neither row id nor text,
            or a label is unknown.
    """
    tables = []
    for file, uri in enumerate(uris):
        tables.append(_read_corrections(uri, form).assign(file=file))
    return pd.concat(tables, ignore_index=True)


def _read_corrections(uri: str, form: FormatSettings) -> pd.DataFrame:
    """Read the labelled rows of one file, see :func:`read_corrections`."""
    hint = "corrections have row_id or text, and label"
    table = label_files.read(uri, setting=CORRECTIONS, needs=("label", "row_id or text"), hint=hint)
    table = table[table["label"] != ""]  # a row without a label corrects nothing
    if not len(table):
        named = ", ".join(few(form.classes or ())) or "the name of a class"
        raise UserError(f"{display_uri(uri)} has no label", hint=f"write {named} in column label")
    empty = pd.Series("", table.index)
    text = table.get("text", empty)
    if not uri.endswith(".parquet"):  # a CSV for a spreadsheet, see label_files.to_csv
        text = label_files.unquote_formulas(text)
    has_text = text.str.strip() != ""
    has_row_id = table.get("row_id", empty) != ""
    label_files.reject(
        table,
        ~has_text & ~has_row_id,
        "belongs to no row: it has neither row_id nor text",
        column="label",
    )
    row_id = pd.Series(NO_ROW, table.index, dtype="int64")
    if has_row_id.any():
        row_id[has_row_id] = label_values.read_row_ids(table[has_row_id])
    hashes = hash_texts(pa.array(text, pa.string()))
    label = _name_labels(table, form)
    return table[[label_files.PLACE]].assign(
        row_id=row_id, has_text=has_text, text=hashes, label=label
    )


def _name_labels(table: pd.DataFrame, form: FormatSettings) -> pd.Series:
    """Name the class of each correction; ``unlabelled``, which removes a label, becomes empty."""
    if form.classes is None:  # labels: auto
        is_named = table["label"].str.casefold() != UNLABELLED
        return table["label"].where(is_named, "")
    values: dict[str, int | None] = {}
    if form.kind == "sentiment140":
        values.update(table_files.NUMBERED)
    values.update(csv_format.written_labels(form))
    values[UNLABELLED] = None
    names = dict(enumerate(form.classes)) | {-1: ""}
    # kind: sentiment140 has no setting that names classes
    setting = f"{form.section}.labels" if form.kind == "csv" else ""
    found = label_values.read_labels(
        table,
        form.classes,
        values,
        setting=setting,
        values_setting=f"{form.section}.values" if form.ordered else "",
    )
    return found.map(names)
