"""Predictions or prepared data -> texts and other columns of evaluated rows, batch by batch.

Texts are never held for all rows: a reader takes what it needs from each batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from sentiflow.data import lineage
from sentiflow.data.arrays import find_sorted, one_array
from sentiflow.data.manifest_types import Manifest
from sentiflow.errors import UserError

ROW_ID = "row_id"


@dataclass(frozen=True)
class TextSource:
    """The files with the texts of evaluated rows, and with other columns of these rows."""

    uri: str
    """The scored directory or the prepared data."""
    record: Manifest
    """Its manifest."""
    folders: tuple[str, ...]
    """The folders to read, as ``lineage.read_tables`` takes them."""
    text_column: str | None
    """Column of the texts; None if they are elsewhere."""
    columns: tuple[str, ...] = ()
    """Columns that slices are made of."""

    def read(
        self, row_ids: np.ndarray, columns: Sequence[str]
    ) -> Iterator[tuple[np.ndarray, pa.Table]]:
        """Read columns of N rows.

        Args:
            row_ids: The rows, each once.
            columns: The columns.

        Yields:
            Positions in ``row_ids``, and the columns of these rows. Each row comes once.

        Raises:
            UserError: A row is missing, or a file is gone or damaged.
        """
        places = _Places.of(row_ids)
        num_found = 0
        once_each = list(dict.fromkeys([ROW_ID, *columns]))
        for table in lineage.read_tables(self.uri, self.record, self.folders, once_each):
            is_wanted, positions = places.find(table[ROW_ID].to_numpy())
            if not len(positions):
                continue
            num_found += len(positions)
            yield positions, table.filter(pa.array(is_wanted)).select(list(columns))
        if num_found < len(row_ids):
            raise UserError(
                f"{self.uri} lacks {len(row_ids) - num_found:,} of {len(row_ids):,} rows of the "
                "predictions",
                hint="sentiflow score CONFIG --overwrite scores it again",
            )

    def read_texts(self, row_ids: np.ndarray) -> Iterator[tuple[np.ndarray, pa.Array]]:
        """Read the texts of N rows, as :meth:`read` reads a column."""
        assert self.text_column, "the source has texts"
        for positions, table in self.read(row_ids, [self.text_column]):
            yield positions, one_array(table[self.text_column]).cast(pa.string())

    def take_texts(self, row_ids: np.ndarray) -> pa.Array:
        """Read the texts of some rows, each once, in their order.

        Raises:
            UserError: A row is missing, or a file is gone or damaged.
        """
        positions = [np.empty(0, np.int64)]
        texts = [pa.array([], pa.string())]
        for places, text in self.read_texts(row_ids):
            positions.append(places)
            texts.append(text)
        order = np.argsort(np.concatenate(positions))
        return pa.concat_arrays(texts).take(pa.array(order))


@dataclass(frozen=True)
class _Places:
    """Where the row ids of N rows are."""

    rising: np.ndarray
    """The row ids in rising order."""
    order: np.ndarray | None
    """Position of each of them; None if the rows are in this order."""

    @classmethod
    def of(cls, row_ids: np.ndarray) -> "_Places":
        """Sort row ids, if they are not in rising order."""
        if (row_ids[1:] > row_ids[:-1]).all():
            return cls(row_ids, None)
        order = np.argsort(row_ids)
        return cls(row_ids[order], order)

    def find(self, row_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Say which row ids are known, and return the positions of the known ones."""
        is_known, places = find_sorted(self.rising, row_ids)
        places = places[is_known]
        return is_known, places if self.order is None else self.order[places]
