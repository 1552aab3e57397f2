"""Encoded rows -> length-bucketed, padded tensors in a reproducible order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from sentiflow import storage
from sentiflow.vocabulary import PAD_ID

NUM_POOL_BATCHES = 64
"""Batches in a pool: rows are sorted by length inside a pool only, so the order stays random."""


@dataclass(frozen=True)
class EncodedRows:
    """Tweets as token ids, all in one array."""

    token_ids: np.ndarray
    """int32, the tweets' ids one after the other."""
    offsets: np.ndarray
    """N + 1 positions of the tweets' first ids, int64."""
    labels: np.ndarray
    """N int8; empty where nothing is known of labels."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Number of ids of each tweet, N int64."""
        return np.diff(self.offsets)

    @classmethod
    def from_lists(cls, token_ids: pa.ListArray, labels: np.ndarray | None = None) -> "EncodedRows":
        """View a list<int32> column, and labels beside it."""
        offsets = token_ids.offsets.to_numpy().astype(np.int64)
        values = token_ids.flatten().to_numpy()
        return cls(values, offsets - offsets[0], np.zeros(0, np.int8) if labels is None else labels)

    @classmethod
    def read(cls, uris: Sequence[str]) -> "EncodedRows":
        """Read files of ``schema.ENCODED``, in the order given."""
        tables = [storage.read_parquet(uri, columns=["label", "token_ids"]) for uri in uris]
        if not tables:
            return cls(np.zeros(0, np.int32), np.zeros(1, np.int64), np.zeros(0, np.int8))
        table = pa.concat_tables(tables).combine_chunks()
        lists = table["token_ids"].combine_chunks()
        return cls.from_lists(lists, table["label"].to_numpy().astype(np.int8))


@dataclass(frozen=True)
class Batch:
    """Padded tweets.

    Shape: (B tweets, T tokens of the longest)
        - token_ids: ``(B, T)`` int64, padded on the right with ``PAD_ID``.
        - lengths: ``(B,)`` int64, at least 1 each.
        - labels: ``(B,)`` int64, or ``(0,)``.
    """

    token_ids: torch.Tensor
    lengths: torch.Tensor
    labels: torch.Tensor


def order_batches(
    lengths: np.ndarray,
    *,
    batch_size: int,
    bucketing: str,
    drop_last: bool,
    seed: int,
    epoch: int,
) -> list[np.ndarray]:
    """Group rows into batches for one epoch, as a function of the arguments alone.

    Rows of length 0 are in no batch; every other row is in exactly one, unless ``drop_last``.

    Args:
        lengths: Of the rows.
        batch_size: Rows in a batch.
        bucketing: ``pooled`` sorts shuffled rows by length inside pools of ``NUM_POOL_BATCHES``
            batches, so that lengths in a batch are nearly equal; ``exact`` makes them equal.
        drop_last: Leave out batches that are not full.
        seed: Of the run.
        epoch: Counted from 0.

    Returns:
        Row numbers of each batch, in the order of training.
    """
    generator = np.random.default_rng([seed, epoch])
    rows = generator.permutation(len(lengths))
    rows = rows[lengths[rows] > 0]
    if bucketing == "exact":
        group = lengths[rows]
    else:
        group = np.arange(len(rows)) // (batch_size * NUM_POOL_BATCHES)
    by_group = np.lexsort((lengths[rows], group))
    rows, group = rows[by_group], group[by_group]
    batches = [
        members[start : start + batch_size]
        for members in np.split(rows, np.flatnonzero(np.diff(group)) + 1)
        for start in range(0, len(members), batch_size)
    ]
    full = [batch for batch in batches if len(batch) == batch_size or not drop_last]
    return [full[i] for i in generator.permutation(len(full)) if len(full[i])]


def order_by_length(lengths: np.ndarray, *, batch_size: int) -> list[np.ndarray]:
    """Group all rows with a token into batches of nearly equal length, for scoring."""
    rows = np.argsort(lengths, kind="stable")
    rows = rows[np.searchsorted(lengths[rows], 1) :]
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def collate(rows: EncodedRows, chosen: np.ndarray) -> Batch:
    """Pad the chosen rows, each of at least one token, to the longest of them."""
    starts, lengths = rows.offsets[chosen], rows.offsets[chosen + 1] - rows.offsets[chosen]
    padded = np.full((len(chosen), int(lengths.max())), PAD_ID, np.int64)
    filled = np.arange(padded.shape[1]) < lengths[:, None]
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1]) + np.repeat(starts - ends + lengths, lengths)
    padded[filled] = rows.token_ids[places]
    labels = rows.labels[chosen] if len(rows.labels) else rows.labels
    return Batch(
        torch.from_numpy(padded),
        torch.from_numpy(lengths),
        torch.from_numpy(labels.astype(np.int64)),
    )
