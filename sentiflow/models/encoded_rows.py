"""Encoded rows, and their batches of nearly equal length.

This module does not import torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

COLUMNS = ("row_id", "label", "token_ids", "teacher")
"""Columns that :meth:`EncodedRows.from_tables` reads; only ``schema.TAUGHT`` has ``teacher``."""
MAX_CELLS = 1 << 19
"""Limit of a batch for scoring, in tokens including padding: about 800 MB of states on a GPU."""


@dataclass(frozen=True)
class EncodedRows:
    """Tweets as token ids, in one array."""

    token_ids: np.ndarray
    """int32, the ids of all tweets, one tweet after the other."""
    offsets: np.ndarray
    """N + 1 positions of the tweets' first ids, int64."""
    labels: np.ndarray
    """N int8; empty for texts without labels."""
    row_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    """N int64; empty if they are not needed."""
    teacher: np.ndarray | None = None
    """Probability of each class that a teacher gives, (N, C) float32; None without a teacher."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of ids of each tweet, N int64."""
        return np.diff(self.offsets)

    @classmethod
    def from_lists(cls, token_ids: pa.ListArray) -> "EncodedRows":
        """Make rows without labels from a list<int32> column, without a copy of the ids."""
        offsets = token_ids.offsets.to_numpy().astype(np.int64)
        return cls(
            token_ids=token_ids.flatten().to_numpy(),
            offsets=offsets - offsets[0],
            labels=np.zeros(0, np.int8),
        )

    @classmethod
    def from_tables(cls, tables: Sequence[pa.Table]) -> "EncodedRows":
        """Join tables with ``COLUMNS``, all or none with a teacher, in the order given."""
        if not tables:
            return cls(
                token_ids=np.zeros(0, np.int32),
                offsets=np.zeros(1, np.int64),
                labels=np.zeros(0, np.int8),
            )
        table = pa.concat_tables(tables).combine_chunks()
        rows = cls.from_lists(table["token_ids"].combine_chunks())
        teacher = None
        if "teacher" in table.column_names:
            probabilities = table["teacher"].combine_chunks().flatten().to_numpy()
            teacher = probabilities.reshape(len(table), -1)
        return replace(
            rows,
            labels=table["label"].to_numpy().astype(np.int8),
            row_ids=table["row_id"].to_numpy(),
            teacher=teacher,
        )


def order_by_length(
    lengths: np.ndarray, *, batch_size: int, max_cells: int = MAX_CELLS
) -> list[np.ndarray]:
    """Group all rows with a token into batches of nearly equal length, for scoring.

    Args:
        lengths: Number of tokens of each row.
        batch_size: Maximum number of rows of a batch.
        max_cells: Maximum number of tokens of a batch, including padding.

    Returns:
        The row numbers of each batch, by ascending length.
    """
    rows = np.argsort(lengths, kind="stable")
    num_empty = np.searchsorted(lengths[rows], 1)
    rows = rows[num_empty:]
    batches = []
    while len(rows):
        next_lengths = lengths[rows[:batch_size]]
        # For a batch that ends at each of these rows: the number of its rows and of its tokens.
        num_rows = np.arange(1, len(next_lengths) + 1)
        cells = num_rows * next_lengths
        size = max(1, int(np.searchsorted(cells, max_cells, side="right")))
        batches.append(rows[:size])
        rows = rows[size:]
    return batches
