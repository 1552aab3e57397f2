"""Rows of predictions that have manual labels; kept, with hashes in place of texts and authors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentiflow.data.arrays import hash_texts, put_columns
from sentiflow.shares.kept_tables import KeptTables
from sentiflow.shares.rows import PredictionBatch

_KIND = "rows"
"""What the name of a kept table begins with."""
_KEY = "key-"
"""What names of columns with keys begin with."""


class LabelledRows:
    """The rows with manual labels that are found so far."""

    def __init__(self, named: np.ndarray, kept: KeptTables, parts: Sequence[str]) -> None:
        """Find the kept rows whose parts are still there.

        Args:
            named: Numbers of the rows that have manual labels, sorted.
            kept: Tables of an earlier result. The rows for the next one are added.
            parts: Names of the parts.
        """
        self._named = named
        self._kept = kept
        self._tables: list[pa.Table] = []
        current = pa.array(parts, pa.string())
        for name in kept.names(_KIND):
            table = kept.find(name)
            if table is not None:
                table = table.filter(pc.is_in(table["part"], current))
                self._tables.append(table.filter(np.isin(table["row_id"].to_numpy(), named)))

    def leave_out(self, part: str) -> None:
        """Leave out the rows of a part, which is read again."""
        tables = [table.filter(pc.not_equal(table["part"], part)) for table in self._tables]
        self._tables = tables

    def take(self, batch: PredictionBatch, part: str) -> None:
        """Take the rows with manual labels from a batch of a part."""
        place = np.flatnonzero(np.isin(batch.row_id, self._named))
        if len(place):
            self._tables.append(_take(batch, place, part))

    def find_missing(self) -> np.ndarray:
        """List the numbers of rows that have manual labels and are not found yet, sorted."""
        found = [table["row_id"].to_numpy() for table in self._tables]
        return np.setdiff1d(self._named, np.concatenate([np.zeros(0, np.int64), *found]))

    def join(self, num_classes: int) -> PredictionBatch | None:
        """Join the rows, sorted by number, and keep them; None if there are none."""
        # A kept table without a row that still holds may have other columns.
        tables = [table for table in self._tables if len(table)]
        if not tables:
            return None
        table = pa.concat_tables(tables).sort_by("row_id")
        self._kept.keep_as(_KIND, table)
        return _to_batch(table, num_classes)


def _take(batch: PredictionBatch, place: np.ndarray, part: str) -> pa.Table:
    """Take rows of a batch as a table, with hashes in place of texts and authors."""
    columns: dict[str, Any] = {
        "part": [part] * len(place),
        "row_id": batch.row_id[place],
        "arrival": batch.arrival[place],
        "label": batch.label[place],
        "prediction": batch.prediction[place],
    }
    for number in range(batch.probabilities.shape[1]):
        columns[f"probability-{number}"] = batch.probabilities[place, number]
    if batch.author is not None:
        columns["author"] = batch.author[place]
    if batch.text is not None:
        columns["text"] = hash_texts(batch.text.take(pa.array(place)).fill_null(""))
    keys = batch.keys.iloc[place].add_prefix(_KEY)
    of_keys = pa.Table.from_pandas(keys, preserve_index=False)
    return put_columns(
        pa.table(columns), dict(zip(of_keys.column_names, of_keys.columns, strict=True))
    )


def _to_batch(table: pa.Table, num_classes: int) -> PredictionBatch:
    """Convert rows of :func:`_take` to a batch."""
    names = [name for name in table.column_names if name.startswith(_KEY)]
    keys = table.select(names).to_pandas()
    probabilities = [table[f"probability-{number}"] for number in range(num_classes)]
    has_author = "author" in table.column_names
    has_text = "text" in table.column_names
    return PredictionBatch(
        row_id=table["row_id"].to_numpy(),
        arrival=table["arrival"].to_numpy(),
        label=table["label"].to_numpy(),
        prediction=table["prediction"].to_numpy(),
        probabilities=np.stack([each.to_numpy() for each in probabilities], axis=1),
        keys=keys.rename(columns=lambda name: name[len(_KEY) :]),
        author=table["author"].to_numpy() if has_author else None,
        text=None,
        known_hashes=table["text"].to_numpy() if has_text else None,
    )
