"""Encoded rows -> padded tensors of nearly equal length."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch

from sentiflow.models.vocabulary import PAD_ID

COLUMNS = ("row_id", "label", "token_ids", "teacher")
"""The columns of ``schema.ENCODED`` in :class:`EncodedRows`, and that of ``schema.TAUGHT``."""
MAX_CELLS = 1 << 19
"""Cells of a batch for scoring, with or without a token: about 800 MB of states on a GPU."""


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
        """View a list<int32> column."""
        offsets = token_ids.offsets.to_numpy().astype(np.int64)
        return cls(token_ids.flatten().to_numpy(), offsets - offsets[0], np.zeros(0, np.int8))

    @classmethod
    def from_tables(cls, tables: Sequence[pa.Table]) -> "EncodedRows":
        """Join tables with ``COLUMNS``, all or none with a teacher, in the order given."""
        if not tables:
            return cls(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int8))
        table = pa.concat_tables(tables).combine_chunks()
        rows = cls.from_lists(table["token_ids"].combine_chunks())
        labels = table["label"].to_numpy().astype(np.int8)
        teacher = None
        if "teacher" in table.column_names:
            teacher = table["teacher"].combine_chunks().flatten().to_numpy()
            teacher = teacher.reshape(len(table), -1)
        return cls(rows.token_ids, rows.offsets, labels, table["row_id"].to_numpy(), teacher)


def copy_to(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Copy a tensor from the host to a device; a GPU copies while the host goes on."""
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@dataclass(frozen=True)
class Batch:
    """Padded tweets.

    Shape: (B tweets, T tokens of the longest)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``; T is at least 1.
        - lengths: ``(B,)`` int64.
        - labels: ``(B,)`` int64, or ``(0,)``; -1 for a tweet without a label.
        - teacher: ``(B, C)`` float32, or None.
    """

    token_ids: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor
    teacher: torch.Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Copy the tensors to a device, see :func:`copy_to`."""
        tensors = (tensor for tensor in vars(self).values() if tensor is not None)
        return Batch(*(copy_to(tensor, device) for tensor in tensors))


def order_by_length(lengths: np.ndarray, *, batch_size: int) -> list[np.ndarray]:
    """Group all rows with a token into batches of nearly equal length, for scoring.

    Batches of long tweets have fewer than ``batch_size`` rows, see ``MAX_CELLS``.
    """
    rows = np.argsort(lengths, kind="stable")
    rows = rows[np.searchsorted(lengths[rows], 1) :]
    batches = []
    while len(rows):
        cells = np.arange(1, len(rows[:batch_size]) + 1) * lengths[rows[:batch_size]]
        size = max(1, int(np.searchsorted(cells, MAX_CELLS, side="right")))
        batches.append(rows[:size])
        rows = rows[size:]
    return batches


def collate(rows: EncodedRows, chosen: np.ndarray) -> Batch:
    """Pad the chosen rows to the length of the longest."""
    starts, lengths = rows.offsets[chosen], rows.offsets[chosen + 1] - rows.offsets[chosen]
    padded = np.full((len(chosen), max(1, int(lengths.max()))), PAD_ID, np.int64)
    filled = np.arange(padded.shape[1]) < lengths[:, None]
    ends = np.cumsum(lengths)
    positions = np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)
    padded[filled] = rows.token_ids[positions]
    labels = rows.labels[chosen] if len(rows.labels) else rows.labels
    return Batch(
        torch.from_numpy(padded),
        torch.from_numpy(lengths),
        torch.from_numpy(labels.astype(np.int64)),
        None if rows.teacher is None else torch.from_numpy(rows.teacher[chosen]),
    )
